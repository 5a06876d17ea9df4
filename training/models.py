"""Training datasets: what was exported, from which frames, in which split."""

from typing import Self

from django.conf import settings
from django.db import models

from accounts.models import Role, User
from core.models import LeasedWork, TimeStampedModel, UUIDModel, VersionedModel
from labeling.jobs.models import Frame, ProcessingJob


class TrainingDatasetQuerySet(models.QuerySet["TrainingDataset"]):
    def for_user(self, user: User, role: Role = Role.VIEWER) -> Self:
        return self.filter(job__in=ProcessingJob.objects.for_user(user, role), deleted_at=None)


class TrainingDataset(UUIDModel, TimeStampedModel, VersionedModel, LeasedWork):
    """An export: frames and annotations of a job, filtered and split, written as KITTI, COCO or both."""

    class Format(models.TextChoices):
        KITTI = "kitti", "KITTI"
        COCO = "coco", "COCO"
        BOTH = "both", "KITTI and COCO"

    name = models.CharField(max_length=200)
    description = models.TextField(blank=True)
    job = models.ForeignKey(ProcessingJob, on_delete=models.CASCADE, related_name="training_datasets")
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+")
    format = models.CharField(max_length=5, choices=Format, default=Format.BOTH)
    export_config = models.JSONField(default=dict, help_text="include_masks, include_depth, include_3d_boxes, …")
    filter_config = models.JSONField(default=dict, help_text="Excluded classes, frames, annotations; least confidence")
    split_config = models.JSONField(default=dict, help_text="Ratios, seed, by_sequence")
    statistics = models.JSONField(default=dict)
    size_bytes = models.PositiveBigIntegerField(default=0)
    cursor = models.PositiveIntegerField(default=0)
    export_state = models.JSONField(default=dict, editable=False, help_text="Where the export goes on after a kill")
    deleted_at = models.DateTimeField(null=True, blank=True, editable=False)

    objects = TrainingDatasetQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at", "id"]

    def __str__(self) -> str:
        return self.name


class TrainingDatasetFrame(models.Model):
    """Frame-level lineage: which frame went into which split under which number."""

    class Split(models.TextChoices):
        TRAIN = "train"
        VAL = "val"
        TEST = "test"

    training_dataset = models.ForeignKey(TrainingDataset, on_delete=models.CASCADE, related_name="dataset_frames")
    frame = models.ForeignKey(Frame, on_delete=models.CASCADE, related_name="+")
    split = models.CharField(max_length=5, choices=Split)
    number = models.PositiveIntegerField(help_text="Counts from 0 within the split; names the files")
    annotation_count = models.PositiveIntegerField(default=0)

    class Meta:
        ordering = ["split", "number"]
        constraints = [
            models.UniqueConstraint(fields=["training_dataset", "frame"], name="training_frame_unique"),
            models.UniqueConstraint(fields=["training_dataset", "split", "number"], name="training_number_unique"),
        ]

    def __str__(self) -> str:
        return f"{self.split} {self.number}"
