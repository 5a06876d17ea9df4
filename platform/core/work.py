"""Long work that survives anything: leases on rows, commits in steps, and messages that are only hints.

A runner is a function that takes a Lease and does one slice of the work of its row, committing as it goes:

    @runner(Operation)
    def run_operation(lease: Lease[Operation]) -> Outcome:
        for number, file in enumerate(files[lease.row.cursor :], start=lease.row.cursor + 1):
            with lease.step(cursor=number, progress=number / total, message=file.name):
                ...  # rows of this step: one commit with the cursor and the event
            if lease.slice_over:
                return Outcome.MORE
        return Outcome.DONE

Killed anywhere, the row keeps its last commit; the sweep finds it and another worker goes on from there. Two workers
can never both commit: a step is refused once the row was claimed again, paused or cancelled (Stopped).
"""

import enum
import errno
import logging
import os
import random
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, Generic, TypeVar

from django.apps import apps
from django.conf import settings
from django.db import DatabaseError, InterfaceError, OperationalError, connection, transaction
from django.db.models import F, Q, QuerySet
from django.db.models.functions import Now
from django_q.brokers import get_broker
from django_q.tasks import async_task

from core.errors import ApplicationError
from core.live import publish
from core.models import LeasedWork, WorkStatus
from pipeline.errors import PipelineError, Stopped
from pipeline.storage.journal import JournalBusyError

logger = logging.getLogger(__name__)
Row = TypeVar("Row", bound=LeasedWork)

MAX_ATTEMPTS = 3
"""Starts without a single commit after which a row is given up: something in it kills its worker."""
MAX_SLICE_SECONDS = 600
"""How long a slice may last while no other row waits for the queue; far below the queue's own timeout."""

TRANSITIONS: dict[str, tuple[frozenset[WorkStatus], WorkStatus]] = {
    "start": (frozenset({WorkStatus.PENDING}), WorkStatus.RUNNING),
    "pause": (frozenset({WorkStatus.RUNNING}), WorkStatus.PAUSED),
    "resume": (frozenset({WorkStatus.PAUSED}), WorkStatus.RUNNING),
    "cancel": (frozenset({WorkStatus.PENDING, WorkStatus.RUNNING, WorkStatus.PAUSED}), WorkStatus.CANCELLED),
    "restart": (frozenset({WorkStatus.FAILED, WorkStatus.CANCELLED}), WorkStatus.RUNNING),
    "complete": (frozenset({WorkStatus.RUNNING}), WorkStatus.COMPLETED),
    "fail": (frozenset({WorkStatus.RUNNING}), WorkStatus.FAILED),
}
"""What each verb may leave, and where it leads: the only place that says so."""

ACTIONS = ("start", "pause", "resume", "cancel", "restart")
"""The verbs a person has; the others are the worker's."""


class Outcome(enum.Enum):
    DONE = "done"
    MORE = "more"


class InvalidTransitionError(ApplicationError):
    code = "invalid_transition"
    status = 409


Runner = Callable[["Lease[Any]"], Outcome]
_runners: dict[str, Runner] = {}
draining: Callable[[], bool] = bool
"""Whether this worker was asked to stop; set by the `worker` command before it forks."""


def runner(model: type[LeasedWork]) -> Callable[[Runner], Runner]:
    """Register the decorated function as the one that does the work of `model`'s rows."""

    def register(function: Runner) -> Runner:
        _runners[model._meta.label] = function
        return function

    return register


def allowed_actions(row: LeasedWork) -> list[str]:
    return [verb for verb in ACTIONS if row.status in TRANSITIONS[verb][0]]


@transaction.atomic
def transition(row: Row, verb: str, **changes: Any) -> Row:
    """Move `row` along `verb`, or raise InvalidTransitionError; of two racing callers one wins. Enqueues on commit."""
    return _move(row, verb, Q(), changes)


def _move(row: Row, verb: str, condition: Q, changes: dict[str, Any]) -> Row:
    sources, target = TRANSITIONS[verb]
    manager = type(row)._default_manager
    if target in (WorkStatus.COMPLETED, WorkStatus.FAILED, WorkStatus.CANCELLED):
        changes.setdefault("finished_at", Now())
    if verb in ("start", "restart"):
        changes.setdefault("started_at", Now())
    if verb == "restart":
        # A worker that has not yet noticed the end of the former run is fenced out.
        fence = {"epoch": F("epoch") + 1, "lease_owner": "", "lease_until": None}
        changes = {"progress": 0, "error": "", "message": "", "finished_at": None, **fence, **changes}
    if target is WorkStatus.RUNNING:
        changes.setdefault("attempts", 0)
    if not manager.filter(condition, pk=row.pk, status__in=sources).update(status=target, **changes):
        row.refresh_from_db()
        raise InvalidTransitionError(f"Cannot {verb} what is {row.status}.")
    row.refresh_from_db()
    publish(row, [status_payload(row)])
    if target is WorkStatus.RUNNING:
        enqueue(row)
    return row


