from django.urls import path

from training import model_views

app_name = "models"
urlpatterns = [
    path("", model_views.model_list, name="list"),
    path("train/datasets/<uuid:dataset_id>", model_views.model_train, name="train"),
    path("<uuid:pk>", model_views.model_detail, name="detail"),
    path("<uuid:pk>/<str:verb>", model_views.model_move, name="move"),
]
