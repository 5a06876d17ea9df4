"""Model versions, and what a class head could learn from, as JSON."""

from typing import Any

from rest_framework import serializers

from core.work import allowed_actions
from training.models import ModelVersion


class ModelVersionSerializer(serializers.ModelSerializer[ModelVersion]):
    """Without the measurements in full: read one model to see them."""

    dataset_name = serializers.CharField(source="dataset.name", read_only=True)
    accuracy = serializers.SerializerMethodField(help_text="On labels held back, 0 to 1; null: too few labels")
    ece = serializers.SerializerMethodField(help_text="Expected calibration error on labels held back")
    actions = serializers.SerializerMethodField(help_text="What may be done with its training now")

    class Meta:
        model = ModelVersion
        fields = [
            "id",
            "dataset",
            "dataset_name",
            "number",
            "name",
            "task",
            "baseline_model",
            "parent",
            "label_count",
            "accuracy",
            "ece",
            "active",
            "checkpoint_sha256",
            "code_version",
            "status",
            "progress",
            "message",
            "error",
            "actions",
            "created_at",
            "trained_at",
            "version",
        ]
        read_only_fields = fields

    def get_accuracy(self, row: ModelVersion) -> float | None:
        return (row.metrics.get("metrics") or {}).get("accuracy")

    def get_ece(self, row: ModelVersion) -> float | None:
        return (row.metrics.get("metrics") or {}).get("ece")

    def get_actions(self, row: ModelVersion) -> list[str]:
        return allowed_actions(row)


class ModelVersionDetailSerializer(ModelVersionSerializer):
    """With its measurements: accuracy, calibration error, reliability bins, precision and recall per class."""

    metrics = serializers.DictField(help_text="As pipeline.classification.head describes its `meta`")

    class Meta(ModelVersionSerializer.Meta):
        fields = [*ModelVersionSerializer.Meta.fields, "metrics"]
        read_only_fields = fields


class ModelVersionChangeSerializer(serializers.ModelSerializer[ModelVersion]):
    class Meta:
        model = ModelVersion
        fields = ["name"]


class ClassHeadCreateSerializer(serializers.Serializer[Any]):
    name = serializers.CharField(max_length=200, required=False, allow_blank=True, help_text="Default: by its number")


class ClassLabelsSerializer(serializers.Serializer[Any]):
    class_id = serializers.IntegerField()
    class_name = serializers.CharField()
    color = serializers.CharField()
    labels = serializers.IntegerField(help_text="Detections of the class that people confirmed")
    new_labels = serializers.IntegerField(help_text="Those since the newest version was begun")


class ClassHeadOverviewSerializer(serializers.Serializer[Any]):
    labels = serializers.IntegerField()
    new_labels = serializers.IntegerField()
    retrain = serializers.BooleanField(help_text="Enough is new to be worth training again, and nothing is under way")
    classes = ClassLabelsSerializer(many=True)
    active = ModelVersionSerializer(allow_null=True)
    training = ModelVersionSerializer(allow_null=True, help_text="The version under way")
