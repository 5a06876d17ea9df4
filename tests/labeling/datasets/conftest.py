"""A signed-in owner with a dataset, the folder of recordings, and the workers' side of the queue."""

import shutil
from pathlib import Path

import pytest
from rest_framework.test import APIClient

from core import work
from core.models import WorkStatus
from labeling.datasets.models import Operation
from tests.factories import DatasetFactory, UserFactory

REAL_SVO2 = "svo2_zed2i/test.svo2"


@pytest.fixture(autouse=True)
def hints(monkeypatch):
    """What was put into the queue, instead of the queue."""
    sent = []
    monkeypatch.setattr(work, "hint", lambda label, pk, queue: sent.append(pk))
    return sent


@pytest.fixture
def finish():
    """Do what the workers would do, until the operation stands still."""

    def run(operation_or_id) -> Operation:
        pk = getattr(operation_or_id, "pk", operation_or_id)
        for _ in range(50):
            work.advance("datasets.Operation", str(pk))
            operation = Operation.objects.get(pk=pk)
            if operation.status != WorkStatus.RUNNING:
                return operation
        raise AssertionError(f"still running: {operation.message}")

    return run


@pytest.fixture
def owner(db):
    return UserFactory(name="Olga")


@pytest.fixture
def dataset(owner):
    return DatasetFactory(owner=owner, name="Street")


@pytest.fixture
def client(owner) -> APIClient:
    client = APIClient()
    client.force_authenticate(owner)
    return client


@pytest.fixture
def client_of():
    def make(user) -> APIClient:
        client = APIClient()
        client.force_authenticate(user)
        return client

    return make


@pytest.fixture
def recordings(home) -> Path:
    """The one data root, empty."""
    return home / "recordings"


@pytest.fixture
def svo2(data_folder, recordings) -> Path:
    """A copy of the recording of a real ZED 2i, without its calibration."""
    return Path(shutil.copyfile(data_folder / REAL_SVO2, recordings / "test.svo2"))
