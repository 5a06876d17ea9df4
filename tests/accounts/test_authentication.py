"""API keys as credentials."""

from datetime import timedelta

import pytest
from django.utils import timezone
from rest_framework.test import APIClient

from accounts.authentication import digest_of
from accounts.models import ApiKey
from accounts.services import create_api_key, revoke_api_key
from core.errors import ConflictError, FieldError
from core.models import AuditEvent
from tests.factories import ApiKeyFactory, UserFactory

pytestmark = pytest.mark.django_db
ME = "/api/v1/me"


def asking(text: str, scheme: str = "Bearer") -> APIClient:
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"{scheme} {text}")
    return client


@pytest.fixture
def user():
    return UserFactory()


@pytest.mark.parametrize("scheme", ["Bearer", "Token", "bearer"])
def test_a_key_stands_for_its_user(user, scheme):
    _, text = create_api_key(user=user, name="export")
    response = asking(text, scheme).get(ME)
    assert (response.status_code, response.json()["email"]) == (200, user.email)


def test_the_secret_is_kept_nowhere(user):
    key, text = create_api_key(user=user, name="export")
    secret = text.rpartition(f"fov_{key.prefix}_")[2]
    assert len(secret) >= 43  # 256 bits in base64
    assert key.digest == digest_of(secret)
    kept = str(list(ApiKey.objects.values())) + str(list(AuditEvent.objects.values()))
    assert secret not in kept


@pytest.mark.parametrize(
    "text",
    ["", "fov_", "fov_abc", "nonsense", "fov_abcdefgh_" + "x" * 43, "fov_ABC_" + "x" * 43, "fov_a_\u00e9" + "x" * 43],
)
def test_what_is_no_key_is_401(user, text):
    create_api_key(user=user, name="export")
    response = asking(text).get(ME)
    assert response.status_code == 401
    assert response["WWW-Authenticate"].startswith("Bearer")
    assert response["Content-Type"] == "application/problem+json"


def test_a_right_prefix_with_a_wrong_secret_is_401(user):
    key, text = create_api_key(user=user, name="export")
    assert asking(text[:-1] + ("a" if text[-1] != "a" else "b")).get(ME).status_code == 401
    assert asking(f"fov_{key.prefix}_{key.digest}").get(ME).status_code == 401


def test_expired_and_revoked_keys_and_those_of_disabled_people_are_401(user):
    key, text = create_api_key(user=user, name="export", expires_at=timezone.now() + timedelta(hours=1))
    assert asking(text).get(ME).status_code == 200
    ApiKey.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    assert "expired" in asking(text).get(ME).json()["detail"]
    ApiKey.objects.update(expires_at=None)
    user.is_active = False
    user.save()
    assert asking(text).get(ME).status_code == 401
    user.is_active = True
    user.save()
    revoke_api_key(key=key, actor=user)
    response = asking(text).get(ME)
    assert (response.status_code, "revoked" in response.json()["detail"]) == (401, True)


def test_a_bad_key_is_not_made_good_by_a_session(user):
    client = asking("fov_abcdefgh_" + "x" * 43)
    client.force_login(user)
    assert client.get(ME).status_code == 401


def test_a_read_only_key_reads_and_nothing_else(user):
    _, text = create_api_key(user=user, name="look", access="read")
    assert asking(text).get(ME).status_code == 200
    response = asking(text).patch(ME, {"name": "New"})
    assert (response.status_code, response.json()["code"]) == (403, "read_only_key")
    _, text = create_api_key(user=user, name="write", access="write")
    assert asking(text).patch(ME, {"name": "New"}).json()["name"] == "New"


def test_last_use_is_noted_at_most_once_a_minute(user):
    key, text = create_api_key(user=user, name="export")
    asking(text).get(ME)
    key.refresh_from_db()
    first = key.last_used_at
    assert timezone.now() - first < timedelta(seconds=10)
    asking(text).get(ME)
    key.refresh_from_db()
    assert key.last_used_at == first
    ApiKey.objects.update(last_used_at=first - timedelta(seconds=61))
    asking(text).get(ME)
    key.refresh_from_db()
    assert key.last_used_at > first


def test_a_request_with_a_key_costs_one_query(user, django_assert_num_queries):
    _, text = create_api_key(user=user, name="export")
    asking(text).get(ME)
    with django_assert_num_queries(1):
        asking(text).get(ME)


def test_keys_are_made_in_a_session_and_shown_once(user):
    client = APIClient()
    client.force_login(user)
    made = client.post("/api/v1/api-keys", {"name": "export", "access": "write"})
    assert (made.status_code, made["Cache-Control"]) == (201, "no-store")
    assert asking(made.json()["key"]).get(ME).status_code == 200
    listed = client.get("/api/v1/api-keys").json()["results"]
    assert [key["name"] for key in listed] == ["export"]
    assert "key" not in listed[0]
    assert "digest" not in listed[0]


def test_a_key_cannot_make_or_revoke_keys(user):
    key, text = create_api_key(user=user, name="export", access="write")
    client = asking(text)
    assert client.post("/api/v1/api-keys", {"name": "another"}).json()["code"] == "session_required"
    assert client.delete(f"/api/v1/api-keys/{key.pk}").status_code == 403


def test_a_key_is_revoked_for_good_and_stays_in_the_list(user):
    client = APIClient()
    client.force_login(user)
    key, text = create_api_key(user=user, name="export")
    assert client.delete(f"/api/v1/api-keys/{key.pk}").status_code == 204
    assert asking(text).get(ME).status_code == 401
    assert client.get(f"/api/v1/api-keys/{key.pk}").json()["state"] == "revoked"
    assert client.delete(f"/api/v1/api-keys/{key.pk}").status_code == 204
    assert AuditEvent.objects.filter(action="api_key.revoked").count() == 1


def test_other_peoples_keys_do_not_exist(user):
    key = ApiKeyFactory()
    client = APIClient()
    client.force_login(user)
    assert client.get(f"/api/v1/api-keys/{key.pk}").status_code == 404
    assert client.delete(f"/api/v1/api-keys/{key.pk}").status_code == 404
    assert client.get("/api/v1/api-keys").json()["results"] == []


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", " "),
        ("name", "x" * 81),
        ("access", "admin"),
        ("expires_at", "2001-01-01T00:00:00Z"),
        ("expires_at", "soon"),
    ],
)
def test_wrong_fields_of_a_new_key_are_named(user, field, value):
    client = APIClient()
    client.force_login(user)
    response = client.post("/api/v1/api-keys", {"name": "export", field: value})
    assert (response.status_code, response.json()["errors"][0]["field"]) == (400, field)
    assert not ApiKey.objects.exists()


def test_services_refuse_what_forms_would(user, monkeypatch):
    with pytest.raises(FieldError, match="access"):
        create_api_key(user=user, name="x", access="admin")
    monkeypatch.setattr("accounts.services.MAX_KEYS", 1)
    create_api_key(user=user, name="x")
    with pytest.raises(ConflictError, match="revoke one"):
        create_api_key(user=user, name="y")


def test_a_session_must_prove_where_a_write_comes_from(user):
    client = APIClient(enforce_csrf_checks=True)
    client.force_login(user)
    response = client.patch(ME, {"name": "Forged"})
    assert (response.status_code, response["Content-Type"]) == (403, "application/problem+json")