def status_payload(row: LeasedWork) -> dict[str, Any]:
    return {
        "type": "status",
        "status": row.status,
        "progress": row.progress,
        "message": row.message,
        "error": row.error,
        "actions": allowed_actions(row),
    }


def enqueue(row: LeasedWork) -> None:
    """Hint, once the transaction is committed, that `row` wants work."""
    label, pk, queue = row._meta.label, str(row.pk), row.queue
    # Robust: should the broker be away, the sweep hints again later.
    transaction.on_commit(lambda: hint(label, pk, queue), robust=True)


def hint(label: str, pk: str, queue: str) -> None:
    async_task("core.work.advance", label, pk, cluster=queue)


class Lease(Generic[Row]):
    """A worker's hold on a row, for one slice of work."""

    def __init__(self, row: Row, owner: str) -> None:
        self.row = row
        self.owner = owner
        self.epoch = row.epoch
        self._slice_ends = time.monotonic() + settings.WORK_SLICE_SECONDS
        self._must_end = time.monotonic() + MAX_SLICE_SECONDS

    @property
    def slice_over(self) -> bool:
        """Time to let others have a turn, if any wait, or to let the worker stop: return Outcome.MORE."""
        now = time.monotonic()
        if draining() or now > self._must_end:
            return True
        if now < self._slice_ends:
            return False
        if any(_waiting(label).filter(queue=self.row.queue).exists() for label in _runners):
            return True
        self._slice_ends = now + settings.WORK_SLICE_SECONDS
        return False

    @property
    def held(self) -> Q:
        """What is true of the row as long as this lease may write to it."""
        return Q(pk=self.row.pk, epoch=self.epoch, lease_owner=self.owner, status=WorkStatus.RUNNING)

    @property
    def stopped(self) -> bool:
        """Whether the row was paused, cancelled or taken over meanwhile."""
        return not self._row.filter(self.held).exists()

    @property
    def _row(self) -> QuerySet[Any]:
        return type(self.row)._default_manager.filter(pk=self.row.pk)

    @contextmanager
    def step(self, *, events: Sequence[dict[str, Any]] = (), **fields: Any) -> Iterator[list[dict[str, Any]]]:
        """One commit: what the block writes, `fields` of the row, the events, and the lease renewed.

        The block may add to the list of events it is given. Raises Stopped, and undoes the block, if the row is no
        longer held or no longer running.
        """
        with transaction.atomic():
            if not self._row.filter(self.held).update(lease_until=_lease_end(), attempts=0, **fields):
                raise Stopped
            told = list(events)
            yield told
            publish(self.row, told)
        for name, value in fields.items():
            setattr(self.row, name, value)

    def beat(self) -> None:
        """Renew the lease, for work that is long between two steps; it does not count as a commit. Raises Stopped."""
        if not self._row.filter(self.held).update(lease_until=_lease_end()):
            raise Stopped

    @contextmanager
    def kept_alive(self) -> Iterator[None]:
        """Renew the lease from a thread of its own meanwhile, for work of which a single piece may outlast it."""
        ended = threading.Event()

        def renew() -> None:
            try:
                while not ended.wait(settings.WORK_LEASE_SECONDS / 4):
                    self.beat()
            except (Stopped, DatabaseError):
                logger.info("%s %s is no longer renewed", self.row._meta.label, self.row.pk)
            finally:
                connection.close()

        thread = threading.Thread(target=renew, name="lease", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def _release(self, **changes: Any) -> None:
        self._row.filter(epoch=self.epoch, lease_owner=self.owner).update(lease_owner="", lease_until=None, **changes)


def advance(label: str, pk: str) -> None:
    """Do a slice of the work of a row: the one task of the queue. Doubled or late messages do no harm."""
    model = apps.get_model(label)
    lease = _claim(model, pk)
    if lease is None:
        return
    try:
        if lease.row.attempts > MAX_ATTEMPTS:
            doing = lease.row.message or "starting"
            raise PipelineError(f"The worker died {MAX_ATTEMPTS} times in a row while {doing}.")
        outcome = _runners[label](lease)
        if outcome is Outcome.DONE:
            with transaction.atomic():
                _move(lease.row, "complete", lease.held, {"progress": 1, "message": ""})
        else:
            lease._release(attempts=0)
            hint(label, pk, lease.row.queue)
    except Stopped:
        logger.info("%s %s was stopped", label, pk)
    except JournalBusyError:
        logger.info("%s %s is still being written by a worker that lost its lease", label, pk)
        # Nobody died: this start does not count. The sweep hints at the row again.
        lease._release(attempts=F("attempts") - 1)
    except InvalidTransitionError:
        logger.info("%s %s was stopped as it came to its end", label, pk)
    except (OperationalError, InterfaceError):
        # The database was away or locked: that is no fault of the work. This start counts, so that it ends some day.
        logger.exception("%s %s lost the database; it is tried again", label, pk)
    except Exception as error:
        if not isinstance(error, PipelineError | ApplicationError):
            logger.exception("%s %s failed", label, pk)
        _fail(lease, reason_of(error))
    finally:
        lease._release()


def reason_of(error: Exception) -> str:
    """The sentence that tells the user why work failed."""
    if isinstance(error, PipelineError | ApplicationError):
        return str(error)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "The disk is full: make room, then restart it."
    return f"Unexpected {type(error).__name__}: {error}"


def _claim(model: type[LeasedWork], pk: str) -> Lease[Any] | None:
    owner = f"{socket.gethostname()}|{os.getpid()}|{_process_start(os.getpid())}|{uuid.uuid4().hex[:8]}"
    claimed = (
        model._default_manager.filter(pk=pk, status=WorkStatus.RUNNING)
        .filter(Q(lease_owner="") | Q(lease_until__lt=Now()))
        .update(
            lease_owner=owner,
            lease_until=_lease_end(),
            epoch=F("epoch") + 1,
            attempts=F("attempts") + 1,
        )
    )
    return Lease(model._default_manager.get(pk=pk), owner) if claimed else None


def _lease_end() -> Any:
    return Now() + timedelta(seconds=settings.WORK_LEASE_SECONDS)


def _fail(lease: Lease[Any], reason: str) -> None:
    try:
        with transaction.atomic():
            _move(lease.row, "fail", lease.held, {"error": reason})
    except InvalidTransitionError:
        logger.info("%s %s was stopped before it failed: %s", lease.row._meta.label, lease.row.pk, reason)


def _waiting(label: str) -> QuerySet[Any]:
    """Rows that are to run and that nobody holds."""
    manager = apps.get_model(label)._default_manager
    return manager.filter(Q(lease_owner="") | Q(lease_until__lt=Now()), status=WorkStatus.RUNNING)


def waiting_queues() -> set[str]:
    """The queues for which work waits."""
    return {
        queue for label in _runners for queue in _waiting(label).order_by().values_list("queue", flat=True).distinct()
    }


def sweep() -> int:
    """Free the rows whose worker on this machine is dead, and hint at rows that wait without a message.

    A message does not say whether it will ever arrive (its worker may have died with it), so as many waiting rows are
    hinted at as the queue holds fewer messages than rows wait. Returns how many.
    """
    waiting: dict[str, list[tuple[str, str]]] = {}
    for label in _runners:
        manager = apps.get_model(label)._default_manager
        held = manager.filter(status=WorkStatus.RUNNING).exclude(lease_owner="")
        for pk, owner in held.values_list("pk", "lease_owner"):
            if not _owner_lives(owner):
                manager.filter(pk=pk, lease_owner=owner).update(lease_owner="", lease_until=None)
        for pk, queue in _waiting(label).order_by("created_at").values_list("pk", "queue"):
            waiting.setdefault(queue, []).append((label, str(pk)))
    hinted = 0
    for queue, rows in waiting.items():
        missing = len(rows) - get_broker(queue).queue_size()
        chosen = rows if missing >= len(rows) else random.sample(rows, max(missing, 0))
        for label, pk in chosen:
            hint(label, pk, queue)
        hinted += len(chosen)
    return hinted


def _owner_lives(owner: str) -> bool:
    """False only if we know: the owner's process was on this machine and is gone."""
    try:
        host, pid, start, _ = owner.split("|")
    except ValueError:
        return True
    return host != socket.gethostname() or _process_start(int(pid)) == start


def _process_start(pid: int) -> str:
    """When process `pid` started, in clock ticks since boot (proc(5), field 22); empty if it is dead."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in "ZX" else fields[19]
