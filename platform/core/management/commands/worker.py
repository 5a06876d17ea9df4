"""Take work from a queue: django-q2's cluster, made crash-only."""

import logging
import os
import sys
import time
from multiprocessing.connection import wait
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandParser
from django.db import DatabaseError, connections
from django_q import cluster
from django_q.conf import Conf
from redis.exceptions import RedisError

from core import housekeeping, work
from core.model_door import ModelDoor
from core.processes import die_with_parent

logger = logging.getLogger(__name__)
CLUSTER_DIED = 70
SWEEP_SECONDS = 5.0
CHORES_SECONDS = 600.0
TURN_SECONDS = 0.05


class CrashOnlySentinel(cluster.Sentinel):
    """Ends the whole cluster when one of its processes dies unexpectedly.

    A process that dies while it holds the lock of the task queue leaves the others waiting for ever (django-q2 issue
    23): starting again is the only safe answer, and leases make it cheap.
    """

    def __init__(self, stop_event: Any, *args: Any, **kwargs: Any) -> None:
        work.draining = stop_event.is_set
        super().__init__(stop_event, *args, **kwargs)

    def reincarnate(self, process: Any) -> None:
        recycled = process not in (self.monitor, self.pusher) and int(process.timer.value) == -2
        if recycled:
            super().reincarnate(process)
            return
        for other in [*self.pool, self.monitor, self.pusher]:
            other.kill()
        os._exit(CLUSTER_DIED)


class Command(BaseCommand):
    help = "Do the work of a queue (jobs, scans, exports) until stopped. `up` runs this for you."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--queue", choices=settings.QUEUES, default=settings.QUEUES[0])

    def handle(self, *args: Any, queue: str, **options: Any) -> None:
        if queue != Conf.CLUSTER_NAME:
            # django-q2 reads the name while it is imported: start again with it set.
            os.environ["Q_CLUSTER_NAME"] = queue
            os.execv(sys.executable, sys.orig_argv)  # noqa: S606 - our own command line
        os.register_at_fork(after_in_child=die_with_parent)
        cluster.Sentinel = CrashOnlySentinel
        connections.close_all()  # no connection may be shared with the processes that are forked now
        crew = cluster.Cluster()
        crew.start()
        door = ModelDoor()
        self._tidied, self._swept = time.monotonic(), 0.0
        try:
            while crew.sentinel.is_alive():
                self._do_chores(door)
                left = max(self._swept + SWEEP_SECONDS - time.monotonic(), 0.0)
                wait([crew.sentinel.sentinel, *door.waited_at], timeout=left)
                door.tend()
                time.sleep(TURN_SECONDS)  # somebody may be knocking while the process behind the door is starting
        finally:
            door.close()
        sys.exit(crew.sentinel.exitcode)

    def _do_chores(self, door: ModelDoor) -> None:
        """What is due of sweeping and tidying. The database, the broker or the disk may be away: then the next time."""
        if time.monotonic() - self._swept < SWEEP_SECONDS:
            return
        self._swept = time.monotonic()
        try:
            work.sweep()
            if time.monotonic() - self._tidied > CHORES_SECONDS:
                self._tidied = time.monotonic()
                housekeeping.do_chores()
        except (DatabaseError, OSError, RedisError):
            logger.exception("The sweep failed; trying again")
            connections.close_all()
        try:
            door.open()
        except OSError:
            logger.exception("Models cannot be served; trying again")
