from django.urls import path

from labeling.review import views

app_name = "review"
urlpatterns = [
    path("<uuid:job_id>/", views.job, name="job"),
    path("frames/<uuid:frame_id>/thumbnail", views.thumbnail, name="thumbnail"),
]
