"""Live updates: outbox, relay, sockets of two web processes."""

import asyncio
import itertools
import json
import time

import pytest
import websockets
from django.db import transaction
from django.utils import timezone

from core import live
from core.consumers import coalesce
from core.live import publish
from core.models import LiveEvent
from labeling.datasets.models import Dataset, Operation
from tests.core.running import Fovea, session_of


@pytest.mark.django_db
class TestOutbox:
    def row(self):
        return Operation.objects.create(dataset=Dataset.objects.create(name="Street"), kind="scan")

    def test_events_of_an_undone_transaction_are_never_told(self):
        row = self.row()
        with pytest.raises(RuntimeError), transaction.atomic():
            publish(row, [{"type": "log"}])
            raise RuntimeError
        publish(row, [{"type": "log"}, {"type": "log"}])
        assert list(LiveEvent.objects.values_list("seq", flat=True)) == [1, 2]

    def test_old_events_are_pruned_and_new_ones_kept(self):
        row = self.row()
        publish(row, [{"type": "log"}, {"type": "log"}])
        LiveEvent.objects.filter(seq=1).update(created_at=timezone.now() - timezone.timedelta(hours=7))
        assert live.prune() == 1
        assert LiveEvent.objects.get().seq == 2


@pytest.mark.parametrize(
    ("events", "kept"),
    [
        ([], []),
        ([("progress", 1)], [("progress", 1)]),
        ([("progress", 1), ("log", 2), ("progress", 3)], [("log", 2), ("progress", 3)]),
        ([("log", 1), ("log", 2)], [("log", 1), ("log", 2)]),
        ([("status", 1), ("progress", 2), ("status", 3)], [("progress", 2), ("status", 3)]),
    ],
)
def test_only_the_latest_progress_of_a_message_is_sent(events, kept):
    sent = coalesce([{"type": kind, "n": number} for kind, number in events])
    assert [(event["type"], event["n"]) for event in sent] == kept


PUBLISH = """
import time
from django.db import transaction
from core.live import publish
from labeling.jobs.models import ProcessingJob
job = ProcessingJob.objects.get(pk={pk!r})
for number in range({count}):
    with transaction.atomic():
        publish(job, [{{"type": {kind!r}, "n": number, "at": time.time()}}])
    time.sleep({pause})
"""


@pytest.fixture(scope="module")
def fovea(tmp_path_factory):
    fovea = Fovea(tmp_path_factory.mktemp("live"))
    fovea.up("--web=2", "--workers=0")
    fovea.cookie = session_of(fovea, "mira@example.org")
    fovea.stranger = session_of(fovea, "sam@example.org")
    yield fovea
    fovea.remove()


@pytest.mark.slow
class TestSockets:
    @pytest.fixture
    def job(self, fovea):
        return fovea.shell(
            "from accounts.models import User\n"
            "from labeling.jobs.models import ProcessingJob\n"
            "print(ProcessingJob.objects.create(name='One', created_by=User.objects.get(email='mira@example.org')).pk)"
        ).splitlines()[-1]

    def connect(self, fovea, topic, since="", cookie=None, origin=None):
        return websockets.connect(
            f"ws://127.0.0.1:{fovea.port}/ws/live?topic={topic}&since={since}",
            origin=origin or fovea.address,
            additional_headers={"Cookie": f"sessionid={cookie or fovea.cookie}"},
        )

    def publish(self, fovea, job, count, kind="log", pause=0.0):
        return asyncio.to_thread(fovea.shell, PUBLISH.format(pk=job, count=count, kind=kind, pause=pause))

    async def collect(self, socket, until):
        events, arrived = [], []
        while not events or events[-1]["n"] != until:
            message = json.loads(await asyncio.wait_for(socket.recv(), 20))
            arrived.append(time.time())
            events += message["events"]
        return events, arrived

    def test_all_sockets_of_both_web_processes_hear_everything_in_order(self, fovea, job):
        async def listen(socket):
            first = json.loads(await socket.recv())
            assert first["snapshot"]["status"] == "pending"
            return await self.collect(socket, 29)

        async def run():
            sockets = [await self.connect(fovea, f"processingjob:{job}") for _ in range(8)]
            listeners = [asyncio.create_task(listen(socket)) for socket in sockets]
            await self.publish(fovea, job, 30, pause=0.02)
            heard = await asyncio.gather(*listeners)
            for socket in sockets:
                await socket.close()
            return heard

        for events, arrived in asyncio.run(run()):
            assert [event["n"] for event in events] == list(range(30))
            spans = [after - before for before, after in itertools.pairwise(arrived)]
            assert len(arrived) < 30, "messages are gathered, at most five a second"
            assert not spans or min(spans) > 0.1

    def test_who_comes_back_gets_what_was_missed(self, fovea, job):
        async def run():
            await self.publish(fovea, job, 5)
            async with self.connect(fovea, f"processingjob:{job}", since=2) as socket:
                first = json.loads(await socket.recv())
                events, _ = await self.collect(socket, 4)
                return first["seq"], [event["n"] for event in events]

        assert asyncio.run(run()) == (5, [2, 3, 4])

    @pytest.mark.parametrize(
        ("topic", "who", "code"),
        [
            ("processingjob:{job}", "stranger", 4404),
            ("processingjob:{job}", "nobody", 4401),
            ("processingjob:not-an-id", "cookie", 4404),
            ("user:1", "cookie", 4404),
            ("", "cookie", 4404),
        ],
    )
    def test_a_topic_of_others_does_not_exist(self, fovea, job, topic, who, code):
        async def run():
            cookie = getattr(fovea, who, "none")
            async with self.connect(fovea, topic.format(job=job), cookie=cookie) as socket:
                with pytest.raises(websockets.ConnectionClosed):
                    await asyncio.wait_for(socket.recv(), 10)
                return socket.close_code

        assert asyncio.run(run()) == code

    def test_who_is_signed_out_no_longer_hears_anything(self, fovea, job):
        """The check that is made each minute, made at once."""
        checked = fovea.shell(
            "from django.contrib.sessions.backends.db import SessionStore\n"
            "from core.consumers import LiveConsumer\n"
            "consumer = LiveConsumer()\n"
            f"consumer.topic = 'processingjob:{job}'\n"
            f"consumer.scope = {{'session': SessionStore({fovea.cookie!r})}}\n"
            "print(consumer._still_allowed())\n"
            f"consumer.scope = {{'session': SessionStore({fovea.stranger!r})}}\n"
            "print(consumer._still_allowed())\n"
            "consumer.scope = {'session': SessionStore('ended')}\n"
            "print(consumer._still_allowed())"
        )
        assert checked.splitlines()[-3:] == ["True", "False", "False"]

    def test_a_malformed_since_is_refused(self, fovea, job):
        async def run():
            async with self.connect(fovea, f"processingjob:{job}", since="x") as socket:
                with pytest.raises(websockets.ConnectionClosed):
                    await asyncio.wait_for(socket.recv(), 10)
                return socket.close_code

        assert asyncio.run(run()) == 4400

    def test_a_page_of_another_site_is_refused(self, fovea, job):
        async def run():
            async with self.connect(fovea, f"processingjob:{job}", origin="https://elsewhere.example"):
                pass

        with pytest.raises(websockets.InvalidStatus) as caught:
            asyncio.run(run())
        assert caught.value.response.status_code == 403
