"""What people decide about detections: a class confirmed or changed, an object added, and that taken back."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from django.db import transaction
from django.db.models import Max
from django.utils import timezone

from accounts.models import User
from core.audit import record, record_all
from core.errors import ApplicationError, ConflictError, FieldError, NotFoundError, StaleError
from core.models import WorkStatus
from core.versioning import save_versioned
from labeling.datasets.models import LabelClass
from labeling.jobs.models import Detection, DetectionMask, Frame, ProcessingJob
from labeling.review.selectors import label_classes

ENDED: Final = (WorkStatus.COMPLETED, WorkStatus.CANCELLED, WorkStatus.FAILED)
"""What a job must have come to: until then its stages still write to its detections."""
MAX_CONFIRMED: Final = 1000
"""Detections of one bulk request."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a person says of a detection. class_number: None leaves the class as it is."""

    class_number: int | None = None
    confirmed: bool = True


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one item of a bulk request; `error` is None where it was done."""

    pk: int
    error: ApplicationError | None = None


@transaction.atomic
def judge_detection(
    *, user: User, detection: Detection, verdict: Verdict, expected_version: int | None = None
) -> Detection:
    """Set a detection's class and confirm it, or take the confirmation back.

    Raises FieldError for an unknown class, ConflictError while the job runs, StaleError if someone else was faster.
    """
    _hold(detection.job)
    changes = _changes(user, detection, verdict, _classes_of(detection.job))
    before = _told(detection)
    save_versioned(detection, expected_version, **changes)
    record(user, "detection.judged", detection, before, _told(detection))
    return detection


@transaction.atomic
def judge_detections(
    *, user: User, job: ProcessingJob, verdicts: Sequence[tuple[int, Verdict, int | None]]
) -> list[Outcome]:
    """As judge_detection for many detections of `job`, each (id, verdict, expected version): one may fail, the others
    are done. The number of queries does not depend on how many there are. Raises ConflictError while the job runs.
    """
    _hold(job)
    classes = _classes_of(job)
    rows = Detection.objects.select_for_update(of=("self",)).filter(job=job).select_related("label_class")
    found = rows.in_bulk([pk for pk, *_ in verdicts])
    outcomes, changed, audited = [], {}, []
    for pk, verdict, expected in verdicts:
        row = found.get(pk)
        try:
            if row is None:
                raise NotFoundError("The job has no such detection.")
            if expected is not None and expected != row.version:
                raise StaleError("It was changed by someone else meanwhile.")
            changes = _changes(user, row, verdict, classes)
        except ApplicationError as error:
            outcomes.append(Outcome(pk, error))
            continue
        before = _told(row)
        for name, value in changes.items():
            setattr(row, name, value)
        row.version += 1
        changed[pk] = row
        audited.append((row, before, _told(row)))
        outcomes.append(Outcome(pk))
    columns = ("label_class", "source", "confirmed_by", "confirmed_at", "version")
    Detection.objects.bulk_update(changed.values(), columns, batch_size=100)
    record_all(user, "detection.judged", audited, dataset_id=job.dataset_id)
    return outcomes


@transaction.atomic
def add_detection(
    *,
    user: User,
    frame: Frame,
    class_number: int,
    mask: dict[str, Any],
    segmenter: str = "",
    quality: float | None = None,
) -> Detection:
    """A new object of `frame`, confirmed by `user`. mask: {"left", "top", "size": [height, width], "counts"} as the API
    shows them; segmenter and quality: of the proposal it was.

    Raises FieldError for an unknown class or a mask that is none, ConflictError while the job runs.
    """
    _hold(frame.job)
    label_class = _classes_of(frame.job).get(class_number)
    if label_class is None:
        raise FieldError("class_id", f"There is no class {class_number} in the dataset.")
    cropped, area = _checked_mask(frame, mask)
    others = Detection.objects.filter(frame=frame, camera=Detection.Camera.LEFT)
    last = others.aggregate(last=Max("instance"))["last"]
    detection = Detection.objects.create(
        job=frame.job,
        frame=frame,
        instance=0 if last is None else last + 1,
        label_class=label_class,
        confidence=1.0,
        x=cropped["left"],
        y=cropped["top"],
        width=cropped["width"],
        height=cropped["height"],
        area=area,
        quality=quality,
        source=Detection.Source.HUMAN,
        prompted_segmenter=segmenter or "hand",
        confirmed_by=user,
        confirmed_at=timezone.now(),
    )
    DetectionMask.objects.create(detection=detection, **cropped)
    record(user, "detection.added", detection, after={**_told(detection), "area": area, "segmenter": segmenter})
    return detection


@transaction.atomic
def remove_detection(*, user: User, detection: Detection, expected_version: int | None = None) -> None:
    """Take back an object that a person added. What a job found is left out by filters, never deleted.

    Raises ConflictError for those, StaleError if someone else was faster.
    """
    _hold(detection.job)
    if not detection.prompted_segmenter:
        raise ConflictError("The job found this one: it can be corrected, or left out of an export, but not deleted.")
    save_versioned(detection, expected_version, source=detection.source)
    record(user, "detection.removed", detection, before=_told(detection))
    detection.delete()


def _checked_mask(frame: Frame, mask: dict[str, Any]) -> tuple[dict[str, Any], int]:
    """The columns of DetectionMask for the mask, and its pixels. Raises FieldError."""
    import numpy as np  # only who draws needs it

    from labeling.jobs.ingest import cropped_mask
    from pipeline.errors import PipelineError
    from pipeline.segmentation import rle

    (height, width), left, top = mask["size"], mask["left"], mask["top"]
    if left + width > frame.width or top + height > frame.height:
        raise FieldError("mask", f"It does not lie within the frame of {frame.width} × {frame.height} pixels.")
    try:
        part = rle.decode({"size": [height, width], "counts": mask["counts"]})
    except PipelineError as error:
        raise FieldError("mask", "counts is not COCO's run-length encoding of that size.") from error
    whole = np.zeros((frame.height, frame.width), dtype=bool)
    whole[top : top + height, left : left + width] = part
    cropped = cropped_mask(rle.encode(whole))
    if cropped is None:
        raise FieldError("mask", "It is empty.")
    return cropped, int(np.count_nonzero(part))


def _hold(job: ProcessingJob) -> None:
    """Keep the job as it is until the commit: a restart must not throw away what is being said now."""
    status = ProcessingJob.objects.select_for_update().values_list("status", flat=True).get(pk=job.pk)
    if status not in ENDED:
        raise ConflictError(f"The job is {status}: its detections can be changed when it has ended.")


def _classes_of(job: ProcessingJob) -> dict[int, LabelClass]:
    return {row.number: row for row in label_classes(job)}


def _changes(user: User, row: Detection, verdict: Verdict, classes: dict[int, LabelClass]) -> dict[str, Any]:
    changes: dict[str, Any] = {}
    if verdict.class_number is not None:
        label_class = classes.get(verdict.class_number)
        if label_class is None:
            raise FieldError("class_id", f"There is no class {verdict.class_number} in the dataset.")
        changes["label_class"] = label_class
    if verdict.confirmed:
        return {**changes, "source": Detection.Source.HUMAN, "confirmed_by": user, "confirmed_at": timezone.now()}
    if row.prompted_segmenter:
        raise ConflictError("A person drew this one: delete it instead.")
    return {**changes, "source": Detection.Source.MODEL, "confirmed_by": None, "confirmed_at": None}


def _told(row: Detection) -> dict[str, Any]:
    return {"class_id": row.label_class.number, "source": row.source, "confirmed": row.confirmed_at is not None}
