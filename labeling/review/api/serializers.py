"""Frames, detections and statistics as JSON."""

from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from labeling.jobs.models import Detection, Frame
from labeling.review import selectors
from labeling.review.filters import MAX_EXCLUSIONS
from labeling.review.services import MAX_CONFIRMED


class AnnotationFilterSerializer(serializers.Serializer[Any]):
    excluded_class_ids = serializers.ListField(
        child=serializers.IntegerField(min_value=0), required=False, max_length=10_000
    )
    excluded_annotation_ids = serializers.ListField(
        child=serializers.IntegerField(min_value=0, max_value=2**63 - 1), required=False, max_length=MAX_EXCLUSIONS
    )
    excluded_frame_ids = serializers.ListField(child=serializers.UUIDField(), required=False, max_length=MAX_EXCLUSIONS)
    min_confidence = serializers.FloatField(min_value=0, max_value=1, required=False)


class ClassStatisticsSerializer(serializers.Serializer[Any]):
    class_id = serializers.IntegerField()
    class_name = serializers.CharField()
    color = serializers.CharField()
    total_count = serializers.IntegerField(help_text="Detections of the class")
    frame_count = serializers.IntegerField(help_text="Frames that contain it")
    average_confidence = serializers.FloatField()
    min_confidence = serializers.FloatField()
    max_confidence = serializers.FloatField()


class AnnotationStatsSerializer(serializers.Serializer[Any]):
    classes = ClassStatisticsSerializer(many=True)
    total_annotations = serializers.IntegerField()
    total_frames = serializers.IntegerField()


class MaskSerializer(serializers.Serializer[Any]):
    left = serializers.IntegerField(help_text="Column of the frame where the mask's rectangle begins")
    top = serializers.IntegerField()
    size = serializers.ListField(child=serializers.IntegerField(), help_text="[height, width] of the rectangle")
    counts = serializers.CharField(help_text="COCO compressed RLE of the rectangle")


class Box3DSerializer(serializers.Serializer[Any]):
    location = serializers.ListField(
        child=serializers.FloatField(), help_text="Centre of the bottom face, rectified left camera, metres"
    )
    dimensions_hwl = serializers.ListField(child=serializers.FloatField(), help_text="Metres")
    rotation_y = serializers.FloatField(help_text="Radians about `down`")
    down = serializers.ListField(
        child=serializers.FloatField(),
        allow_null=True,
        help_text="Unit vector in the camera's axes along which the box stands, from the IMU; null: +Y",
    )
    sigma = serializers.ListField(
        child=serializers.FloatField(),
        allow_null=True,
        help_text="Standard deviations of x, y, z, height, width, length (metres) and rotation (radians)",
    )
    points_used = serializers.IntegerField()


