"""The outbox of live updates: what happened is written in the same commit as the thing itself.

Whoever relays it (core.relay) only reads. Sequence numbers are taken under the row's lock, so a topic has no gaps and a
listener that missed something asks for everything since the last number it saw.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.db import connection
from django.db.models import F, QuerySet
from django.db.models.functions import Now

from core.models import LeasedWork, LiveEvent

CHANNEL = "fovea_live"
"""PostgreSQL channel that is notified with each commit that holds events."""
KEEP_EVENTS_HOURS = 6
"""A listener that was away for longer starts again from a snapshot."""


@dataclass(frozen=True, slots=True)
class Topic:
    """What may be listened to: rows of `model` that `visible(user)` holds; `snapshot(row)` tells how a row stands."""

    model: type[LeasedWork]
    visible: Callable[[Any], QuerySet[Any]]
    snapshot: Callable[[Any], dict[str, Any]]


_topics: dict[str, Topic] = {}


def live_topic(
    model: type[LeasedWork],
    visible: Callable[[Any], QuerySet[Any]],
    snapshot: Callable[[Any], dict[str, Any]] | None = None,
) -> None:
    """Let browsers listen to rows of `model`; called in AppConfig.ready. The snapshot is the status by default."""
    from core.work import status_payload

    _topics[str(model._meta.model_name)] = Topic(model, visible, snapshot or status_payload)


def find_topic(name: str) -> Topic | None:
    return _topics.get(name)


def topic_of(row: LeasedWork) -> str:
    return f"{row._meta.model_name}:{row.pk}"


def publish(row: LeasedWork, payloads: Sequence[dict[str, Any]]) -> None:
    """Append `payloads` to the topic of `row`. To be called inside the transaction that they tell of."""
    if not payloads:
        return
    manager = type(row)._default_manager
    manager.filter(pk=row.pk).update(event_seq=F("event_seq") + len(payloads))
    last = manager.values_list("event_seq", flat=True).get(pk=row.pk)
    first = last - len(payloads) + 1
    LiveEvent.objects.bulk_create(
        LiveEvent(topic=topic_of(row), seq=seq, payload=payload) for seq, payload in enumerate(payloads, start=first)
    )
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute(f"NOTIFY {CHANNEL}")


def prune() -> int:
    """Delete events nobody will ask for any more."""
    return LiveEvent.objects.filter(created_at__lt=Now() - timedelta(hours=KEEP_EVENTS_HOURS)).delete()[0]
