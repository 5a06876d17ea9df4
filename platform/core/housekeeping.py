"""Small work that recurs: removing what nobody will ask for any more. Apps register theirs with @chore."""

import logging
from collections.abc import Callable
from datetime import timedelta

from django.conf import settings
from django.contrib.sessions.models import Session
from django.utils import timezone
from django_q.models import OrmQ

from core import live

logger = logging.getLogger(__name__)
_chores: list[Callable[[], object]] = []


def chore(function: Callable[[], object]) -> Callable[[], object]:
    """Have `function` called now and then by a worker. It may be called by several at once, and must be quick."""
    _chores.append(function)
    return function


def do_chores() -> None:
    """Each of them, also if another fails."""
    for function in (live.prune, forget_sessions, forget_lost_messages, *_chores):
        try:
            function()
        except Exception:
            logger.exception("The chore %s failed; it is tried again later", function.__name__)


def forget_sessions() -> int:
    return Session.objects.filter(expire_date__lt=timezone.now()).delete()[0]


def forget_lost_messages() -> int:
    """Delete messages that a worker took and never finished, because it died: the sweep has long sent others.

    The queue locks a message it hands out until `retry` seconds later; no task may last longer than `timeout`.
    """
    retry, timeout = settings.Q_CLUSTER["retry"], settings.Q_CLUSTER["timeout"]
    now = timezone.now()
    return OrmQ.objects.filter(lock__gt=now, lock__lt=now + timedelta(seconds=retry - timeout)).delete()[0]
