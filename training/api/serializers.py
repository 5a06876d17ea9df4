"""Training datasets as JSON."""

from typing import Any

from rest_framework import serializers

from core.work import allowed_actions
from labeling.review.api.serializers import AnnotationFilterSerializer
from labeling.review.filters import AnnotationFilter
from training.formats.base import SEGMENTATIONS
from training.formats.splits import UNITS
from training.models import TrainingDataset


class TrainingDatasetSerializer(serializers.ModelSerializer[TrainingDataset]):
    """Without the filter, which may name a great many ids: read one training dataset to see it."""

    job_name = serializers.CharField(source="job.name", read_only=True)
    dataset = serializers.UUIDField(source="job.dataset_id", read_only=True, allow_null=True)
    actions = serializers.SerializerMethodField(help_text="What may be done with the export now")

    class Meta:
        model = TrainingDataset
        fields = [
            "id",
            "name",
            "description",
            "job",
            "job_name",
            "dataset",
            "format",
            "export_config",
            "split_config",
            "statistics",
            "size_bytes",
            "status",
            "progress",
            "message",
            "error",
            "actions",
            "created_at",
            "started_at",
            "finished_at",
            "version",
        ]

    def get_actions(self, row: TrainingDataset) -> list[str]:
        return allowed_actions(row)


class TrainingDatasetDetailSerializer(TrainingDatasetSerializer):
    class Meta(TrainingDatasetSerializer.Meta):
        fields = [*TrainingDatasetSerializer.Meta.fields, "filter_config"]


class TrainingDatasetChangeSerializer(serializers.ModelSerializer[TrainingDataset]):
    class Meta:
        model = TrainingDataset
        fields = ["name", "description"]


class TrainingDatasetStatusSerializer(serializers.ModelSerializer[TrainingDataset]):
    actions = serializers.SerializerMethodField()
    total = serializers.SerializerMethodField(help_text="Frames to write; 0 until they are divided")

    class Meta:
        model = TrainingDataset
        fields = [
            "id",
            "status",
            "progress",
            "message",
            "error",
            "cursor",
            "total",
            "actions",
            "started_at",
            "finished_at",
        ]

    def get_actions(self, row: TrainingDataset) -> list[str]:
        return allowed_actions(row)

    def get_total(self, row: TrainingDataset) -> int:
        return int(row.export_state.get("total", 0))


class TrainingDatasetCreateSerializer(serializers.Serializer[Any]):
    name = serializers.CharField(max_length=200, required=False, allow_blank=True, help_text="Default: the job's name")
    description = serializers.CharField(required=False, allow_blank=True, max_length=10_000)
    format = serializers.ChoiceField(choices=TrainingDataset.Format.choices, default=TrainingDataset.Format.BOTH)
    train_ratio = serializers.FloatField(default=0.7)
    val_ratio = serializers.FloatField(default=0.2)
    test_ratio = serializers.FloatField(default=0.1)
    seed = serializers.IntegerField(default=0, min_value=-(2**53), max_value=2**53)
    split_by = serializers.ChoiceField(choices=UNITS, default="frame")
    include_masks = serializers.BooleanField(default=True)
    include_depth = serializers.BooleanField(default=True)
    include_3d_boxes = serializers.BooleanField(default=True)
    include_velodyne = serializers.BooleanField(default=False)
    segmentation = serializers.ChoiceField(choices=SEGMENTATIONS, default="rle", help_text="How COCO holds masks")
    filters = AnnotationFilterSerializer(required=False)

    def validated_filter(self) -> AnnotationFilter:
        return AnnotationFilter.from_json(self.validated_data.get("filters", {}))
