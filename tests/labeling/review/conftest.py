import pytest
from rest_framework.test import APIClient

from tests.factories import UserFactory
from tests.labeling.review.scenes import make_job


@pytest.fixture
def owner(db):
    return UserFactory()


@pytest.fixture
def job(owner):
    return make_job(owner=owner, frames=4, sequences=2)


@pytest.fixture
def api(owner) -> APIClient:
    client = APIClient()
    client.force_authenticate(owner)
    return client
