from django.urls import path
from drf_spectacular.views import SpectacularAPIView

from core.api.docs import api_docs

urlpatterns = [
    path("schema", SpectacularAPIView.as_view(), name="schema"),
    path("docs", api_docs, name="api-docs"),
]