class DetectionSerializer(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    camera = serializers.CharField()
    instance = serializers.IntegerField()
    class_id = serializers.IntegerField()
    class_name = serializers.CharField()
    color = serializers.CharField()
    confidence = serializers.FloatField()
    bbox = serializers.ListField(child=serializers.FloatField(), help_text="[x, y, width, height] in pixels")
    area = serializers.IntegerField()
    mask = MaskSerializer(allow_null=True)
    box_3d = Box3DSerializer(allow_null=True)
    truncated = serializers.FloatField()
    occluded = serializers.IntegerField()
    track_id = serializers.IntegerField(allow_null=True)
    top_predictions = serializers.ListField(child=serializers.DictField())
    quality = serializers.FloatField(allow_null=True, help_text="Expected IoU of the mask, as the segmenter sees it")
    stability = serializers.FloatField(allow_null=True, help_text="IoU of the masks cut a little tighter and wider")
    margin = serializers.FloatField(allow_null=True, help_text="Best class probability minus the second best")
    agreement = serializers.FloatField(allow_null=True, help_text="IoU with the mask found in the mirrored image")
    source = serializers.ChoiceField(choices=Detection.Source.choices)
    prompted_segmenter = serializers.CharField(help_text="What drew a mask that a person asked for; else empty")
    confirmed = serializers.BooleanField(help_text="A person vouched for the class")
    version = serializers.IntegerField()


class FrameMediaSerializer(serializers.Serializer[Any]):
    left = serializers.CharField()
    right = serializers.CharField(allow_null=True)
    depth = serializers.CharField(allow_null=True)
    uncertainty = serializers.CharField(allow_null=True)
    thumbnail = serializers.CharField()


class FrameSerializer(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    job = serializers.UUIDField()
    sequence = serializers.UUIDField()
    sequence_name = serializers.CharField()
    number = serializers.IntegerField()
    source_index = serializers.IntegerField()
    timestamp_ns = serializers.IntegerField()
    width = serializers.IntegerField()
    height = serializers.IntegerField()
    dhash = serializers.CharField()
    motion_score = serializers.FloatField()
    depth_coverage = serializers.FloatField()
    uncertainty = serializers.FloatField(allow_null=True, help_text="Mean of its uncertainty map, 0 to 1")
    processing_time = serializers.FloatField()
    version = serializers.IntegerField()
    media = FrameMediaSerializer()
    detections = DetectionSerializer(many=True)


class FrameEntrySerializer(serializers.ModelSerializer[Frame]):
    """A frame in a list, without its detections."""

    sequence_name = serializers.CharField(source="sequence.name")
    detection_count = serializers.IntegerField()
    confirmed_count = serializers.IntegerField(help_text="Detections whose class a person confirmed")
    media = serializers.SerializerMethodField()

    class Meta:
        model = Frame
        fields = (
            "id",
            "sequence",
            "sequence_name",
            "number",
            "timestamp_ns",
            "uncertainty",
            "motion_score",
            "depth_coverage",
            "detection_count",
            "confirmed_count",
            "media",
        )
        read_only_fields = fields

    @extend_schema_field(FrameMediaSerializer)
    def get_media(self, row: Frame) -> dict[str, Any]:
        media: dict[str, Any] = selectors.frame_json(row)["media"]
        return media


class FramePageSerializer(serializers.Serializer[Any]):
    next = serializers.CharField(allow_null=True)
    previous = serializers.CharField(allow_null=True, help_text="Always null: pages go forward")
    results = FrameSerializer(many=True)


class DetectionChangeSerializer(serializers.Serializer[Any]):
    """What a person says of a detection: its class, and whether they vouch for it."""

    class_id = serializers.IntegerField(
        min_value=1, max_value=2**31 - 1, required=False, help_text="Number of the label class; default: as it is"
    )
    confirmed = serializers.BooleanField(default=True, help_text="false takes a confirmation back")


class ConfirmationSerializer(serializers.Serializer[Any]):
    id = serializers.IntegerField(min_value=1, max_value=2**63 - 1)
    version = serializers.IntegerField(
        min_value=1, max_value=2**31 - 1, required=False, help_text="If given, a detection of another version stays"
    )
    class_id = serializers.IntegerField(min_value=1, max_value=2**31 - 1, required=False)
    confirmed = serializers.BooleanField(default=True)


class BulkConfirmSerializer(serializers.Serializer[Any]):
    detections = ConfirmationSerializer(many=True, allow_empty=False, max_length=MAX_CONFIRMED)


class ConfirmationResultSerializer(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    status = serializers.IntegerField(help_text="As if it had been sent alone: 200, 400, 404, 409 or 412")
    detail = serializers.CharField(help_text="Why it was refused; else empty")
    detection = DetectionSerializer(allow_null=True, help_text="As it is now; null if it does not exist")


class BulkConfirmedSerializer(serializers.Serializer[Any]):
    results = ConfirmationResultSerializer(many=True, help_text="In the order of the request")
    confirmed = serializers.IntegerField(help_text="How many were done")
