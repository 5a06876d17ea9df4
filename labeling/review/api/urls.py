from django.urls import path

from labeling.review.api import detection_views, frame_list, views

urlpatterns = [
    path("jobs/<uuid:job_id>/annotation-stats", views.AnnotationStatsView.as_view(), name="annotation-stats"),
    path("jobs/<uuid:job_id>/frames", frame_list.FrameListViewSet.as_view({"get": "list"}), name="frame-list"),
    path("jobs/<uuid:job_id>/frames/batch", views.FrameBatchView.as_view(), name="frame-batch"),
    path("jobs/<uuid:job_id>/detections/confirm", detection_views.ConfirmView.as_view(), name="detection-confirm"),
    path(
        "detections/<int:pk>",
        detection_views.DetectionViewSet.as_view({"get": "retrieve", "patch": "partial_update", "delete": "destroy"}),
        name="detection-detail",
    ),
    path("frames/<uuid:frame_id>", views.FrameView.as_view(), name="frame-detail"),
    path("frames/<uuid:frame_id>/masks", detection_views.MasksView.as_view(), name="frame-masks"),
    path("frames/<uuid:frame_id>/detections", detection_views.FrameDetectionsView.as_view(), name="frame-detections"),
    path("frames/<uuid:frame_id>/<str:kind>", views.FrameMediaView.as_view(), name="frame-media"),
]
