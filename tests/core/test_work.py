import errno
import os
import subprocess
import time
from datetime import timedelta

import pytest
from django.db import OperationalError, connection, transaction
from django.utils import timezone
from django_q.brokers import get_broker

from core import work
from core.live import topic_of
from core.models import LiveEvent, WorkStatus
from core.work import InvalidTransitionError, Outcome, advance, sweep, transition
from labeling.datasets.models import Dataset, Operation
from pipeline.errors import PipelineError, Stopped
from pipeline.storage.journal import JournalBusyError

LABEL = Operation._meta.label
pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def hints(monkeypatch):
    """What was put into the queue, instead of the queue."""
    sent = []
    monkeypatch.setattr(work, "hint", lambda label, pk, queue: sent.append((label, pk, queue)))
    return sent


@pytest.fixture
def row(hints):
    return Operation.objects.create(dataset=Dataset.objects.create(name="Street"), kind=Operation.Kind.SCAN, total=4)


@pytest.fixture
def runs(monkeypatch):
    """Make the given function the runner of operations, and the only one."""

    def use(function):
        monkeypatch.setattr(work, "_runners", {LABEL: function})

    return use


def four_steps(lease):
    for number in range(lease.row.cursor + 1, 5):
        with lease.step(cursor=number, progress=number / 4, message=f"file {number}", events=[{"type": "log"}]):
            pass
    return Outcome.DONE


def state(row, *names):
    return Operation.objects.values_list(*(names or ("status",)), flat=len(names) < 2).get(pk=row.pk)


def test_started_work_runs_to_its_end_and_lets_go_of_its_lease(row, runs, hints):
    runs(four_steps)
    transition(row, "start")
    assert hints == [(LABEL, str(row.pk), "default")]
    advance(LABEL, str(row.pk))
    assert state(row, "status", "cursor", "progress", "lease_owner", "attempts") == ("completed", 4, 1.0, "", 0)
    assert state(row, "finished_at") is not None


def test_events_are_numbered_without_gaps(row, runs):
    runs(four_steps)
    transition(row, "start")
    advance(LABEL, str(row.pk))
    events = LiveEvent.objects.filter(topic=topic_of(row)).order_by("seq").values_list("seq", "payload__type")
    assert list(events) == [(1, "status"), (2, "log"), (3, "log"), (4, "log"), (5, "log"), (6, "status")]


@pytest.mark.parametrize(
    ("status", "verb"),
    [
        ("pending", "pause"), ("pending", "resume"), ("pending", "restart"), ("running", "start"),
        ("running", "resume"), ("running", "restart"), ("paused", "start"), ("paused", "pause"),
        ("completed", "start"), ("completed", "pause"), ("completed", "cancel"), ("completed", "restart"),
        ("failed", "resume"), ("failed", "cancel"), ("cancelled", "resume"), ("cancelled", "pause"),
    ],
)  # fmt: skip
def test_a_verb_is_refused_where_the_table_does_not_allow_it(row, status, verb):
    Operation.objects.filter(pk=row.pk).update(status=status)
    with pytest.raises(InvalidTransitionError, match=f"Cannot {verb} what is {status}"):
        transition(row, verb)
    assert state(row) == status
    assert verb not in work.allowed_actions(row)


def test_a_second_message_for_a_held_row_does_nothing(row, runs):
    calls = []

    def nested(lease):
        calls.append(lease.epoch)
        advance(LABEL, str(row.pk))
        return Outcome.DONE

    runs(nested)
    transition(row, "start")
    advance(LABEL, str(row.pk))
    assert calls == [1]


def test_a_worker_whose_row_was_claimed_again_can_no_longer_write(row, runs):
    seen = []

    def loses_its_lease(lease):
        with lease.step(cursor=1):
            pass
        Operation.objects.filter(pk=row.pk).update(lease_until=timezone.now() - timedelta(seconds=1))
        other = work._claim(Operation, str(row.pk))
        seen.append(other.epoch)
        assert lease.stopped
        with pytest.raises(Stopped), lease.step(cursor=99):
            Dataset.objects.create(name="never")
        with pytest.raises(Stopped):
            lease.beat()
        with other.step(cursor=2):
            pass
        return Outcome.DONE  # must not complete what another is doing

    runs(loses_its_lease)
    transition(row, "start")
    advance(LABEL, str(row.pk))
    assert seen == [2]
    assert state(row, "status", "cursor", "epoch") == ("running", 2, 2)
    assert not Dataset.objects.filter(name="never").exists()


