"""Jobs over recordings, and what they find: sequences, frames, detections, tracks."""

from typing import Any, Self

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils import timezone

from accounts.models import Role, User
from core.models import LeasedWork, TimeStampedModel, UUIDModel, VersionedModel, WorkStatus
from labeling.datasets.models import Calibration, Dataset, DatasetFile, LabelClass, Membership


class JobQuerySet(models.QuerySet["ProcessingJob"]):
    def for_user(self, user: User, role: Role = Role.VIEWER) -> Self:
        """Jobs of datasets in which `user` has at least `role`, and the user's own jobs on files without a dataset."""
        memberships = Membership.objects.filter(user=user, role__in=Role.at_least(role))
        return self.filter(
            Q(dataset__in=memberships.values("dataset"), dataset__deleted_at=None) | Q(dataset=None, created_by=user),
            deleted_at=None,
        )


class ProcessingJob(UUIDModel, TimeStampedModel, VersionedModel, LeasedWork):
    """One run of the pipeline over some recordings. `config` is a pipeline.stages.plan.PipelineConfig as JSON."""

    name = models.CharField(max_length=200)
    dataset = models.ForeignKey(Dataset, null=True, blank=True, on_delete=models.CASCADE, related_name="jobs")
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+")
    config = models.JSONField(default=dict)
    stages = models.JSONField(default=list, help_text="The stages that run: those asked for and what they depend on")
    segmenter = models.CharField(max_length=40, blank=True, help_text="The backend that was chosen")
    segmenter_sha256 = models.CharField(max_length=64, blank=True, help_text="Of its weights, if it has any")
    classes = models.JSONField(
        default=list, help_text="Snapshot of the label classes: number, name, color, typical size"
    )
    class_head = models.JSONField(
        null=True, blank=True, help_text="Snapshot of the class head that names what is found: id, number, name, sha256"
    )
    current_stage = models.CharField(max_length=20, blank=True)
    code_version = models.CharField(max_length=60, blank=True)
    clear_outputs = models.BooleanField(
        default=False, editable=False, help_text="Restarted: what the former run left is removed first"
    )
    deleted_at = models.DateTimeField(null=True, blank=True, editable=False)

    objects = JobQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at", "id"]

    def __str__(self) -> str:
        return self.name


class LogLine(models.Model):
    """One line of a job's log."""

    class Level(models.TextChoices):
        INFO = "info"
        WARNING = "warning"
        ERROR = "error"

    job = models.ForeignKey(ProcessingJob, on_delete=models.CASCADE, related_name="log_lines")
    level = models.CharField(max_length=7, choices=Level, default=Level.INFO)
    text = models.CharField(max_length=1000)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        ordering = ["id"]

    def __str__(self) -> str:
        return self.text


class Sequence(UUIDModel):
    """One recording within one job: the folder `{job_id}/{name}/`."""

    job = models.ForeignKey(ProcessingJob, on_delete=models.CASCADE, related_name="sequences")
    position = models.PositiveIntegerField()
    name = models.CharField(max_length=120)
    file = models.ForeignKey(DatasetFile, null=True, blank=True, on_delete=models.SET_NULL, related_name="sequences")
    source_path = models.CharField(max_length=1000)
    sha256 = models.CharField(max_length=64, blank=True)
    source_state = models.CharField(
        max_length=60, blank=True, editable=False, help_text="Size and last change of the recording when it was read"
    )
    calibration = models.ForeignKey(Calibration, null=True, blank=True, on_delete=models.SET_NULL, related_name="+")
    metadata = models.JSONField(default=dict, help_text="The recording's metadata when the job was created")
    camera = models.JSONField(null=True, blank=True, help_text="The rectified camera, once extracted")
    metric = models.BooleanField(default=False)

    class Meta:
        ordering = ["position"]
        constraints = [
            models.UniqueConstraint(fields=["job", "position"], name="sequence_position_unique"),
            models.UniqueConstraint(fields=["job", "name"], name="sequence_name_unique"),
        ]

    def __str__(self) -> str:
        return self.name


