"""In a real browser: stepping, views, filters and the way to the export."""

import os
from pathlib import Path
from urllib.parse import parse_qs, urlparse

import pytest
from django.test import Client

from labeling.jobs.models import Frame
from tests.labeling.review.scenes import make_job

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]
CHROMIUM = Path("/usr/bin/chromium")
os.environ.setdefault("DJANGO_ALLOW_ASYNC_UNSAFE", "true")  # playwright keeps an event loop in this thread


@pytest.fixture
def job(owner):
    return make_job(owner=owner, frames=30, sequences=2, size=(320, 180))


@pytest.fixture
def page(live_server, owner, job):
    playwright = pytest.importorskip("playwright.sync_api")
    if not CHROMIUM.exists():
        pytest.skip("Chromium is not installed")
    client = Client()
    client.force_login(owner)
    problems = []
    with playwright.sync_playwright() as api:
        browser = api.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        context = browser.new_context(viewport={"width": 1280, "height": 800}, base_url=live_server.url)
        context.add_cookies([{"name": "sessionid", "value": client.cookies["sessionid"].value, "url": live_server.url}])
        page = context.new_page()
        page.set_default_timeout(15_000)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("console", lambda message: message.type == "error" and problems.append(message.text))
        page.goto(f"/review/{job.pk}/")
        page.wait_for_selector("#detections li")
        yield page
        browser.close()
    assert problems == []


def _at(page, number):
    from playwright.sync_api import expect

    expect(page.locator("#frame-number")).to_have_value(str(number), timeout=15_000)


def _drawn(page, canvas: int) -> int:
    """How many pixels of a layer of the stage are not transparent."""
    script = """n => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => {
        const canvas = document.querySelectorAll('#stage canvas')[n];
        const pixels = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
        done(pixels.filter((value, at) => at % 4 === 3 && value > 0).length);
    })))"""
    return page.evaluate(script, canvas)


def test_the_keyboard_steps_through_frames_and_the_address_follows(page, job):
    page.keyboard.press("ArrowRight")
    _at(page, 1)
    page.keyboard.press("Shift+ArrowRight")
    _at(page, 11)
    page.keyboard.press("End")
    _at(page, 29)
    frame = Frame.objects.get(sequence__position=0, number=29)
    page.wait_for_url(f"**?frame={frame.pk}")
    page.reload()
    _at(page, 29)
    page.keyboard.press("Home")
    _at(page, 0)


def test_layers_are_drawn_and_switched_off(page):
    assert _drawn(page, 0) > 100_000
    everything = _drawn(page, 1)
    assert everything > 1000
    page.keyboard.press("m")
    without_masks = _drawn(page, 1)
    for key in "bcl":
        page.keyboard.press(key)
    assert 0 == _drawn(page, 1) < without_masks < everything


def test_right_and_depth_have_their_own_pictures(page):
    for key, view in (("2", "right"), ("3", "depth"), ("1", "left")):
        page.keyboard.press(key)
        page.wait_for_selector(f"[data-view={view}][aria-pressed=true]")
        assert f"{view} view" in page.get_attribute("#stage", "aria-label")
    assert page.is_hidden("#depth-legend")


def test_filters_hide_objects_and_go_along_to_the_export(page, job):
    before = page.locator("#detections li").count()
    page.uncheck("[data-class='2']")
    page.fill("#confidence", "0.6")
    after = page.locator("#detections li").count()
    assert 0 < after < before
    assert page.inner_text("#detection-count") == f"{after} of {before}"
    page.click("#export")
    query = parse_qs(urlparse(page.url).query)
    assert query == {"job": [str(job.pk)], "excluded_class_ids": ["2"], "min_confidence": ["0.6"]}
    assert not page.is_checked("[name=classes][value='2']")
    page.wait_for_selector("#annotation-note:has-text('annotations on 60 frames')")


def test_an_object_is_chosen_in_the_list_and_stays_chosen_by_its_track(page):
    page.locator("#detections button").first.click()
    assert page.get_attribute("#detections button >> nth=0", "aria-pressed") == "true"
    track = page.inner_text("#detections button[aria-pressed=true] [data-part=track]")
    page.keyboard.press("ArrowRight")
    _at(page, 1)
    assert page.inner_text("#detections button[aria-pressed=true] [data-part=track]") == track
    page.keyboard.press("Escape")
    assert page.locator("#detections button[aria-pressed=true]").count() == 0


def test_a_click_on_the_picture_chooses_what_is_there(page):
    box = page.locator("#stage").bounding_box()
    scale = min(box["width"] / 320, box["height"] / 180)
    cone = page.evaluate(
        """async () => {
            const state = JSON.parse(document.getElementById('review-state').textContent);
            const answer = await fetch(`/api/v1/jobs/${state.job.id}/frames/batch?page_size=1`);
            return (await answer.json()).results[0].detections.find((item) => item.class_name === 'Traffic cone').bbox;
        }"""
    )
    x = box["x"] + (box["width"] - 320 * scale) / 2 + (cone[0] + cone[2] / 2) * scale
    y = box["y"] + (box["height"] - 180 * scale) / 2 + (cone[1] + cone[3] / 2) * scale
    page.mouse.click(x, y)
    assert page.inner_text("#detections button[aria-pressed=true] [data-part=name]") == "Traffic cone"


def test_the_other_recording_is_a_choice_away_and_plays(page):
    first = Frame.objects.get(sequence__position=1, number=0)
    page.select_option("#sequence", index=1)
    page.wait_for_url(f"**?frame={first.pk}")
    page.locator("#stage").click(position={"x": 5, "y": 5})
    page.keyboard.press(" ")
    page.wait_for_url(f"**?frame={Frame.objects.get(sequence__position=1, number=5).pk}")
    page.keyboard.press(" ")
    page.wait_for_selector("#play[aria-pressed=false]")


def test_help_lists_the_keys(page):
    page.keyboard.press("?")
    assert "Next frame" in page.inner_text("dialog[open]")
