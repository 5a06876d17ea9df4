from django.urls import path

from training import views

app_name = "training"
urlpatterns = [
    path("", views.training_dataset_list, name="list"),
    path("create", views.create, name="create"),
    path("<uuid:pk>", views.detail, name="detail"),
    path("<uuid:pk>/download/<str:choice>", views.download, name="download"),
    path("<uuid:pk>/<str:verb>", views.move, name="move"),
]
