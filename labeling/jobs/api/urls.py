from django.urls import path

from labeling.jobs import services
from labeling.jobs.api import views

job = views.JobViewSet.as_view

urlpatterns = [
    path("jobs", job({"get": "list"}), name="job-list"),
    path("jobs/create", job({"post": "create"}), name="job-create"),
    path(
        "jobs/<uuid:pk>",
        job({"get": "retrieve", "patch": "partial_update", "delete": "destroy"}),
        name="job-detail",
    ),
    *(path(f"jobs/<uuid:pk>/{verb}", job({"post": verb}), name=f"job-{verb}") for verb in services.VERBS),
    path("jobs/<uuid:pk>/log", views.LogViewSet.as_view({"get": "list"}), name="job-log"),
    path("segmenters", views.SegmentersView.as_view(), name="segmenter-list"),
]
