"""Frames, detections and statistics as JSON."""

from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from labeling.jobs.models import Detection, Frame
from labeling.review import selectors
from labeling.review.filters import MAX_EXCLUSIONS
from labeling.review.services import MAX_CONFIRMED
from pipeline.stages.plan import SAM_VARIANTS

MOST_POINTS = 100


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


class PromptSerializer(serializers.Serializer[Any]):
    """What a person points at in the left image, in pixels: points, a box, or both."""

    points = serializers.ListField(
        child=serializers.ListField(child=serializers.FloatField(min_value=0), min_length=2, max_length=2),
        default=list,
        max_length=MOST_POINTS,
        help_text="[x, y] each",
    )
    labels = serializers.ListField(
        child=serializers.IntegerField(min_value=0, max_value=1),
        required=False,
        max_length=MOST_POINTS,
        help_text="1 on the object, 0 beside it; one for each point. Default: all on it",
    )
    box = serializers.ListField(
        child=serializers.FloatField(min_value=0),
        min_length=4,
        max_length=4,
        default=None,
        allow_null=True,
        help_text="[x, y, width, height]",
    )
    segmenter = serializers.CharField(max_length=40, default="auto", help_text="auto takes the best one here")
    variant = serializers.ChoiceField(choices=SAM_VARIANTS, default="tiny", help_text="Size, of those with several")

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        labels = attrs.setdefault("labels", [1] * len(attrs["points"]))
        if len(labels) != len(attrs["points"]):
            raise serializers.ValidationError({"labels": ["There must be one for each point."]})
        if not attrs["points"] and attrs["box"] is None:
            raise serializers.ValidationError({"points": ["Point at something: give points, a box, or both."]})
        if attrs["box"] is not None and min(attrs["box"][2:]) < 1:
            raise serializers.ValidationError({"box": ["It must be at least a pixel wide and high."]})
        return attrs


class ProposalSerializer(serializers.Serializer[Any]):
    mask = MaskSerializer()
    bbox = serializers.ListField(child=serializers.FloatField(), help_text="[x, y, width, height]")
    area = serializers.IntegerField()
    quality = serializers.FloatField(help_text="Expected IoU with the object that is meant")


class ProposalsSerializer(serializers.Serializer[Any]):
    segmenter = serializers.CharField(help_text="What drew them")
    embedded = serializers.BooleanField(help_text="Whether the image had to be looked at anew: the next click is quick")
    seconds = serializers.ListField(child=serializers.FloatField(), help_text="Loading, looking, deciding")
    proposals = ProposalSerializer(many=True, help_text="Best first; none where nothing stands out")


class MaskInputSerializer(serializers.Serializer[Any]):
    left = serializers.IntegerField(min_value=0, max_value=2**31 - 1)
    top = serializers.IntegerField(min_value=0, max_value=2**31 - 1)
    size = serializers.ListField(
        child=serializers.IntegerField(min_value=1, max_value=2**16), min_length=2, max_length=2
    )
    counts = serializers.CharField(max_length=4 * 1024 * 1024, trim_whitespace=False)


class DetectionCreateSerializer(serializers.Serializer[Any]):
    class_id = serializers.IntegerField(min_value=1, max_value=2**31 - 1, help_text="Number of the label class")
    mask = MaskInputSerializer()
    segmenter = serializers.CharField(max_length=40, default="", allow_blank=True, help_text="Of the proposal it was")
    quality = serializers.FloatField(min_value=0, max_value=1, default=None, allow_null=True)
