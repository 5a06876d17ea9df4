"""The live socket: `/ws/live?topic=processingjob:<id>&since=<seq>`.

First a snapshot {"seq", "snapshot"}, then what happened beyond `since`, and from then on what happens, as
{"seq", "events"}: at most five messages a second.
Close codes: 4401 not signed in, 4404 no such topic (or not yours), 4400 malformed.
"""

import asyncio
import time
from collections.abc import Sequence
from typing import Any
from urllib.parse import parse_qs

from channels.db import database_sync_to_async
from channels.generic.websocket import AsyncJsonWebsocketConsumer
from django.contrib.auth import get_user
from django.core.exceptions import ValidationError

from core.live import find_topic
from core.relay import Event, Subscription, relay

MESSAGE_SECONDS = 0.2
CHECK_SECONDS = 60.0
"""How often it is checked that the listener may still listen."""
MAX_REPLAY = 1000
LAST_ONLY = frozenset({"progress", "status"})
"""Kinds of events of which only the latest of a message matters."""


def coalesce(events: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Drop events that a later one of the same kind makes obsolete; the others keep their order."""
    seen: set[str] = set()
    kept = []
    for event in reversed(events):
        kind = event.get("type", "")
        if kind in LAST_ONLY and kind in seen:
            continue
        seen.add(kind)
        kept.append(event)
    return kept[::-1]


class LiveConsumer(AsyncJsonWebsocketConsumer):
    async def connect(self) -> None:
        self._subscription: Subscription | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._pending: list[Event] = []
        self._news = asyncio.Event()
        query = parse_qs(self.scope.get("query_string", b"").decode("latin-1"))
        self.topic = query.get("topic", [""])[0]
        since = query.get("since", [""])[0]
        await self.accept()  # a refusal before this point reaches the browser without its reason
        if not self.scope["user"].is_authenticated:
            await self.close(4401)
            return
        if since and not (since.isascii() and since.isdigit() and len(since) < 19):
            await self.close(4400)
            return
        found = await database_sync_to_async(self._look)()
        if found is None:
            await self.close(4404)
            return
        seq, snapshot = found
        await self.send_json({"seq": seq, "snapshot": snapshot})
        start = max(int(since), seq - MAX_REPLAY) if since else seq
        self._subscription = relay.subscribe(self.topic, min(start, seq), self._deliver)
        self._tasks = [asyncio.create_task(self._send_news()), asyncio.create_task(self._keep_checking())]

    async def disconnect(self, code: int) -> None:
        if self._subscription is not None:
            relay.unsubscribe(self._subscription)
        for task in self._tasks:
            task.cancel()

    def _look(self) -> tuple[int, dict[str, Any]] | None:
        """Sequence number and snapshot of the topic; None if it does not exist for this user."""
        name, _, pk = self.topic.partition(":")
        topic = find_topic(name)
        if topic is None:
            return None
        try:
            row = topic.visible(self.scope["user"]).filter(pk=pk).first()
        except (ValidationError, ValueError):
            return None
        return (row.event_seq, topic.snapshot(row)) if row is not None else None

    def _deliver(self, events: list[Event]) -> None:
        self._pending.extend(events)
        self._news.set()

    async def _send_news(self) -> None:
        sent = 0.0
        while True:
            await self._news.wait()
            await asyncio.sleep(max(0.0, sent + MESSAGE_SECONDS - time.monotonic()))
            self._news.clear()
            events, self._pending = self._pending, []
            sent = time.monotonic()
            await self.send_json({"seq": events[-1][0], "events": coalesce([payload for _, payload in events])})

    async def _keep_checking(self) -> None:
        while True:
            await asyncio.sleep(CHECK_SECONDS)
            if not await database_sync_to_async(self._still_allowed)():
                await self.close(4404)
                return

    def _still_allowed(self) -> bool:
        """Look at the session itself again: it may have been signed out, and the role taken away."""
        session = self.scope["session"]
        fresh = session.__class__(session.session_key)
        request = type("Request", (), {"session": fresh})()
        self.scope["user"] = get_user(request)
        return self.scope["user"].is_authenticated and self._look() is not None
