"""Datasets, who may do what with them, their recordings, calibrations and label classes."""

from typing import Self

from django.conf import settings
from django.core.validators import MinValueValidator, RegexValidator
from django.db import models
from django.db.models import Q
from django.utils import timezone

from accounts.models import Role, User
from core.models import LeasedWork, TimeStampedModel, UUIDModel, VersionedModel


class DatasetQuerySet(models.QuerySet["Dataset"]):
    def for_user(self, user: User, role: Role = Role.VIEWER) -> Self:
        """Datasets in which `user` has at least `role`; all others do not exist for them."""
        roles = Role.at_least(role)
        return self.filter(
            deleted_at=None, pk__in=Membership.objects.filter(user=user, role__in=roles).values("dataset")
        )


class Dataset(UUIDModel, TimeStampedModel, VersionedModel):
    """A collection of recordings that belong together, and everything made from them."""

    name = models.CharField(max_length=200)
    description = models.TextField(blank=True)
    source_folder = models.CharField(max_length=1000, blank=True, help_text="Folder that is scanned for recordings")
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+")
    members = models.ManyToManyField(settings.AUTH_USER_MODEL, through="Membership", related_name="datasets")
    deleted_at = models.DateTimeField(null=True, blank=True, editable=False)

    objects = DatasetQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at", "id"]

    def __str__(self) -> str:
        return self.name


class Membership(models.Model):
    """A user's role in a dataset."""

    dataset = models.ForeignKey(Dataset, on_delete=models.CASCADE, related_name="memberships")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="memberships")
    role = models.CharField(max_length=10, choices=Role, default=Role.VIEWER)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["dataset", "user"], name="membership_unique")]
        indexes = [models.Index(fields=["user", "role", "dataset"], name="membership_scope")]

    def __str__(self) -> str:
        return f"{self.user} is {self.role}"


