"""A finished job to export, and a way to do background work at once."""

import pytest

from accounts.models import User
from labeling.jobs.models import ProcessingJob
from tests.factories import UserFactory
from tests.labeling.review.scenes import make_job


@pytest.fixture
def owner(db) -> User:
    return UserFactory()


@pytest.fixture
def job(owner) -> ProcessingJob:
    return make_job(owner=owner, frames=10, sequences=2)


@pytest.fixture(autouse=True)
def no_queue(monkeypatch):
    """Hints go nowhere: a test does the work itself, with `core.work.advance`."""
    monkeypatch.setattr("core.work.hint", lambda *_: None)
