from django.urls import path
from rest_framework.routers import SimpleRouter

from training.api import model_views, views

router = SimpleRouter(trailing_slash=False, use_regex_path=True)
router.register("training-datasets", views.TrainingDatasetViewSet, basename="training-dataset")
router.register("models", model_views.ModelVersionViewSet, basename="model")

urlpatterns = [
    path("jobs/<uuid:job_id>/training-dataset", views.JobTrainingDatasetView.as_view(), name="job-training-dataset"),
    path("datasets/<uuid:dataset_id>/class-heads", model_views.ClassHeadsView.as_view(), name="dataset-class-heads"),
    *router.urls,
]
