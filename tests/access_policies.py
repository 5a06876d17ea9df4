"""What the access matrix needs to know of the addresses: which ids stand in them, and which are open to everyone.

A new route needs nothing here if its ids follow a segment that is known. Else the matrix fails and says what to add.
"""

import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from django.utils import timezone

from accounts.models import Role, User
from labeling.datasets.models import DatasetFile, Upload
from labeling.jobs.models import Detection, DetectionMask, Frame, ProcessingJob, Sequence, StageRun, Track
from tests.factories import (
    ApiKeyFactory,
    CalibrationFactory,
    DatasetFactory,
    DatasetFileFactory,
    LabelClassFactory,
    MembershipFactory,
    OperationFactory,
    UserFactory,
)
from training.models import ModelVersion, TrainingDataset

OPEN_API = {"schema"}
"""API routes (by name) that anyone may read."""

OPEN_PAGES = {
    "healthz",
    "api-docs",
    "accounts:sign-in",
    "accounts:sign-out",
    "accounts:password-reset",
    "accounts:password-reset-sent",
    "accounts:password-reset-confirm",
}
"""Pages (by name) that do not ask for a sign-in."""

OWN = {"api-key-list", "api-key-detail", "me", "accounts:revoke-api-key", "accounts:create-api-key"}
"""Routes about the caller's own account: no dataset, no role; what is another's is 404 for everyone."""

PERSONAL = {"upload-detail"}
"""Routes to what belongs to one member, here the owner: to the others it is 404 whatever their role."""


@dataclass
class World:
    """A dataset with one of everything in it, a member of each role, and a stranger."""

    stranger: User = field(default_factory=UserFactory)

    def __post_init__(self) -> None:
        self.dataset = DatasetFactory()
        self.members = {role: MembershipFactory(dataset=self.dataset, role=role).user for role in Role}
        self.bystander = MembershipFactory(dataset=self.dataset)
        self.label_class = LabelClassFactory(dataset=self.dataset)
        self.file: DatasetFile = DatasetFileFactory(dataset=self.dataset)
        self.calibration = CalibrationFactory(dataset=self.dataset)
        self.operation = OperationFactory(dataset=self.dataset)
        self.upload = Upload.objects.create(
            dataset=self.dataset, user=self.members[Role.OWNER], filename="a.svo2", length=10
        )
        self.job = ProcessingJob.objects.create(
            name="Job",
            dataset=self.dataset,
            created_by=self.members[Role.OWNER],
            status="completed",
            stages=["extraction"],
        )
        self.sequence = Sequence.objects.create(
            job=self.job, position=0, name="a", source_path=self.file.path, file=self.file
        )
        StageRun.objects.create(sequence=self.sequence, stage="extraction", position=0)
        self.frame = Frame.objects.create(
            id=uuid.uuid4(),
            job=self.job,
            sequence=self.sequence,
            number=0,
            source_index=0,
            timestamp_ns=0,
            width=64,
            height=48,
            dhash="0" * 16,
            motion_score=0,
        )
        self.track = Track.objects.create(
            sequence=self.sequence, number=1, label_class=self.label_class, first_number=0, last_number=0
        )
        self.detection = Detection.objects.create(
            job=self.job,
            frame=self.frame,
            instance=0,
            label_class=self.label_class,
            track=self.track,
            confidence=0.9,
            x=1,
            y=2,
            width=10,
            height=12,
        )
        DetectionMask.objects.create(detection=self.detection, left=1, top=2, width=10, height=12, counts="0")
        self.training_dataset = TrainingDataset.objects.create(
            name="Export", job=self.job, created_by=self.members[Role.OWNER], status="completed"
        )
        self.model = ModelVersion.objects.create(
            dataset=self.dataset, number=1, name="Class head 1", status="completed", trained_at=timezone.now()
        )
        self.api_key = ApiKeyFactory()


IDS: dict[str, Callable[[World], Any]] = {
    "datasets": lambda world: world.dataset.pk,
    "members": lambda world: world.bystander.pk,
    "classes": lambda world: world.label_class.pk,
    "files": lambda world: world.file.pk,
    "calibrations": lambda world: world.calibration.pk,
    "uploads": lambda world: world.upload.pk,
    "operations": lambda world: world.operation.pk,
    "jobs": lambda world: world.job.pk,
    "review": lambda world: world.job.pk,
    "sequences": lambda world: world.sequence.pk,
    "frames": lambda world: world.frame.pk,
    "tracks": lambda world: world.track.pk,
    "detections": lambda world: world.detection.pk,
    "training-datasets": lambda world: world.training_dataset.pk,
    "models": lambda world: world.model.pk,
    "api-keys": lambda world: world.api_key.pk,
}
"""The id that follows a segment of an address: `datasets/<uuid:pk>`."""

WORDS: dict[str, Any] = {
    "path": "a.svo2",
    "format": "kitti",
    "choice": "kitti",
    "view": "left",
    "camera": "left",
    "kind": "left",
    "eye": "left",
    "verb": "start",
    "stage": "extraction",
    "name": "a",
    "uidb64": "MQ",
    "token": "set-password",
}
"""What else stands in addresses, by the parameter's name."""

HEADERS = {"Tus-Resumable": "1.0.0", "Upload-Offset": "0"}
"""Sent with every call: without the version of its protocol an upload answers 412, whoever asks."""
