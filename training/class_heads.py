"""Class heads: what people confirmed, trained into versions, of which one is active."""

import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from django.db import transaction
from django.db.models import Count, Max, Q, QuerySet
from django.utils import timezone

from accounts.models import User
from core import work
from core.audit import record
from core.errors import ApplicationError, ConflictError
from core.models import WorkStatus
from core.versioning import save_versioned
from labeling.datasets.models import Dataset
from labeling.jobs.class_heads import Snapshot
from labeling.jobs.models import Detection
from labeling.jobs.services import code_version
from training.models import ModelVersion
from training.places import ModelPlace

RETRAIN_AFTER: Final = 20
"""New confirmed labels after which a page offers to train again."""
MAX_LABELS: Final = 50_000
"""The newest ones are taken where there are more."""
UNDER_WAY: Final = (WorkStatus.PENDING, WorkStatus.RUNNING, WorkStatus.PAUSED)


def confirmed_labels(dataset: Dataset) -> QuerySet[Detection]:
    """The detections of `dataset` that a person vouched for and that have a mask."""
    jobs = dataset.jobs.filter(deleted_at=None)
    rows = Detection.objects.filter(job__in=jobs, confirmed_at__isnull=False, camera=Detection.Camera.LEFT)
    return rows.filter(mask__isnull=False)


def overview(dataset: Dataset) -> dict[str, Any]:
    """What there is to learn from: {"labels", "new_labels" (since the newest version was begun), "retrain" (whether it
    is worth it), "classes": [{"class_id", "class_name", "color", "labels", "new_labels"}], "active", "training"}.
    """
    versions = ModelVersion.objects.filter(dataset=dataset, task=ModelVersion.Task.CLASS_HEAD, deleted_at=None)
    newest = versions.exclude(trained_at=None).order_by("-number").first()
    is_new = Q(confirmed_at__gt=newest.created_at) if newest else Q()
    rows = (
        confirmed_labels(dataset)
        .order_by("label_class__number")
        .values("label_class__number", "label_class__name", "label_class__color")
        .annotate(labels=Count("pk"), new_labels=Count("pk", filter=is_new))
    )
    classes = [
        {
            "class_id": row["label_class__number"],
            "class_name": row["label_class__name"],
            "color": row["label_class__color"],
            "labels": row["labels"],
            "new_labels": row["new_labels"],
        }
        for row in rows
    ]
    labels = sum(row["labels"] for row in classes)
    new_labels = sum(row["new_labels"] for row in classes)
    training = versions.filter(status__in=UNDER_WAY).first()
    return {
        "labels": labels,
        "new_labels": new_labels,
        "retrain": training is None and new_labels >= (RETRAIN_AFTER if newest else 1),
        "classes": classes,
        "active": versions.filter(active=True).first(),
        "training": training,
    }


@transaction.atomic
def train_class_head(*, user: User, dataset: Dataset, name: str = "") -> ModelVersion:
    """Begin to train a class head from the confirmed labels of `dataset`.

    Raises ConflictError where there are none, or one is being trained already.
    """
    Dataset.objects.select_for_update(of=("self",)).get(pk=dataset.pk)  # numbers are given one after the other
    versions = ModelVersion.objects.filter(dataset=dataset)
    under_way = versions.filter(task=ModelVersion.Task.CLASS_HEAD, deleted_at=None, status__in=UNDER_WAY).first()
    if under_way is not None:
        raise ConflictError(f"“{under_way.name}” is being trained already.")
    if not confirmed_labels(dataset).exists():
        raise ConflictError("Nobody has confirmed a label yet: confirm some on the review page of a job first.")
    number = (versions.aggregate(last=Max("number"))["last"] or 0) + 1
    row = ModelVersion(
        dataset=dataset,
        number=number,
        name=name.strip() or f"Class head {number}",
        parent=versions.filter(task=ModelVersion.Task.CLASS_HEAD, active=True).first(),
        code_version=code_version(),
        created_by=user,
    )
    row.full_clean(exclude=("dataset", "created_by", "parent", "metrics"))
    row.save(force_insert=True)
    record(user, "model.created", row, after={"name": row.name, "number": number, "task": row.task})
    return work.transition(row, "start")


@transaction.atomic
def update_model(*, user: User, row: ModelVersion, expected_version: int | None = None, **changes: Any) -> ModelVersion:
    """Change the name. Raises StaleError if someone else was faster."""
    before = {name: getattr(row, name) for name in changes}
    row = save_versioned(row, expected_version, **changes)
    record(user, "model.updated", row, before, changes)
    return row


@transaction.atomic
def activate(*, user: User | None, row: ModelVersion, expected_version: int | None = None) -> ModelVersion:
    """Let new jobs of the dataset use it, in place of the one that was active. Raises ConflictError if untrained."""
    if row.trained_at is None or row.deleted_at is not None:
        raise ConflictError("Only a model that was trained can be active.")
    Dataset.objects.select_for_update(of=("self",)).get(pk=row.dataset_id)  # two at once: one after the other
    others = ModelVersion.objects.filter(dataset=row.dataset_id, task=row.task, active=True)
    for other in others.exclude(pk=row.pk):
        deactivate(user=user, row=other)
    row = save_versioned(row, expected_version, active=True)
    record(user, "model.activated", row, after={"active": True})
    return row


@transaction.atomic
def deactivate(*, user: User | None, row: ModelVersion, expected_version: int | None = None) -> ModelVersion:
    """New jobs of the dataset use no model of its task."""
    row = save_versioned(row, expected_version, active=False)
    record(user, "model.deactivated", row, after={"active": False})
    return row


@transaction.atomic
def move_model(*, user: User, row: ModelVersion, verb: str) -> ModelVersion:
    """Pause, resume, cancel or restart its training. Raises InvalidTransitionError."""
    if verb not in work.ACTIONS:
        raise ApplicationError(f"{verb} is not one of {', '.join(work.ACTIONS)}.")
    before = {"status": row.status}
    row = work.transition(row, verb, **({"label_count": 0} if verb == "restart" else {}))
    record(user, f"model.{verb}", row, before, {"status": row.status})
    return row


@transaction.atomic
def delete_model(*, user: User, row: ModelVersion, expected_version: int | None = None) -> None:
    """Hide it and stop its training. Jobs that were created with it keep it until it is purged."""
    with suppress(work.InvalidTransitionError):  # it ended already
        row = work.transition(row, "cancel")
    save_versioned(row, expected_version, active=False, deleted_at=timezone.now())
    record(user, "model.deleted", row, before={"name": row.name})


def active_snapshot(dataset: Dataset) -> Snapshot | None:
    """For labeling.jobs.class_heads: what a new job of `dataset` uses."""
    row = ModelVersion.objects.filter(dataset=dataset, task=ModelVersion.Task.CLASS_HEAD, active=True).first()
    return Snapshot(str(row.pk), row.number, row.name, row.checkpoint_sha256) if row else None


def checkpoint_file(pk: uuid.UUID) -> Path | None:
    """For labeling.jobs.class_heads: where a version's file lies."""
    row = ModelVersion.objects.filter(pk=pk).first()
    return ModelPlace(row).checkpoint if row else None
