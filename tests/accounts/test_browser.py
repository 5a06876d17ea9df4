"""In a real browser: signing in, a new key, signing out. No script is refused, no colour or label fails axe."""

import os
from pathlib import Path

import pytest

from accounts.models import ApiKey
from tests.factories import UserFactory

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]
CHROMIUM = Path("/usr/bin/chromium")
os.environ.setdefault("DJANGO_ALLOW_ASYNC_UNSAFE", "true")  # playwright keeps an event loop in this thread


@pytest.fixture
def page(live_server):
    playwright = pytest.importorskip("playwright.sync_api")
    if not CHROMIUM.exists():
        pytest.skip("Chromium is not installed")
    with playwright.sync_playwright() as api:
        browser = api.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        page = browser.new_context(viewport={"width": 1280, "height": 900}, base_url=live_server.url).new_page()
        page.set_default_timeout(20_000)
        problems: list[str] = []
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("console", lambda message: problems.append(message.text) if "Security Policy" in message.text else None)
        yield page
        browser.close()
    assert problems == []


def test_someone_signs_in_makes_a_key_revokes_it_and_signs_out(page):
    UserFactory(email="ada@example.org", name="Ada")
    page.goto("/accounts/profile")
    page.get_by_label("Email").fill("ada@example.org")
    page.get_by_label("Password").fill("wrong")
    page.get_by_role("button", name="Sign in").click()
    assert "correct" in page.get_by_role("alert").inner_text()
    page.get_by_label("Password").fill("a long password")
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url("**/accounts/profile")

    keys = page.get_by_role("region", name="API keys", exact=True)
    keys.get_by_label("Name").fill("Nightly export")
    keys.get_by_label("Access").select_option("write")
    keys.get_by_role("button", name="Create a key").click()
    text = page.get_by_label("API key", exact=True).input_value()
    assert text.startswith(f"fov_{ApiKey.objects.get().prefix}_")
    answer = page.request.get("/api/v1/me", headers={"Authorization": f"Bearer {text}"})
    assert answer.json()["name"] == "Ada"

    page.goto("/accounts/profile")
    assert text not in page.content()
    page.get_by_role("button", name="Revoke Nightly export").click()
    page.get_by_text("was revoked").wait_for()
    assert page.request.get("/api/v1/me", headers={"Authorization": f"Bearer {text}"}).status == 401

    page.get_by_text("Ada", exact=True).first.click()
    page.get_by_role("button", name="Sign out").click()
    page.wait_for_url("**/accounts/sign-in")


@pytest.mark.parametrize("address", ["/accounts/sign-in", "/accounts/password-reset", "/api/v1/docs"])
def test_open_pages_pass_axe(page, address):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    page.goto(address)
    violations = axe.run(page).response["violations"]
    assert [(found["id"], found["nodes"][0]["html"]) for found in violations] == []
