"""Training datasets in Django admin."""

from django.contrib import admin

from core.admin import ReadOnlyAdmin, StaffModelAdmin
from training.models import TrainingDataset, TrainingDatasetFrame


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
