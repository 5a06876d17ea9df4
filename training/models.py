"""What models learn from, and the models: training datasets with their frames, model versions."""

from typing import Self

from django.conf import settings
from django.db import models
from django.db.models import Q

from accounts.models import Role, User
from core.models import LeasedWork, TimeStampedModel, UUIDModel, VersionedModel
from labeling.datasets.models import Dataset
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


class ModelVersionQuerySet(models.QuerySet["ModelVersion"]):
    def for_user(self, user: User, role: Role = Role.VIEWER) -> Self:
        return self.filter(dataset__in=Dataset.objects.for_user(user, role), deleted_at=None)


class ModelVersion(UUIDModel, TimeStampedModel, VersionedModel, LeasedWork):
    """A model that was trained for a dataset, or is being trained: numbered, measured, at most one active per task."""

    class Task(models.TextChoices):
        CLASS_HEAD = "class_head", "Class head"

    dataset = models.ForeignKey(Dataset, on_delete=models.CASCADE, related_name="model_versions")
    number = models.PositiveIntegerField(help_text="Counts from 1 within the dataset; never given twice")
    name = models.CharField(max_length=200)
    task = models.CharField(max_length=20, choices=Task, default=Task.CLASS_HEAD)
    baseline_model = models.CharField(max_length=120, blank=True, help_text="What it stands on, such as its features")
    parent = models.ForeignKey("self", null=True, blank=True, on_delete=models.SET_NULL, related_name="children")
    label_count = models.PositiveIntegerField(default=0, help_text="Confirmed labels it learned from")
    metrics = models.JSONField(default=dict, help_text="As the training measured them, on labels held back")
    checkpoint = models.CharField(max_length=1000, blank=True, editable=False)
    checkpoint_sha256 = models.CharField(max_length=64, blank=True, editable=False)
    code_version = models.CharField(max_length=60, blank=True)
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+")
    trained_at = models.DateTimeField(null=True, blank=True)
    active = models.BooleanField(default=False, help_text="New jobs of the dataset use it")
    deleted_at = models.DateTimeField(null=True, blank=True, editable=False)

    objects = ModelVersionQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at", "id"]
        constraints = [
            models.UniqueConstraint(fields=["dataset", "number"], name="model_number_unique"),
            models.UniqueConstraint(
                fields=["dataset", "task"], condition=Q(active=True), name="model_active_once_per_task"
            ),
            models.CheckConstraint(
                condition=Q(active=False) | Q(trained_at__isnull=False, deleted_at=None), name="model_active_is_trained"
            ),
        ]

    def __str__(self) -> str:
        return self.name
