"""Training datasets and model versions in Django admin."""

from django.contrib import admin

from core.admin import ReadOnlyAdmin, StaffModelAdmin
from training.models import ModelVersion, TrainingDataset, TrainingDatasetFrame


@admin.register(TrainingDataset)
class TrainingDatasetAdmin(StaffModelAdmin):
    editable_fields = ("name", "description")
    list_display = (
        "name",
        "job",
        "format",
        "status",
        "progress",
        "size_bytes",
        "created_by",
        "created_at",
        "deleted_at",
    )
    search_fields = ("id__exact", "name")
    ordering = ("-created_at",)


@admin.register(TrainingDatasetFrame)
class TrainingDatasetFrameAdmin(ReadOnlyAdmin):
    list_display = ("id", "training_dataset", "frame", "split", "number", "annotation_count")
    search_fields = ("training_dataset__id__exact", "frame__id__exact")


@admin.register(ModelVersion)
class ModelVersionAdmin(StaffModelAdmin):
    editable_fields = ("name",)
    list_display = (
        "name",
        "dataset",
        "number",
        "task",
        "status",
        "label_count",
        "active",
        "created_by",
        "trained_at",
        "deleted_at",
    )
    search_fields = ("id__exact", "dataset__id__exact", "checkpoint_sha256__exact", "name")
    ordering = ("-created_at",)
