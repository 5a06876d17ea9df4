"""The form of a new job in a real browser: what the choices imply is told while choosing."""

import os
from pathlib import Path

import pytest
from django.test import Client

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]
CHROMIUM = Path("/usr/bin/chromium")
os.environ.setdefault("DJANGO_ALLOW_ASYNC_UNSAFE", "true")  # playwright keeps an event loop in this thread


@pytest.fixture
def page(live_server, manager, dataset):
    playwright = pytest.importorskip("playwright.sync_api")
    if not CHROMIUM.exists():
        pytest.skip("Chromium is not installed")
    client = Client()
    client.force_login(manager)
    problems = []
    with playwright.sync_playwright() as api:
        browser = api.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        context = browser.new_context(viewport={"width": 1280, "height": 900}, base_url=live_server.url)
        context.add_cookies([{"name": "sessionid", "value": client.cookies["sessionid"].value, "url": live_server.url}])
        page = context.new_page()
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("console", lambda message: message.type == "error" and problems.append(message.text))
        page.goto(f"/jobs/create?dataset={dataset.pk}")
        yield page
        browser.close()
    assert problems == []


def test_the_form_tells_what_will_run_and_hides_what_does_not_matter(page):
    page.wait_for_selector("[data-plan]:has-text('extraction → segmentation → reconstruction → tracking')")
    assert page.is_hidden("#id_sam3_variant")  # no segmenter with sizes is chosen
    for name in ("tracking", "reconstruction"):
        page.uncheck(f"[name=stages_to_run][value={name}]")
    assert page.inner_text("[data-plan]") == "extraction → segmentation"
    assert page.is_hidden("#id_similarity_threshold")
    page.check("#id_enable_diversity_filter")
    assert page.is_visible("#id_similarity_threshold")


def test_a_segmenter_that_cannot_run_here_says_why_and_how_to_get_it(page):
    card = page.locator(".choice", has=page.locator("[name=segmenter][value=sam2]"))
    assert card.locator("input").is_disabled()
    text = card.inner_text()
    assert "Why not" in text
    assert "manage.py models get sam2.1-tiny" in text
    assert "None yet: classes come from the segmenter alone" in page.inner_text("main")
