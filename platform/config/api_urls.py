"""The REST API, version 1. No trailing slashes."""

from django.urls import include, path

urlpatterns = [
    path("", include("core.api.urls")),
    path("", include("accounts.api.urls")),
    path("", include("labeling.datasets.api.urls")),
    path("", include("labeling.jobs.api.urls")),
    path("", include("labeling.review.api.urls")),
    path("", include("training.api.urls")),
]
