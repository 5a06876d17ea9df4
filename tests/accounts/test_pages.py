"""Signing in and out, passwords, the profile."""

import re
from datetime import timedelta

import pytest
from django.core import mail
from django.core.management import CommandError, call_command
from django.urls import reverse
from django.utils import timezone

from accounts.models import ApiKey, User
from accounts.services import create_api_key
from accounts.views import RESETS
from core.models import AuditEvent
from core.throttling import SIGN_INS
from tests.factories import ApiKeyFactory, UserFactory

pytestmark = pytest.mark.django_db
SIGN_IN, PROFILE = "/accounts/sign-in", "/accounts/profile"
PASSWORD = "a long password"


@pytest.fixture
def user():
    return UserFactory(email="ada@example.org", name="Ada")


def test_people_sign_in_by_e_mail_however_they_type_it(client, user):
    response = client.post(SIGN_IN, {"username": " ADA@example.org ", "password": PASSWORD, "next": PROFILE})
    assert (response.status_code, response["Location"]) == (302, PROFILE)
    assert "Ada" in client.get(PROFILE).content.decode()


def test_signing_in_leads_nowhere_else(client, user):
    response = client.post(SIGN_IN, {"username": user.email, "password": PASSWORD, "next": "https://evil.example"})
    assert response["Location"] == reverse("home")


def test_a_wrong_password_is_told_in_the_same_words_as_an_unknown_address(client, user):
    wrong = client.post(SIGN_IN, {"username": user.email, "password": "nope"})
    unknown = client.post(SIGN_IN, {"username": "nobody@example.org", "password": "nope"})
    told = [re.search(r'role="alert">(.*?)<', page.content.decode()).group(1) for page in (wrong, unknown)]
    assert told[0] == told[1]


def test_after_five_failures_even_the_right_password_is_refused_from_there(client, user):
    for number in range(5):
        typed = user.email.upper() if number % 2 else user.email
        response = client.post(SIGN_IN, {"username": typed, "password": "nope"})
    assert response.status_code == 429
    assert "Too many attempts" in response.content.decode()
    assert client.post(SIGN_IN, {"username": user.email, "password": PASSWORD}).status_code == 429
    elsewhere = client.post(SIGN_IN, {"username": user.email, "password": PASSWORD}, REMOTE_ADDR="198.51.100.7")
    assert elsewhere.status_code == 302


def test_the_door_of_the_admin_is_locked_by_the_same_count(client, user):
    for _ in range(5):
        client.post("/admin/login/", {"username": user.email, "password": "nope"})
    assert client.post(SIGN_IN, {"username": user.email, "password": PASSWORD}).status_code == 429


def test_disabled_people_cannot_sign_in(client, user):
    user.is_active = False
    user.save()
    assert client.post(SIGN_IN, {"username": user.email, "password": PASSWORD}).status_code == 200


def test_signing_out_takes_a_post(client, user):
    client.force_login(user)
    assert client.get("/accounts/sign-out").status_code == 405
    assert client.post("/accounts/sign-out")["Location"] == SIGN_IN
    assert client.get(PROFILE).status_code == 302


def test_changing_the_password_signs_other_devices_out(client, user):
    other = type(client)()
    other.force_login(user)
    client.force_login(user)
    form = {"old_password": PASSWORD, "new_password1": "another passphrase", "new_password2": "another passphrase"}
    assert client.post("/accounts/password", form)["Location"] == PROFILE
    assert client.get(PROFILE).status_code == 200
    assert other.get(PROFILE).status_code == 302


@pytest.mark.parametrize("weak", ["short", "password1234", "ada@example.org"])
def test_weak_passwords_are_refused_with_the_reason(client, user, weak):
    client.force_login(user)
    page = client.post("/accounts/password", {"old_password": PASSWORD, "new_password1": weak, "new_password2": weak})
    assert page.status_code == 200
    assert "errorlist" in page.content.decode()


def test_a_forgotten_password_is_replaced_through_a_link_that_works_once(client, user):
    assert client.post("/accounts/password-reset", {"email": user.email})["Location"] == "/accounts/password-reset/sent"
    [letter] = mail.outbox
    assert letter.subject == "Choose a new password for Fovea"
    link = re.search(r"http://testserver(/accounts/password-reset/\S+)", letter.body).group(1)
    form = client.get(link)["Location"]
    assert "Choose a new password" in client.get(form).content.decode()
    new = {"new_password1": "another passphrase", "new_password2": "another passphrase"}
    assert client.post(form, new)["Location"] == SIGN_IN
    assert client.post(SIGN_IN, {"username": user.email, "password": "another passphrase"}).status_code == 302
    assert "used up" in type(client)().get(link, follow=True).content.decode()


def test_asking_for_a_reset_does_not_tell_who_has_an_account(client):
    response = client.post("/accounts/password-reset", {"email": "nobody@example.org"})
    assert (response["Location"], mail.outbox) == ("/accounts/password-reset/sent", [])
    assert client.get(response["Location"]).status_code == 200


