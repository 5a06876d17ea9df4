"""The audit trail knows who, what, where and in which request."""

import datetime
import uuid

import pytest
from django.db import transaction

from accounts.services import create_api_key
from core import audit
from core.models import AuditEvent
from tests.factories import DatasetFactory, DatasetFileFactory, LabelClassFactory, UserFactory

pytestmark = pytest.mark.django_db


def test_an_event_knows_its_actor_object_and_dataset():
    user, dataset = UserFactory(), DatasetFactory()
    event = audit.record(user, "dataset.updated", dataset, before={"name": "a"}, after={"name": "b"})
    assert (event.actor, event.object_type, event.object_id) == (user, "datasets.dataset", str(dataset.pk))
    assert (event.dataset_id, event.before, event.after) == (dataset.pk, {"name": "a"}, {"name": "b"})


def test_what_lies_in_a_dataset_is_found_by_it():
    dataset = DatasetFactory()
    for row in (DatasetFileFactory(dataset=dataset), LabelClassFactory(dataset=dataset)):
        assert audit.record(None, "tested", row).dataset_id == dataset.pk
    assert audit.record(None, "tested", UserFactory()).dataset_id is None


def test_values_that_json_does_not_know_are_kept_as_text():
    moment, some_id = datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC), uuid.uuid4()
    event = audit.record(None, "tested", UserFactory(), after={"at": moment, "id": some_id})
    event.refresh_from_db()
    assert event.after == {"at": "2026-01-02T00:00:00Z", "id": str(some_id)}


def test_an_event_goes_with_the_transaction_it_tells_of():
    with transaction.atomic():
        audit.record(None, "tested", UserFactory())
        transaction.set_rollback(True)
    assert not AuditEvent.objects.exists()


def test_the_request_is_named(client):
    user = UserFactory()
    client.force_login(user)
    client.patch("/api/v1/me", {"name": "Ada"}, content_type="application/json", headers={"X-Request-ID": "trace-1"})
    assert AuditEvent.objects.get(action="user.updated").request_id == "trace-1"


def test_who_made_a_key_is_on_record_without_the_key():
    user = UserFactory()
    key, text = create_api_key(user=user, name="export")
    event = AuditEvent.objects.get(action="api_key.created")
    assert (event.actor, event.object_id) == (user, str(key.pk))
    assert text.rpartition("_")[2] not in str(event.after)
