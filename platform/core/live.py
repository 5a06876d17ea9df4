"""The outbox of live updates: what happened is written in the same commit as the thing itself.

Whoever relays it (core.relay) only reads. Sequence numbers are taken under the row's lock, so a topic has no gaps and a
listener that missed something asks for everything since the last number it saw.
"""

from collections.abc import Sequence
from typing import Any

from django.db import connection
from django.db.models import F

from core.models import LeasedWork, LiveEvent

CHANNEL = "fovea_live"
"""PostgreSQL channel that is notified with each commit that holds events."""


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
