"""The audit trail: written by services, in the transaction of what they do; never changed afterwards."""

import json
import uuid
from collections.abc import Sequence
from typing import Any

from django.core.serializers.json import DjangoJSONEncoder
from django.db.models import Model

from core.middleware import request_id
from core.models import AuditEvent


def record(
    actor: Any,
    action: str,
    row: Model,
    before: dict[str, Any] | None = None,
    after: dict[str, Any] | None = None,
) -> AuditEvent:
    """`actor` (a user, or None for the system) did `action`, such as "dataset.updated", to `row`."""
    return AuditEvent.objects.create(
        actor=actor if actor is not None and actor.pk else None,
        action=action,
        object_type=row._meta.label_lower,
        object_id=str(row.pk),
        dataset_id=_dataset_of(row),
        before=_plain(before),
        after=_plain(after),
        request_id=request_id.get(),
    )


def record_all(
    actor: Any,
    action: str,
    changes: Sequence[tuple[Model, dict[str, Any] | None, dict[str, Any] | None]],
    *,
    dataset_id: uuid.UUID | None,
) -> None:
    """As `record`, for many rows of one dataset at once: (row, before, after) each."""
    AuditEvent.objects.bulk_create(
        (
            AuditEvent(
                actor=actor if actor is not None and actor.pk else None,
                action=action,
                object_type=row._meta.label_lower,
                object_id=str(row.pk),
                dataset_id=dataset_id,
                before=_plain(before),
                after=_plain(after),
                request_id=request_id.get(),
            )
            for row, before, after in changes
        ),
        batch_size=500,
    )


def _plain(value: dict[str, Any] | None) -> Any:
    return None if value is None else json.loads(json.dumps(value, cls=DjangoJSONEncoder))


def _dataset_of(row: Any) -> uuid.UUID | None:
    while row is not None:
        if row._meta.label_lower == "datasets.dataset":
            return row.pk
        if hasattr(row, "dataset_id"):
            return row.dataset_id
        parents = ("job", "sequence", "frame", "detection")
        row = next((getattr(row, name) for name in parents if hasattr(row, name)), None)
    return None
