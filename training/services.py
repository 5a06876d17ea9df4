"""Everything that changes training datasets."""

import shutil
from contextlib import suppress
from typing import Any

from django.db import transaction
from django.utils import timezone

from accounts.models import User
from core import work
from core.audit import record
from core.errors import ApplicationError, ConflictError, FieldError
from core.models import WorkStatus
from core.versioning import save_versioned
from labeling.jobs.models import ProcessingJob
from labeling.review.filters import AnnotationFilter
from pipeline.errors import ConfigurationError
from training.formats.base import ExportOptions
from training.formats.splits import SplitConfig
from training.models import TrainingDataset
from training.places import ExportPlace

EXPORTABLE = (WorkStatus.COMPLETED, WorkStatus.CANCELLED, WorkStatus.FAILED)
"""What a job must have come to: its frames do not change any more."""


@transaction.atomic
def create_training_dataset(
    *,
    user: User,
    job: ProcessingJob,
    name: str = "",
    description: str = "",
    format: str = TrainingDataset.Format.BOTH,  # noqa: A002 - the specification's name
    train_ratio: float = 0.7,
    val_ratio: float = 0.2,
    test_ratio: float = 0.1,
    seed: int = 0,
    split_by: str = "frame",
    include_masks: bool = True,
    include_depth: bool = True,
    include_3d_boxes: bool = True,
    include_velodyne: bool = False,
    segmentation: str = "rle",
    filters: AnnotationFilter | None = None,
) -> TrainingDataset:
    """Start the export of `job`'s frames. Raises FieldError naming the parameter, ConflictError while the job runs."""
    if job.status not in EXPORTABLE:
        raise ConflictError(f"The job is {job.status}: only the frames of a finished job can be exported.")
    if format not in TrainingDataset.Format.values:
        raise FieldError("format", f"{format!r} is not one of {', '.join(TrainingDataset.Format.values)}.")
    try:
        split = SplitConfig(train_ratio, val_ratio, test_ratio, seed, split_by)
        options = ExportOptions(include_masks, include_depth, include_3d_boxes, include_velodyne, segmentation)
    except ConfigurationError as error:
        raise FieldError(error.field, error.message) from error
    filters = filters or AnnotationFilter()
    frames = filters.frames(job.frames.all())
    if not frames.exists():
        raise ConflictError("There is no frame to export: the job kept none, or the filter leaves all of them out.")
    _check_divisible(split, frames.values("sequence").distinct().count())
    row = TrainingDataset.objects.create(
        name=name.strip() or job.name,
        description=description,
        job=job,
        created_by=user,
        format=format,
        export_config={
            "include_masks": options.include_masks,
            "include_depth": options.include_depth,
            "include_3d_boxes": options.include_3d_boxes,
            "include_velodyne": options.include_velodyne,
            "segmentation": options.segmentation,
        },
        filter_config=filters.to_json(),
        split_config=split.to_json(),
    )
    record(user, "training_dataset.created", row, after={"name": row.name, "format": row.format, **row.split_config})
    return work.transition(row, "start")


def _check_divisible(split: SplitConfig, sequences: int) -> None:
    wanted = sum(ratio > 0 for ratio in split.ratios)
    if split.split_by == "sequence" and sequences < wanted:
        raise FieldError(
            "split_by",
            f"{sequences} sequence(s) cannot be divided into {wanted} splits; "
            "split by frame, or set the other ratios to 0.",
        )


@transaction.atomic
def update_training_dataset(
    *, user: User, row: TrainingDataset, expected_version: int | None = None, **changes: Any
) -> TrainingDataset:
    """Change name or description. Raises StaleError if someone else was faster."""
    before = {name: getattr(row, name) for name in changes}
    row = save_versioned(row, expected_version, **changes)
    record(user, "training_dataset.updated", row, before, changes)
    return row


@transaction.atomic
def move_training_dataset(*, user: User, row: TrainingDataset, verb: str) -> TrainingDataset:
    """Pause, resume, cancel or restart the export. Raises InvalidTransitionError."""
    if verb not in work.ACTIONS:
        raise ApplicationError(f"{verb} is not one of {', '.join(work.ACTIONS)}.")
    before = {"status": row.status}
    anew = {"cursor": 0, "export_state": {}, "statistics": {}, "size_bytes": 0} if verb == "restart" else {}
    row = work.transition(row, verb, **anew)
    record(user, f"training_dataset.{verb}", row, before, {"status": row.status})
    return row


@transaction.atomic
def delete_training_dataset(*, user: User, row: TrainingDataset, expected_version: int | None = None) -> None:
    """Hide it from everyone and stop its export; its files stay until they are purged."""
    with suppress(work.InvalidTransitionError):  # it ended already
        row = work.transition(row, "cancel")
    save_versioned(row, expected_version, deleted_at=timezone.now())
    record(user, "training_dataset.deleted", row, before={"name": row.name})


def purge_training_dataset(*, row: TrainingDataset) -> None:
    """Remove a training dataset for good: files first, so that one that was interrupted is simply done again."""
    place = ExportPlace(row)
    for folder in (place.final, place.partial, place.parts):
        shutil.rmtree(folder, ignore_errors=True)
    with transaction.atomic():
        record(None, "training_dataset.purged", row, before={"name": row.name})
        row.dataset_frames.all().delete()
        row.delete()
