"""What people decide about detections: a class confirmed or changed, and that taken back."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from django.db import transaction
from django.utils import timezone

from accounts.models import User
from core.audit import record, record_all
from core.errors import ApplicationError, ConflictError, FieldError, NotFoundError, StaleError
from core.models import WorkStatus
from core.versioning import save_versioned
from labeling.datasets.models import LabelClass
from labeling.jobs.models import Detection, ProcessingJob
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


def _hold(job: ProcessingJob) -> None:
    """Keep the job as it is until the commit: a restart must not throw away what is being said now."""
    status = ProcessingJob.objects.select_for_update(of=("self",)).values_list("status", flat=True).get(pk=job.pk)
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
