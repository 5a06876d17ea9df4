"""Shapes of the API's data; rules live in the services."""

from typing import Any

from rest_framework import serializers

from accounts.models import Role
from core.paths import resolve_allowed
from core.work import allowed_actions
from labeling.datasets.models import Calibration, Dataset, DatasetFile, LabelClass, Membership, Operation, Upload
from labeling.datasets.naming import DEFAULT_PATTERN, check_pattern


class PersonSerializer(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    name = serializers.CharField(source="get_short_name")
    email = serializers.EmailField()


class LabelClassSerializer(serializers.ModelSerializer[LabelClass]):
    class Meta:
        model = LabelClass
        fields = [
            "id",
            "number",
            "name",
            "color",
            "shortcut",
            "text_prompt",
            "height_m",
            "width_m",
            "length_m",
            "attributes",
        ]
        read_only_fields = ["id", "number"]
        extra_kwargs = {"color": {"required": False}}

    def validate_color(self, value: str) -> str:
        return value.lower()

    def validate_attributes(self, value: Any) -> Any:
        if not isinstance(value, dict):
            raise serializers.ValidationError("Attributes are an object of names and their settings.")
        return value

    def to_internal_value(self, data: Any) -> Any:
        # The model's validator knows lower case only; a person may write #FF8800.
        if isinstance(data, dict) and isinstance(data.get("color"), str):
            data = {**data, "color": data["color"].lower()}
        return super().to_internal_value(data)


class DatasetSerializer(serializers.ModelSerializer[Dataset]):
    role = serializers.ChoiceField(choices=Role.choices, read_only=True, help_text="Yours")
    file_count = serializers.IntegerField(read_only=True)
    ready_count = serializers.IntegerField(read_only=True)
    broken_count = serializers.IntegerField(read_only=True)
    frame_count = serializers.IntegerField(read_only=True)
    size_bytes = serializers.IntegerField(read_only=True)
    class_count = serializers.IntegerField(read_only=True)
    member_count = serializers.IntegerField(read_only=True)
    created_by = PersonSerializer(read_only=True, allow_null=True)

    class Meta:
        model = Dataset
        fields = [
            "id",
            "name",
            "description",
            "source_folder",
            "role",
            "file_count",
            "ready_count",
            "broken_count",
            "frame_count",
            "size_bytes",
            "class_count",
            "member_count",
            "created_by",
            "created_at",
            "updated_at",
            "version",
        ]
        read_only_fields = ["id", "created_at", "updated_at", "version"]

    def validate_source_folder(self, value: str) -> str:
        if not value:
            return ""
        folder = resolve_allowed(value, field="source_folder")
        if not folder.is_dir():
            raise serializers.ValidationError(f"{value} is not a folder.")
        return str(folder)


class DatasetCreateSerializer(DatasetSerializer):
    classes = LabelClassSerializer(many=True, required=False, write_only=True, max_length=500)

    class Meta(DatasetSerializer.Meta):
        fields = [*DatasetSerializer.Meta.fields, "classes"]


class MembershipSerializer(serializers.ModelSerializer[Membership]):
    user = PersonSerializer(read_only=True)

    class Meta:
        model = Membership
        fields = ["id", "user", "role", "created_at"]
        read_only_fields = ["id", "created_at"]


class MemberCreateSerializer(serializers.Serializer[Any]):
    email = serializers.EmailField(help_text="Of someone who has an account")
    role = serializers.ChoiceField(choices=Role.choices)


class CalibrationSerializer(serializers.ModelSerializer[Calibration]):
    file_count = serializers.IntegerField(read_only=True, default=0)

    class Meta:
        model = Calibration
        fields = ["id", "serial", "source", "format", "sha256", "baseline_m", "parameters", "file_count", "created_at"]
        read_only_fields = fields


class CalibrationUploadSerializer(serializers.Serializer[Any]):
    file = serializers.FileField(help_text="SN*.conf (ZED), calib.txt (KITTI) or .json, up to 1 MB")
    serial = serializers.CharField(required=False, allow_blank=True, max_length=60, default="")


class DatasetFileSerializer(serializers.ModelSerializer[DatasetFile]):
    duplicate_of = serializers.PrimaryKeyRelatedField[DatasetFile](read_only=True)
    calibration = serializers.PrimaryKeyRelatedField[Calibration](
        queryset=Calibration.objects.none(), allow_null=True, required=False
    )

    class Meta:
        model = DatasetFile
        fields = [
            "id",
            "name",
            "path",
            "original_path",
            "kind",
            "status",
            "error",
            "warnings",
            "size_bytes",
            "sha256",
            "camera_model",
            "camera_serial",
            "width",
            "height",
            "fps",
            "frame_count",
            "duration_s",
            "codec",
            "stereo",
            "imu_count",
            "calibration",
            "metric",
            "duplicate_of",
            "prepared_at",
            "created_at",
            "updated_at",
            "version",
        ]
        read_only_fields = [name for name in fields if name != "calibration"]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if dataset := self.context.get("dataset"):
            self.fields["calibration"].queryset = dataset.calibrations.all()  # type: ignore[attr-defined]


class OperationSerializer(serializers.ModelSerializer[Operation]):
    actions = serializers.SerializerMethodField()
    dataset = serializers.PrimaryKeyRelatedField[Dataset](read_only=True)

    class Meta:
        model = Operation
        fields = [
            "id",
            "dataset",
            "kind",
            "status",
            "progress",
            "message",
            "error",
            "cursor",
            "total",
            "parameters",
            "result",
            "actions",
            "event_seq",
            "created_at",
            "started_at",
            "finished_at",
        ]
        read_only_fields = fields

    def get_actions(self, operation: Operation) -> list[str]:
        return [verb for verb in allowed_actions(operation) if verb != "start"]


class ScanSerializer(serializers.Serializer[Any]):
    path = serializers.CharField(required=False, allow_blank=True, max_length=4000, help_text="Default: source_folder")


class PrepareSerializer(serializers.Serializer[Any]):
    mode = serializers.ChoiceField(
        choices=["copy", "link", "register"],
        default="copy",
        help_text="Copy the recordings, link them (hard or symbolic), or only register them where they lie",
    )
    rename = serializers.CharField(
        default=DEFAULT_PATTERN,
        max_length=100,
        help_text="Of {name} {number:04d} {serial} {kind} {date} {dataset}; the suffix is kept",
    )
    file_ids = serializers.ListField(
        child=serializers.UUIDField(), required=False, max_length=10_000, help_text="Default: all that are readable"
    )

    def validate_rename(self, value: str) -> str:
        return check_pattern(value)


class BrowseEntrySerializer(serializers.Serializer[Any]):
    name = serializers.CharField()
    path = serializers.CharField()
    type = serializers.ChoiceField(choices=["folder", "recording"])
    kind = serializers.CharField(help_text="Empty for a folder")
    size_bytes = serializers.IntegerField()
    modified_at = serializers.DateTimeField()


class BrowseSerializer(serializers.Serializer[Any]):
    path = serializers.CharField(help_text="Empty: these are the roots")
    parent = serializers.CharField(allow_null=True, help_text="Empty: the roots; null: there is nothing above")
    roots = serializers.ListField(child=serializers.CharField())
    entries = BrowseEntrySerializer(many=True)
    truncated = serializers.BooleanField(help_text="There was more than is listed")


class FrameCountSerializer(serializers.Serializer[Any]):
    path = serializers.CharField()
    frame_count = serializers.IntegerField(help_text="Frames that can be decoded")
    truncated = serializers.BooleanField()


class RecordingMetadataSerializer(serializers.Serializer[Any]):
    path = serializers.CharField()
    kind = serializers.CharField()
    frame_count = serializers.IntegerField()
    width = serializers.IntegerField(help_text="Of one eye")
    height = serializers.IntegerField()
    fps = serializers.FloatField(allow_null=True)
    duration_s = serializers.FloatField(allow_null=True)
    stereo = serializers.BooleanField()
    codec = serializers.CharField()
    camera_model = serializers.CharField()
    camera_serial = serializers.CharField()
    imu_count = serializers.IntegerField()
    truncated = serializers.BooleanField()
    warnings = serializers.ListField(child=serializers.CharField())
    metric = serializers.BooleanField(help_text="A calibration was found")
    calibration = serializers.DictField(allow_null=True)
    extra = serializers.DictField()


class ValidateSerializer(serializers.Serializer[Any]):
    paths = serializers.ListField(child=serializers.CharField(max_length=4000), min_length=1, max_length=200)


class ValidatedSerializer(serializers.Serializer[Any]):
    path = serializers.CharField()
    ok = serializers.BooleanField()
    kind = serializers.CharField()
    frame_count = serializers.IntegerField(allow_null=True)
    truncated = serializers.BooleanField()
    metric = serializers.BooleanField()
    warnings = serializers.ListField(child=serializers.CharField())
    error = serializers.CharField(help_text="Empty if the recording can be read")
    code = serializers.CharField()


class ValidationResultSerializer(serializers.Serializer[Any]):
    results = ValidatedSerializer(many=True)


class UploadSerializer(serializers.ModelSerializer[Upload]):
    url = serializers.SerializerMethodField()
    file = serializers.PrimaryKeyRelatedField[DatasetFile](read_only=True)

    class Meta:
        model = Upload
        fields = ["id", "url", "filename", "length", "offset", "file", "created_at", "updated_at", "finished_at"]
        read_only_fields = fields

    def get_url(self, upload: Upload) -> str:
        return f"/api/v1/datasets/{upload.dataset_id}/uploads/{upload.pk}"
