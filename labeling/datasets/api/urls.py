from django.urls import path, re_path

from labeling.datasets.api import file_views, upload_views, views

ONE = {"get": "retrieve", "patch": "partial_update", "delete": "destroy"}
PARTS = {"get": "list", "post": "create"}
PART = {"patch": "partial_update", "delete": "destroy"}

dataset = views.DatasetViewSet.as_view
member = views.MemberViewSet.as_view
label_class = views.LabelClassViewSet.as_view
calibration = views.CalibrationViewSet.as_view
operation = views.OperationViewSet.as_view
upload = upload_views.UploadViewSet.as_view

urlpatterns = [
    path("files/browse", file_views.BrowseView.as_view(), name="file-browse"),
    path("files/frame-count", file_views.FrameCountView.as_view(), name="file-frame-count"),
    re_path(r"^files/metadata/(?P<path>.+)$", file_views.MetadataView.as_view(), name="file-metadata"),
    path("files/validate", file_views.ValidateView.as_view(), name="file-validate"),
    path("datasets", dataset({"get": "list", "post": "create"}), name="dataset-list"),
    path("datasets/<uuid:pk>", dataset(ONE), name="dataset-detail"),
    path("datasets/<uuid:pk>/leave", dataset({"post": "leave"}), name="dataset-leave"),
    path("datasets/<uuid:pk>/scan", dataset({"post": "scan"}), name="dataset-scan"),
    path("datasets/<uuid:pk>/prepare", dataset({"post": "prepare"}), name="dataset-prepare"),
    path("datasets/<uuid:dataset_id>/members", member(PARTS), name="member-list"),
    path("datasets/<uuid:dataset_id>/members/<int:pk>", member(PART), name="member-detail"),
    path("datasets/<uuid:dataset_id>/classes", label_class(PARTS), name="label-class-list"),
    path("datasets/<uuid:dataset_id>/classes/<int:pk>", label_class(PART), name="label-class-detail"),
    path(
        "datasets/<uuid:dataset_id>/files", views.DatasetFileViewSet.as_view({"get": "list"}), name="dataset-file-list"
    ),
    path(
        "datasets/<uuid:dataset_id>/files/<uuid:pk>", views.DatasetFileViewSet.as_view(ONE), name="dataset-file-detail"
    ),
    path("datasets/<uuid:dataset_id>/calibrations", calibration(PARTS), name="calibration-list"),
    path(
        "datasets/<uuid:dataset_id>/calibrations/<uuid:pk>",
        calibration({"get": "retrieve", "delete": "destroy"}),
        name="calibration-detail",
    ),
    path("datasets/<uuid:dataset_id>/uploads", upload(PARTS), name="upload-list"),
    path(
        "datasets/<uuid:dataset_id>/uploads/<uuid:pk>",
        upload({"head": "offset", "patch": "append", "delete": "terminate"}),
        name="upload-detail",
    ),
    path("operations", operation({"get": "list"}), name="operation-list"),
    path("operations/<uuid:pk>", operation({"get": "retrieve"}), name="operation-detail"),
    *(
        path(f"operations/<uuid:pk>/{verb}", operation({"post": verb}), name=f"operation-{verb}")
        for verb in ("pause", "resume", "cancel", "restart")
    ),
]
