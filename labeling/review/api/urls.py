from django.urls import path

from labeling.review.api import views

urlpatterns = [
    path("jobs/<uuid:job_id>/annotation-stats", views.AnnotationStatsView.as_view(), name="annotation-stats"),
    path("jobs/<uuid:job_id>/frames/batch", views.FrameBatchView.as_view(), name="frame-batch"),
    path("frames/<uuid:frame_id>", views.FrameView.as_view(), name="frame-detail"),
    path("frames/<uuid:frame_id>/<str:kind>", views.FrameMediaView.as_view(), name="frame-media"),
]
