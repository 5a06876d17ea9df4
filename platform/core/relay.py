"""From the outbox to the listeners of this process: one thread, woken by the database itself.

SQLite: `PRAGMA data_version` changes when another connection commits; it is read every 50 ms while anyone listens.
PostgreSQL: LISTEN, and a look every 2 s in case a notification went missing. Nobody listens: nothing runs.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from django.db import DatabaseError, connection
from django.db.models import Q

from core.live import CHANNEL
from core.models import LiveEvent

logger = logging.getLogger(__name__)
POLL_SECONDS = 0.05
SAFETY_SECONDS = 2.0
BATCH = 1000
"""Events read at once; what is beyond waits for the next look, 50 ms later."""

Event = tuple[int, dict[str, Any]]
"""Sequence number and payload."""


@dataclass(eq=False, slots=True)
class Subscription:
    """Events of `topic` beyond `seq` go to `deliver`, in order and without gaps, on the loop of the subscriber."""

    topic: str
    seq: int
    deliver: Callable[[list[Event]], None]
    loop: asyncio.AbstractEventLoop


class Waker(Protocol):
    def wait(self) -> bool:
        """Wait a moment; True if something was committed."""
        ...


class DataVersionWaker:
    """SQLite: the number changes only for commits of other connections, so this thread's own must not write."""

    def __init__(self) -> None:
        self._seen: int | None = None

    def wait(self) -> bool:
        time.sleep(POLL_SECONDS)
        with connection.cursor() as cursor:
            version = cursor.execute("PRAGMA data_version").fetchone()[0]
        changed, self._seen = version != self._seen, version
        return changed


class ListenWaker:
    """PostgreSQL."""

    def __init__(self) -> None:
        with connection.cursor() as cursor:
            cursor.execute(f"LISTEN {CHANNEL}")

    def wait(self) -> bool:
        return any(True for _ in connection.connection.notifies(timeout=POLL_SECONDS * 2, stop_after=1))


class Relay:
    """The relay of an ASGI process. `subscribe` and `unsubscribe` are called on the event loop."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._subscriptions: set[Subscription] = set()
        self._wanted = threading.Event()
        self._fresh = False
        self._closed = False
        self._thread: threading.Thread | None = None

    def subscribe(self, topic: str, since: int, deliver: Callable[[list[Event]], None]) -> Subscription:
        subscription = Subscription(topic, since, deliver, asyncio.get_running_loop())
        with self._lock:
            self._subscriptions.add(subscription)
            self._fresh = True
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="live-relay", daemon=True)
                self._thread.start()
        self._wanted.set()
        return subscription

    def unsubscribe(self, subscription: Subscription) -> None:
        with self._lock:
            self._subscriptions.discard(subscription)
            if not self._subscriptions:
                self._wanted.clear()

    def close(self) -> None:
        self._closed = True
        self._wanted.set()
        if self._thread is not None:
            self._thread.join(timeout=2)

    def _run(self) -> None:
        while not self._closed:
            self._wanted.wait()
            try:
                self._relay_while_wanted()
            except DatabaseError:
                logger.exception("Live updates lost the database; trying again")
                time.sleep(1)
            finally:
                connection.close()

    def _relay_while_wanted(self) -> None:
        waker: Waker = ListenWaker() if connection.vendor == "postgresql" else DataVersionWaker()
        looked = 0.0
        while self._wanted.is_set() and not self._closed:
            woken = waker.wait()
            if woken or self._fresh or time.monotonic() - looked > SAFETY_SECONDS:
                self._look()
                looked = time.monotonic()

    def _look(self) -> None:
        with self._lock:
            self._fresh = False
            listening = list(self._subscriptions)
        since: dict[str, int] = {}
        for subscription in listening:
            since[subscription.topic] = min(subscription.seq, since.get(subscription.topic, subscription.seq))
        for topics in _batches(sorted(since.items()), 200):
            beyond = Q()
            for topic, seq in topics:
                beyond |= Q(topic=topic, seq__gt=seq)
            rows = LiveEvent.objects.filter(beyond).order_by("topic", "seq")
            found: dict[str, list[Event]] = {}
            for topic, seq, payload in rows.values_list("topic", "seq", "payload")[:BATCH]:
                found.setdefault(topic, []).append((seq, payload))
            for subscription in listening:
                self._hand_over(subscription, found.get(subscription.topic, []))
            if sum(map(len, found.values())) == BATCH:
                self._fresh = True

    @staticmethod
    def _hand_over(subscription: Subscription, events: list[Event]) -> None:
        news = [event for event in events if event[0] > subscription.seq]
        if not news:
            return
        subscription.seq = news[-1][0]
        try:
            subscription.loop.call_soon_threadsafe(subscription.deliver, news)
        except RuntimeError:  # the loop is closed: so is the socket
            logger.debug("A listener of %s is gone", subscription.topic)


def _batches(items: list[tuple[str, int]], size: int) -> list[list[tuple[str, int]]]:
    return [items[start : start + size] for start in range(0, len(items), size)]


relay = Relay()