class LabelClass(models.Model):
    """A class of objects to label. `number` is the id users see, from 1 within the dataset.

    Rows without a dataset are the catalogue: they serve jobs on files without a dataset, and new datasets copy them.
    """

    dataset = models.ForeignKey(Dataset, null=True, blank=True, on_delete=models.CASCADE, related_name="label_classes")
    number = models.PositiveIntegerField(validators=[MinValueValidator(1)])
    name = models.CharField(max_length=80)
    color = models.CharField(max_length=7, validators=[RegexValidator(r"^#[0-9a-f]{6}$", "A colour is #rrggbb.")])
    shortcut = models.CharField(max_length=1, blank=True)
    text_prompt = models.CharField(max_length=200, blank=True)
    height_m = models.FloatField(null=True, blank=True, validators=[MinValueValidator(0.01)])
    width_m = models.FloatField(null=True, blank=True, validators=[MinValueValidator(0.01)])
    length_m = models.FloatField(null=True, blank=True, validators=[MinValueValidator(0.01)])
    attributes = models.JSONField(default=dict, blank=True)

    class Meta:
        ordering = ["number"]
        verbose_name_plural = "label classes"
        constraints = [
            models.UniqueConstraint(fields=["dataset", "number"], name="label_class_number_unique"),
            models.UniqueConstraint(fields=["dataset", "name"], name="label_class_name_unique"),
            models.UniqueConstraint(fields=["number"], condition=Q(dataset=None), name="catalogue_number_unique"),
            models.UniqueConstraint(fields=["name"], condition=Q(dataset=None), name="catalogue_name_unique"),
            models.CheckConstraint(condition=Q(number__gte=1), name="label_class_number_from_1"),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def typical_size_hwl(self) -> tuple[float, float, float] | None:
        """Height, width, length in metres; None unless all three are known."""
        if self.height_m and self.width_m and self.length_m:
            return (self.height_m, self.width_m, self.length_m)
        return None


class Calibration(UUIDModel, TimeStampedModel):
    """Lenses and pose of one stereo camera, by serial number."""

    class Source(models.TextChoices):
        FACTORY = "factory", "factory file"
        UPLOADED = "uploaded"
        RECORDING = "recording", "found beside the recording"

    class Format(models.TextChoices):
        ZED_CONF = "zed_conf", "ZED SN*.conf"
        KITTI = "kitti"
        EUROC = "euroc"
        JSON = "json"

    dataset = models.ForeignKey(Dataset, on_delete=models.CASCADE, related_name="calibrations")
    serial = models.CharField(max_length=60, blank=True)
    source = models.CharField(max_length=10, choices=Source)
    format = models.CharField(max_length=10, choices=Format)
    path = models.CharField(max_length=1000)
    sha256 = models.CharField(max_length=64)
    baseline_m = models.FloatField(null=True)
    parameters = models.JSONField(default=dict)

    class Meta:
        ordering = ["-created_at"]
        constraints = [models.UniqueConstraint(fields=["dataset", "serial", "sha256"], name="calibration_unique")]

    def __str__(self) -> str:
        return f"{self.serial or 'unknown serial'} ({self.format})"


class DatasetFile(UUIDModel, TimeStampedModel, VersionedModel):
    """One recording: a file, or a folder of images."""

    class Status(models.TextChoices):
        FOUND = "found"
        READY = "ready"
        SALVAGED = "salvaged", "readable up to a cut"
        BROKEN = "broken"
        MISSING = "missing"

    dataset = models.ForeignKey(Dataset, on_delete=models.CASCADE, related_name="files")
    name = models.CharField(max_length=255)
    path = models.CharField(max_length=1000, help_text="Where the recording lies now")
    original_path = models.CharField(max_length=1000, help_text="Where it was found or what it was uploaded as")
    kind = models.CharField(max_length=20, blank=True)
    status = models.CharField(max_length=10, choices=Status, default=Status.FOUND)
    error = models.TextField(blank=True)
    warnings = models.JSONField(default=list)
    size_bytes = models.PositiveBigIntegerField(default=0)
    sha256 = models.CharField(max_length=64, blank=True, db_index=True)
    camera_model = models.CharField(max_length=60, blank=True)
    camera_serial = models.CharField(max_length=60, blank=True)
    width = models.PositiveIntegerField(null=True)
    height = models.PositiveIntegerField(null=True)
    fps = models.FloatField(null=True)
    frame_count = models.PositiveIntegerField(null=True, help_text="Frames that can be decoded")
    duration_s = models.FloatField(null=True)
    codec = models.CharField(max_length=40, blank=True)
    stereo = models.BooleanField(default=False)
    imu_count = models.PositiveIntegerField(default=0)
    calibration = models.ForeignKey(Calibration, null=True, blank=True, on_delete=models.SET_NULL, related_name="files")
    metric = models.BooleanField(default=False, help_text="A calibration is known: depth is in metres")
    duplicate_of = models.ForeignKey(
        "self", null=True, blank=True, on_delete=models.SET_NULL, related_name="duplicates"
    )
    prepared_at = models.DateTimeField(null=True, blank=True)
    metadata = models.JSONField(default=dict)

    class Meta:
        ordering = ["name", "id"]
        constraints = [models.UniqueConstraint(fields=["dataset", "path"], name="dataset_file_path_unique")]

    def __str__(self) -> str:
        return self.name


class Operation(UUIDModel, TimeStampedModel, LeasedWork):
    """Background work on a dataset's files: a scan or a preparation. `cursor` counts the files done."""

    class Kind(models.TextChoices):
        SCAN = "scan"
        PREPARE = "prepare"

    dataset = models.ForeignKey(Dataset, on_delete=models.CASCADE, related_name="operations")
    kind = models.CharField(max_length=10, choices=Kind)
    parameters = models.JSONField(default=dict)
    work_list = models.JSONField(default=None, null=True, editable=False, help_text="Ids of the files to do, in order")
    cursor = models.PositiveIntegerField(default=0)
    total = models.PositiveIntegerField(default=0)
    result = models.JSONField(default=dict)
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+")

    class Meta:
        ordering = ["-created_at", "id"]

    def __str__(self) -> str:
        return f"{self.kind} of {self.dataset}"


class Upload(UUIDModel, TimeStampedModel):
    """A resumable upload (tus 1.0) on its way into a dataset. The bytes received lie in UPLOADS_ROOT/<id>."""

    dataset = models.ForeignKey(Dataset, on_delete=models.CASCADE, related_name="uploads")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    filename = models.CharField(max_length=255)
    length = models.PositiveBigIntegerField()
    offset = models.PositiveBigIntegerField(default=0)
    sha256 = models.CharField(max_length=64, blank=True, help_text="As promised by the client; checked at the end")
    file = models.ForeignKey(DatasetFile, null=True, blank=True, on_delete=models.SET_NULL, related_name="+")
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-created_at"]

    def __str__(self) -> str:
        return self.filename
