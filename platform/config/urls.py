"""Every address: pages at the root, the API under /api/v1/, Django admin under /admin/."""

from django.contrib import admin
from django.urls import include, path

from config.views import home
from core import views

urlpatterns = [
    path("", home, name="home"),
    path("healthz", views.healthz, name="healthz"),
    path("accounts/", include("accounts.urls")),
    path("datasets/", include("labeling.datasets.urls")),
    path("jobs/", include("labeling.jobs.urls")),
    path("review/", include("labeling.review.urls")),
    path("training-datasets/", include("training.urls")),
    path("models/", include("training.model_urls")),
    path("api/v1/", include("config.api_urls")),
    path("admin/", admin.site.urls),
]
handler400 = "core.views.bad_request"
handler403 = "core.views.forbidden"
handler404 = "core.views.not_found"
handler500 = "core.views.server_error"