@pytest.mark.parametrize(("verb", "expected"), [("pause", "paused"), ("cancel", "cancelled")])
def test_pausing_or_cancelling_stops_the_worker_at_its_next_step(row, runs, verb, expected):
    def stopped_meanwhile(lease):
        with lease.step(cursor=1):
            pass
        transition(Operation.objects.get(pk=row.pk), verb)
        with lease.step(cursor=2):
            Dataset.objects.create(name="undone")
        return Outcome.DONE

    runs(stopped_meanwhile)
    transition(row, "start")
    advance(LABEL, str(row.pk))
    assert state(row, "status", "cursor", "lease_owner") == (expected, 1, "")
    assert not Dataset.objects.filter(name="undone").exists()


def test_resumed_work_goes_on_where_it_was(row, runs):
    runs(four_steps)
    transition(row, "start")
    Operation.objects.filter(pk=row.pk).update(cursor=3)
    transition(row, "pause")
    advance(LABEL, str(row.pk))
    assert state(row, "status", "cursor") == ("paused", 3)
    transition(row, "resume")
    advance(LABEL, str(row.pk))
    assert state(row, "status", "cursor") == ("completed", 4)


def test_a_pause_that_arrives_with_the_last_step_is_kept(row, runs):
    def paused_at_the_end(lease):
        transition(Operation.objects.get(pk=row.pk), "pause")
        return Outcome.DONE

    runs(paused_at_the_end)
    transition(row, "start")
    advance(LABEL, str(row.pk))
    assert state(row) == "paused"


def test_restarting_fences_out_a_worker_that_has_not_noticed_the_cancellation(row, runs):
    transition(row, "start")
    late = work._claim(Operation, str(row.pk))
    transition(row, "cancel")
    row.refresh_from_db()
    transition(row, "restart")
    assert late.stopped
    runs(four_steps)
    advance(LABEL, str(row.pk))
    assert state(row) == "completed"


def test_work_that_kills_its_worker_three_times_fails_and_says_what_it_was_doing(row, runs):
    transition(row, "start", message="file 7")
    for _ in range(3):
        assert work._claim(Operation, str(row.pk)) is not None
        Operation.objects.filter(pk=row.pk).update(lease_owner="", lease_until=None)  # as the sweep does for the dead
    runs(four_steps)
    advance(LABEL, str(row.pk))
    assert state(row) == "failed"
    assert state(row, "error") == "The worker died 3 times in a row while file 7."


def test_a_commit_makes_the_count_of_deaths_begin_anew_but_a_beat_does_not(row):
    transition(row, "start")
    lease = work._claim(Operation, str(row.pk))
    lease.beat()
    assert state(row, "attempts") == 1
    with lease.step():
        pass
    assert state(row, "attempts") == 0


def test_a_busy_journal_is_waited_for_and_never_counts_as_a_death(row, runs):
    def busy(lease):
        raise JournalBusyError("extraction.jsonl is being written by another worker.")

    runs(busy)
    transition(row, "start")
    for _ in range(10):
        advance(LABEL, str(row.pk))
    assert state(row, "status", "attempts", "lease_owner") == ("running", 0, "")


def test_an_error_of_the_engine_fails_the_row_with_its_own_sentence(row, runs):
    def broken(lease):
        raise PipelineError("a.svo2 holds no frames.")

    runs(broken)
    transition(row, "start")
    advance(LABEL, str(row.pk))
    assert state(row, "status", "error") == ("failed", "a.svo2 holds no frames.")


def test_an_unforeseen_error_fails_the_row_and_names_its_kind(row, runs, caplog):
    def broken(lease):
        raise ZeroDivisionError("division by zero")

    runs(broken)
    transition(row, "start")
    advance(LABEL, str(row.pk))
    assert state(row, "error") == "Unexpected ZeroDivisionError: division by zero"
    assert "ZeroDivisionError" in caplog.text


def test_a_database_that_is_away_for_a_moment_does_not_fail_the_work(row, runs):
    def locked(lease):
        raise OperationalError("database is locked")

    runs(locked)
    transition(row, "start")
    advance(LABEL, str(row.pk))
    assert state(row, "status", "lease_owner", "error", "attempts") == ("running", "", "", 1)
    runs(four_steps)
    advance(LABEL, str(row.pk))
    assert state(row) == "completed"


def test_a_full_disk_is_told_in_words(row, runs):
    def full(lease):
        raise OSError(errno.ENOSPC, "No space left on device")

    runs(full)
    transition(row, "start")
    advance(LABEL, str(row.pk))
    assert state(row, "status", "error") == ("failed", "The disk is full: make room, then restart it.")