class StageRun(models.Model):
    """One stage over one sequence. `cursor` counts the input frames whose results are in the database."""

    sequence = models.ForeignKey(Sequence, on_delete=models.CASCADE, related_name="stage_runs")
    stage = models.CharField(max_length=20)
    position = models.PositiveSmallIntegerField()
    status = models.CharField(max_length=10, choices=WorkStatus, default=WorkStatus.PENDING)
    cursor = models.PositiveIntegerField(default=0)
    total = models.PositiveIntegerField(default=0)
    bad_frames = models.PositiveIntegerField(default=0)
    last_error = models.TextField(blank=True)
    elapsed_s = models.FloatField(default=0, help_text="Wall time worked, over all starts")
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["position", "sequence__position"]
        constraints = [models.UniqueConstraint(fields=["sequence", "stage"], name="stage_run_unique")]

    def __str__(self) -> str:
        return f"{self.stage} of {self.sequence}"


class Frame(VersionedModel):
    """A kept frame. Its id is derived from sequence and number, so that storing it twice is storing it once."""

    id = models.UUIDField(primary_key=True, editable=False)
    job = models.ForeignKey(ProcessingJob, on_delete=models.CASCADE, related_name="frames")
    sequence = models.ForeignKey(Sequence, on_delete=models.CASCADE, related_name="frames")
    number = models.PositiveIntegerField(help_text="Counts kept frames from 0; names the files")
    source_index = models.PositiveIntegerField(help_text="Place in the recording")
    timestamp_ns = models.BigIntegerField()
    width = models.PositiveIntegerField()
    height = models.PositiveIntegerField()
    dhash = models.CharField(max_length=16)
    motion_score = models.FloatField()
    image_extension = models.CharField(max_length=4, default="png")
    has_right = models.BooleanField(default=False)
    has_depth = models.BooleanField(default=False)
    depth_coverage = models.FloatField(default=0)
    gravity = models.JSONField(
        null=True, blank=True, help_text="Unit vector pointing down in the rectified left camera; boxes stand along it"
    )
    uncertainty = models.FloatField(null=True, help_text="Mean of its uncertainty map, 0 to 1; null: it has none")
    processing_time = models.FloatField(default=0, help_text="Seconds spent on it over all stages")

    class Meta:
        ordering = ["sequence__position", "number"]
        constraints = [models.UniqueConstraint(fields=["sequence", "number"], name="frame_number_unique")]
        indexes = [
            models.Index(fields=["job", "sequence", "number"], name="frame_in_job"),
            models.Index(fields=["job", "uncertainty", "id"], name="frame_by_uncertainty"),
        ]

    def __str__(self) -> str:
        return f"frame {self.number}"


class Track(models.Model):
    """One object through a sequence. `number` is the track id of tracks.json."""

    sequence = models.ForeignKey(Sequence, on_delete=models.CASCADE, related_name="tracks")
    number = models.PositiveIntegerField()
    label_class = models.ForeignKey(LabelClass, on_delete=models.RESTRICT, related_name="+")
    first_number = models.PositiveIntegerField()
    last_number = models.PositiveIntegerField()
    detection_count = models.PositiveIntegerField(default=0)

    class Meta:
        ordering = ["number"]
        constraints = [models.UniqueConstraint(fields=["sequence", "number"], name="track_number_unique")]

    def __str__(self) -> str:
        return f"track {self.number}"


