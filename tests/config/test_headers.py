"""What every answer carries to keep browsers out of trouble."""

import re
from pathlib import Path

import pytest
from django.conf import settings as django_settings

from tests.factories import UserFactory

pytestmark = pytest.mark.django_db
ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    "address", ["/accounts/sign-in", "/accounts/profile", "/api/v1/me", "/api/v1/docs", "/nothing", "/admin/login/"]
)
def test_pages_and_api_are_neither_framed_nor_sniffed_and_run_no_foreign_script(client, address):
    client.force_login(UserFactory())
    response = client.get(address)
    policy = dict(part.strip().split(" ", 1) for part in response["Content-Security-Policy"].split(";") if part.strip())
    assert policy["default-src"] == "'self'"
    assert policy["object-src"] == "'none'"
    assert policy["frame-ancestors"] == "'none'"
    assert "unsafe" not in response["Content-Security-Policy"]
    assert response["X-Content-Type-Options"] == "nosniff"
    assert response["X-Frame-Options"] == "DENY"
    assert response["Referrer-Policy"] == "same-origin"
    assert response["X-Request-ID"]


def test_cookies_are_for_this_site_and_the_session_is_out_of_reach_of_scripts(client):
    UserFactory(email="ada@example.org")
    client.post("/accounts/sign-in", {"username": "ada@example.org", "password": "a long password"})
    session = client.cookies[django_settings.SESSION_COOKIE_NAME]
    assert session["httponly"]
    assert session["samesite"] == "Lax"


def test_unknown_hosts_are_refused(client):
    assert client.get("/healthz", headers={"host": "evil.example"}).status_code == 400


def test_templates_hold_no_inline_script_style_or_handler():
    forbidden = re.compile(r"<script(?![^>]*\bsrc=)(?![^>]*application/json)[^>]*>|<style|\sstyle=|\son\w+=", re.I)
    for path in (ROOT / "templates").rglob("*.html"):
        match = forbidden.search(path.read_text())
        assert match is None, f"{path.relative_to(ROOT)}: {match and match.group()}"


def test_nothing_is_loaded_from_elsewhere():
    loaded = re.compile(r"""(?:\ssrc|<link[^>]*\shref)=["'](?:https?:)?//""")
    for path in (ROOT / "templates").rglob("*.html"):
        assert not loaded.search(path.read_text()), path