def test_a_slice_that_is_not_the_last_is_followed_by_another_hint(row, runs, hints):
    runs(lambda lease: Outcome.MORE)
    transition(row, "start")
    for _ in range(5):
        advance(LABEL, str(row.pk))
    assert len(hints) == 6
    assert state(row, "status", "lease_owner", "attempts") == ("running", "", 0)


def test_a_slice_ends_only_when_another_row_waits(row, runs, settings):
    settings.WORK_SLICE_SECONDS = 0
    runs(four_steps)
    transition(row, "start")
    lease = work._claim(Operation, str(row.pk))
    time.sleep(0.01)
    assert not lease.slice_over
    transition(Operation.objects.create(dataset=row.dataset, kind=Operation.Kind.SCAN), "start")
    assert lease.slice_over


def test_a_worker_that_is_to_stop_ends_its_slice(row, monkeypatch):
    transition(row, "start")
    lease = work._claim(Operation, str(row.pk))
    monkeypatch.setattr(work, "draining", lambda: True)
    assert lease.slice_over


def test_nothing_is_enqueued_for_a_transaction_that_is_undone(row, hints):
    with pytest.raises(RuntimeError), transaction.atomic():
        transition(row, "start")
        raise RuntimeError
    assert hints == []
    assert state(row) == "pending"


def test_a_broker_that_is_away_does_not_undo_the_start(row, monkeypatch):
    def away(*args):
        raise ConnectionError("Redis is not there")

    monkeypatch.setattr(work, "hint", away)
    transition(row, "start")
    assert state(row) == "running"


def test_the_sweep_frees_rows_whose_process_is_dead_and_leaves_the_living_alone(row, runs, hints):
    runs(four_steps)
    transition(row, "start")
    hints.clear()
    lease = work._claim(Operation, str(row.pk))
    assert sweep() == 0
    assert state(row, "lease_owner") == lease.owner

    child = subprocess.Popen(["sleep", "60"])
    host, _, _, nonce = lease.owner.split("|")
    owner = f"{host}|{child.pid}|{work._process_start(child.pid)}|{nonce}"
    Operation.objects.filter(pk=row.pk).update(lease_owner=owner)
    assert sweep() == 0
    os.kill(child.pid, 9)
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # a zombie: dead, though its entry is still there
    assert sweep() == 1
    child.wait()
    assert (state(row, "lease_owner"), hints) == ("", [(LABEL, str(row.pk), "default")])


def test_a_lease_of_another_machine_is_respected_until_it_runs_out(row, runs):
    runs(four_steps)
    transition(row, "start")
    owner = "elsewhere|1|1|abc"
    later, earlier = (timezone.now() + timedelta(seconds=sign * 30) for sign in (1, -1))
    Operation.objects.filter(pk=row.pk).update(lease_owner=owner, lease_until=later)
    assert sweep() == 0
    assert work._claim(Operation, str(row.pk)) is None
    Operation.objects.filter(pk=row.pk).update(lease_until=earlier)
    assert sweep() == 1
    assert work._claim(Operation, str(row.pk)) is not None


class TestQueue:
    """With the real broker: the database's, or Redis where REDIS_URL is set."""

    @pytest.fixture(autouse=True)
    def empty(self):
        get_broker("default").purge_queue()
        yield
        get_broker("default").purge_queue()

    def rows(self, count):
        dataset = Dataset.objects.create(name="Street")
        return [Operation.objects.create(dataset=dataset, kind="scan", status=WorkStatus.RUNNING) for _ in range(count)]

    def test_the_sweep_hints_at_as_many_rows_as_have_no_message(self, runs):
        runs(four_steps)
        self.rows(3)
        assert sweep() == 3
        assert get_broker("default").queue_size() == 3
        assert sweep() == 0
        self.rows(2)
        assert sweep() == 2

    def test_waiting_work_names_its_queue(self, runs):
        runs(four_steps)
        assert work.waiting_queues() == set()
        Operation.objects.filter(pk=self.rows(1)[0].pk).update(queue="gpu")
        assert work.waiting_queues() == {"gpu"}


@pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite has one writer at a time anyway")
def test_of_two_racing_claims_one_wins(row):
    from concurrent.futures import ThreadPoolExecutor

    transition(row, "start")

    def claim(_):
        try:
            return work._claim(Operation, str(row.pk)) is not None
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(claim, range(4))) == 1
