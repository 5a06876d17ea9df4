"""Small real recordings where a user may name them, and jobs over them."""

import shutil

import pytest

from accounts.models import Role
from core import work
from tests.factories import DatasetFactory, LabelClassFactory, MembershipFactory, UserFactory


@pytest.fixture
def hints(monkeypatch):
    """What was put into the queue, instead of the queue."""
    sent = []
    monkeypatch.setattr(work, "hint", lambda label, pk, queue: sent.append((label, pk, queue)))
    return sent


@pytest.fixture
def manager(db):
    return UserFactory(email="mira@example.org")


@pytest.fixture
def dataset(manager):
    dataset = DatasetFactory(name="Yard")
    MembershipFactory(dataset=dataset, user=manager, role=Role.MANAGER)
    size = {"height_m": 1.74, "width_m": 0.6, "length_m": 0.6}
    LabelClassFactory(dataset=dataset, number=1, name="person", **size)
    LabelClassFactory(dataset=dataset, number=2, name="chair", height_m=0.9, width_m=0.5, length_m=0.55)
    return dataset


@pytest.fixture
def street_recording(settings, street):
    folder = settings.DATA_ROOTS[0]
    shutil.copytree(street.recording.parent, folder, dirs_exist_ok=True)
    return folder / "demo.svo2"


@pytest.fixture
def recording(settings, data_folder):
    """The real ZED 2i file (12 frames) with its calibration, in a folder that may be read."""
    folder = settings.DATA_ROOTS[0]
    for name in ("test.svo2", "SN33234316.conf"):
        shutil.copy(data_folder / "svo2_zed2i" / name, folder / name)
    return folder / "test.svo2"
