from django.urls import path
from rest_framework.routers import SimpleRouter

from training.api import views

router = SimpleRouter(trailing_slash=False, use_regex_path=True)
router.register("training-datasets", views.TrainingDatasetViewSet, basename="training-dataset")

urlpatterns = [
    path("jobs/<uuid:job_id>/training-dataset", views.JobTrainingDatasetView.as_view(), name="job-training-dataset"),
    *router.urls,
]
