"""What recurs: messages, sessions and events nobody will ask for any more."""

from datetime import timedelta

import pytest
from django.conf import settings
from django.contrib.sessions.models import Session
from django.utils import timezone
from django_q.models import OrmQ

from core import housekeeping

pytestmark = pytest.mark.django_db


def message(seconds):
    return OrmQ.objects.create(key="default", payload="", lock=timezone.now() + timedelta(seconds=seconds))


def test_messages_whose_worker_died_are_forgotten_and_the_others_kept():
    retry, timeout = settings.Q_CLUSTER["retry"], settings.Q_CLUSTER["timeout"]
    waiting, at_work = message(-1), message(retry - timeout + 60)
    message(retry - timeout - 60)
    assert housekeeping.forget_lost_messages() == 1
    assert set(OrmQ.objects.all()) == {waiting, at_work}


def test_sessions_that_ran_out_are_forgotten():
    now = timezone.now()
    for key, ends in (("old", now - timedelta(seconds=1)), ("live", now + timedelta(hours=1))):
        Session.objects.create(session_key=key, session_data="", expire_date=ends)
    housekeeping.forget_sessions()
    assert list(Session.objects.values_list("session_key", flat=True)) == ["live"]


def test_a_chore_that_fails_does_not_keep_the_others_from_their_turn(monkeypatch, caplog):
    done = []

    def broken():
        raise ValueError("a bug")

    monkeypatch.setattr(housekeeping, "_chores", [broken, lambda: done.append(True)])
    housekeeping.do_chores()
    assert done == [True]
    assert "broken failed" in caplog.text
