from django.urls import path

from labeling.jobs import views

app_name = "jobs"
urlpatterns = [
    path("", views.job_list, name="list"),
    path("create", views.job_create, name="create"),
    path("<uuid:pk>", views.job_detail, name="detail"),
    path("<uuid:pk>/rename", views.job_rename, name="rename"),
    path("<uuid:pk>/delete", views.job_delete, name="delete"),
    path("<uuid:pk>/<str:verb>", views.job_move, name="move"),
]