def test_the_profile_saves_the_name(client, user):
    client.force_login(user)
    assert client.post(PROFILE, {"name": "Countess"}).status_code == 302
    user.refresh_from_db()
    assert user.name == "Countess"
    assert AuditEvent.objects.get(action="user.updated").after == {"name": "Countess"}


def test_a_new_key_is_on_the_page_once(client, user):
    client.force_login(user)
    page = client.post("/accounts/api-keys", {"name": "export", "access": "write", "days": "30"})
    text = re.search(r"fov_[a-z0-9]{8}_[\w-]{43}", page.content.decode()).group()
    assert "no-store" in page["Cache-Control"]
    assert type(client)().get("/api/v1/me", headers={"Authorization": f"Bearer {text}"}).json()["email"] == user.email
    assert text not in client.get(PROFILE).content.decode()
    assert 29 <= (ApiKey.objects.get().expires_at - ApiKey.objects.get().created_at).days <= 30


def test_a_key_without_a_name_is_refused_on_the_page(client, user):
    client.force_login(user)
    assert client.post("/accounts/api-keys", {"name": "", "access": "write"}).status_code == 400
    assert not ApiKey.objects.exists()


def test_ones_own_key_is_revoked_on_the_page_and_nobody_elses(client, user):
    client.force_login(user)
    key, _ = create_api_key(user=user, name="export")
    client.post(f"/accounts/api-keys/{key.pk}/revoke")
    key.refresh_from_db()
    assert key.state == "revoked"
    assert client.post(f"/accounts/api-keys/{ApiKeyFactory().pk}/revoke").status_code == 404


def test_names_are_escaped(client):
    user = UserFactory(name="<script>alert(1)</script>")
    client.force_login(user)
    assert "<script>alert" not in client.get(PROFILE).content.decode()


def test_the_first_administrator_is_made_once_with_a_password_kept_for_the_owner_alone(settings, capsys):
    settings.HOME.mkdir(exist_ok=True)
    call_command("ensure_admin", "--email", "Root@Example.org", "--generate")
    kept = settings.HOME / "admin_password"
    email, password = kept.read_text().split()
    assert password in capsys.readouterr().out
    assert kept.stat().st_mode & 0o777 == 0o600
    user = User.objects.get(email="root@example.org")
    assert user.is_superuser
    assert user.check_password(password)
    call_command("ensure_admin", "--email", "root@example.org", "--generate")
    assert password not in capsys.readouterr().out
    assert kept.read_text() == f"{email}\n{password}\n"


def test_the_administrators_password_may_come_from_a_file(tmp_path):
    (tmp_path / "password").write_text("correct horse battery\nignored\n")
    call_command("ensure_admin", "--email", "root@example.org", "--password-file", str(tmp_path / "password"))
    assert User.objects.get(email="root@example.org").check_password("correct horse battery")


def test_the_command_says_what_is_wrong(tmp_path, user):
    (tmp_path / "weak").write_text("short\n")
    with pytest.raises(CommandError, match="too short"):
        call_command("ensure_admin", "--email", "root@example.org", "--password-file", str(tmp_path / "weak"))
    with pytest.raises(CommandError, match="cannot be read"):
        call_command("ensure_admin", "--email", "root@example.org", "--password-file", str(tmp_path / "none"))
    with pytest.raises(CommandError, match="no active administrator"):
        call_command("ensure_admin", "--email", user.email, "--generate")
    with pytest.raises(CommandError, match="valid email"):
        call_command("ensure_admin", "--email", "nonsense", "--generate")


def test_an_address_that_tries_one_account_after_another_is_slowed_down(client, user):
    limit, seconds = SIGN_INS
    for number in range(limit):
        tried = client.post(SIGN_IN, {"username": f"someone{number}@example.org", "password": "nope"})
        assert tried.status_code == 200
    refused = client.post(SIGN_IN, {"username": user.email, "password": PASSWORD})
    assert (refused.status_code, refused["Retry-After"]) == (429, str(seconds))
    assert client.post("/admin/login/", {"username": user.email, "password": PASSWORD}).status_code == 429
    elsewhere = client.post(SIGN_IN, {"username": user.email, "password": PASSWORD}, REMOTE_ADDR="198.51.100.7")
    assert elsewhere.status_code == 302


def test_nobodys_mailbox_is_filled_with_links(client, user):
    for number in range(5):
        response = client.post("/accounts/password-reset", {"email": user.email}, REMOTE_ADDR=f"198.51.100.{number}")
        assert response["Location"] == "/accounts/password-reset/sent"
    assert len(mail.outbox) == 3
    AuditEvent.objects.update(created_at=timezone.now() - timedelta(hours=2))
    client.post("/accounts/password-reset", {"email": user.email})
    assert len(mail.outbox) == 4


def test_an_address_asks_for_so_many_new_passwords_and_no_more(client):
    limit, _ = RESETS
    statuses = [
        client.post("/accounts/password-reset", {"email": f"p{number}@example.org"}).status_code
        for number in range(limit + 1)
    ]
    assert statuses == [302] * limit + [429]