class Detection(VersionedModel):
    """One object in one frame ("annotation" in the specification)."""

    class Source(models.TextChoices):
        MODEL = "model"
        HUMAN = "human"
        PROPAGATED = "propagated"
        VLM = "vlm"
        SYNTHETIC = "synthetic"

    class Camera(models.TextChoices):
        LEFT = "left"
        RIGHT = "right"

    BOX_COLUMNS = ("location_x", "location_y", "location_z", "height_m", "width_m", "length_m", "rotation_y")
    """The 3D box, in the order of `pipeline.geometry.boxes3d`."""

    job = models.ForeignKey(ProcessingJob, on_delete=models.CASCADE, related_name="detections")
    frame = models.ForeignKey(Frame, on_delete=models.CASCADE, related_name="detections")
    camera = models.CharField(max_length=5, choices=Camera, default=Camera.LEFT)
    instance = models.PositiveIntegerField(help_text="Counts from 0 within the frame; names the mask file")
    label_class = models.ForeignKey(LabelClass, on_delete=models.RESTRICT, related_name="+")
    track = models.ForeignKey(Track, null=True, blank=True, on_delete=models.SET_NULL, related_name="detections")
    confidence = models.FloatField()
    x = models.FloatField()
    y = models.FloatField()
    width = models.FloatField()
    height = models.FloatField()
    area = models.PositiveIntegerField(default=0, help_text="Mask pixels")
    top_predictions = models.JSONField(default=list)
    quality = models.FloatField(null=True, help_text="Expected IoU of the mask, as the segmenter sees it")
    stability = models.FloatField(null=True, help_text="How little the mask changes with the threshold, 0 to 1")
    margin = models.FloatField(null=True, help_text="Best class probability minus the second best")
    agreement = models.FloatField(null=True, help_text="IoU with the mask found in the mirrored image")
    location_x = models.FloatField(null=True, help_text="Centre of the bottom face, rectified left camera, metres")
    location_y = models.FloatField(null=True)
    location_z = models.FloatField(null=True)
    height_m = models.FloatField(null=True)
    width_m = models.FloatField(null=True)
    length_m = models.FloatField(null=True)
    rotation_y = models.FloatField(null=True)
    box_sigma = models.JSONField(
        null=True, help_text="Standard deviations of the 3D box: x, y, z, height, width, length in metres, rotation"
    )
    truncated = models.FloatField(default=0)
    occluded = models.PositiveSmallIntegerField(default=0)
    points_used = models.PositiveIntegerField(default=0)
    source = models.CharField(
        max_length=10, choices=Source, default=Source.MODEL, help_text="Whose word it is, as it stands now"
    )
    prompted_segmenter = models.CharField(
        max_length=40, blank=True, help_text="What drew the mask a person asked for; empty: the job's segmenter"
    )
    confirmed_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    confirmed_at = models.DateTimeField(null=True, blank=True, help_text="When a person last vouched for the class")

    class Meta:
        ordering = ["frame_id", "instance"]
        constraints = [
            models.UniqueConstraint(fields=["frame", "camera", "instance"], name="detection_instance_unique"),
            models.CheckConstraint(condition=Q(confidence__gte=0, confidence__lte=1), name="detection_confidence_0_1"),
        ]
        indexes = [
            models.Index(fields=["job", "label_class", "confidence", "frame", "confirmed_at"], name="detection_counts"),
            models.Index(fields=["job", "frame"], condition=Q(confirmed_at__isnull=False), name="detection_confirmed"),
        ]

    def __str__(self) -> str:
        return f"detection {self.pk}"


class DetectionMask(models.Model):
    """The mask of a detection: COCO compressed RLE of its bounding rectangle, whose corner is (left, top)."""

    detection = models.OneToOneField(Detection, primary_key=True, on_delete=models.CASCADE, related_name="mask")
    left = models.PositiveIntegerField()
    top = models.PositiveIntegerField()
    width = models.PositiveIntegerField()
    height = models.PositiveIntegerField()
    counts = models.TextField()

    def __str__(self) -> str:
        return f"mask of {self.detection_id}"

    def rle(self) -> dict[str, Any]:
        """The cropped RLE as pycocotools reads it."""
        return {"size": [self.height, self.width], "counts": self.counts}
