from django.urls import path

from labeling.datasets import views

app_name = "datasets"
urlpatterns = [
    path("", views.dataset_list, name="list"),
    path("create", views.create, name="create"),
    path("browse", views.browse, name="browse"),
    path("<uuid:pk>", views.detail, name="detail"),
    path("<uuid:pk>/classes", views.classes, name="classes"),
    path("<uuid:pk>/members", views.members, name="members"),
    path("<uuid:pk>/settings", views.settings_page, name="settings"),
    path("<uuid:pk>/files/<uuid:file_id>", views.file_detail, name="file"),
]
