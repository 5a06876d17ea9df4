"""In a real browser: stepping, views, filters and the way to the export."""

import os
import socket
import threading
from pathlib import Path
from urllib.parse import parse_qs, urlparse

import cv2
import numpy as np
import pytest
from django.conf import settings
from django.test import Client
from django.utils import timezone

from core.model_door import address
from labeling.jobs.models import Detection, Frame
from pipeline.segmentation.model_client import short_address
from pipeline.segmentation.model_server import serve
from pipeline.storage.layout import SequenceLayout
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
        page.problems = problems
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


def test_where_the_model_is_not_sure_shines_through_the_picture(page, job):
    frame = Frame.objects.get(sequence__position=0, number=0)
    place = SequenceLayout(Path(settings.JOBS_ROOT) / str(job.pk) / frame.sequence.name).uncertainty(0)
    place.parent.mkdir()
    level = np.zeros((45, 80), np.uint8)
    level[:, 40:] = 255
    cv2.imwrite(str(place), level)
    Frame.objects.filter(pk=frame.pk).update(uncertainty=0.5)
    assert page.is_disabled("[data-toggle=uncertainty]")
    page.reload()
    page.wait_for_selector("#detections li")
    assert "uncertainty 50.0%" in page.inner_text("#facts")
    red = """() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => {
        const canvas = document.querySelector('#stage canvas');
        const at = (x) => canvas.getContext('2d').getImageData(canvas.width * x, canvas.height * 0.8, 1, 1).data[0];
        done([at(0.25), at(0.75)]);
    })))"""
    before = page.evaluate(red)
    page.keyboard.press("u")
    page.wait_for_selector("#uncertainty-legend:not([hidden])")
    sure, unsure = page.evaluate(red)
    assert sure < before[0] - 20
    assert unsure > before[1] + 40
    page.fill("#opacity", "0.3")
    fainter = page.evaluate(red)
    assert sure < fainter[0]
    assert fainter[1] < unsure
    page.keyboard.press("ArrowRight")  # the next frame has no map
    page.wait_for_selector("#uncertainty-legend[hidden]", state="attached")


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


def test_a_person_confirms_and_corrects_by_keyboard_alone(page, owner):
    first = "#detections button >> nth=0"
    page.keyboard.press("Enter")  # nothing is chosen: choose what nobody confirmed
    assert page.get_attribute(first, "aria-pressed") == "true"
    page.keyboard.press("3")  # with an object chosen: its class, by number
    page.wait_for_selector("#detections li:nth-child(1) [data-part=tick]:not([hidden])")
    assert page.inner_text(f"{first} >> [data-part=name]") == "Traffic cone"
    assert page.get_attribute("#detections button >> nth=1", "aria-pressed") == "true"  # on to the next
    page.keyboard.press("Enter")
    page.wait_for_selector("#detections li:nth-child(2) [data-part=tick]:not([hidden])")
    assert page.inner_text("#confirmed-count") == "2 confirmed ·"
    said = Detection.objects.filter(confirmed_by=owner).order_by("instance")
    assert [row.label_class.name for row in said] == ["Traffic cone", "Car"]
    page.keyboard.press("z")
    page.wait_for_selector("#detections li:nth-child(2) [data-part=tick][hidden]", state="attached")
    page.keyboard.press("z")
    page.wait_for_selector("#detections li:nth-child(1) [data-part=tick][hidden]", state="attached")
    assert page.inner_text(f"{first} >> [data-part=name]") == "Car"
    assert not said.all().exists()
    page.wait_for_selector("#undo[disabled]")
    page.keyboard.press("Escape")
    page.keyboard.press("3")  # with nothing chosen the number is the view again
    page.wait_for_selector("[data-view=depth][aria-pressed=true]")


def test_another_persons_change_is_shown_and_not_overwritten(page, job, owner):
    detection = job.detections.filter(frame__number=0, frame__sequence__position=0).earliest("instance")
    Detection.objects.filter(pk=detection.pk).update(
        label_class=job.dataset.label_classes.get(number=2), confirmed_at=timezone.now(), version=2
    )
    page.locator("#detections button").first.click()
    page.click("[data-label='3']")
    page.wait_for_selector(".toast[data-kind=error]:has-text('someone else')")
    assert page.inner_text("#detections button >> nth=0 >> [data-part=name]") == "Person"
    detection.refresh_from_db()
    assert detection.version == 2
    page.problems.clear()  # the browser tells of the 412 by itself


def test_the_arrows_step_through_the_least_sure_frames_first(page, job):
    for number, uncertainty in ((7, 0.2), (3, 0.4), (12, 0.1)):
        Frame.objects.filter(sequence__position=0, number=number).update(uncertainty=uncertainty)
    page.keyboard.press("o")
    _at(page, 3)
    for key, number in (("ArrowRight", 7), ("ArrowRight", 12), ("ArrowRight", 12), ("ArrowLeft", 7)):
        page.keyboard.press(key)
        _at(page, number)
    page.keyboard.press("o")  # time again
    page.keyboard.press("ArrowRight")
    _at(page, 8)


@pytest.fixture
def served(settings):
    """The process that keeps models, in a thread."""
    place = address()
    place.parent.mkdir(parents=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with short_address(place) as short:
        listener.bind(short)
    listener.listen(8)
    listener.setblocking(False)
    thread = threading.Thread(target=serve, args=(listener, settings.JOBS_ROOT, [], 10.0), daemon=True)
    thread.start()
    yield
    thread.join(15)
    listener.close()


def _on_stage(page, x, y):
    """Where on the screen a pixel of the 320 × 180 frame is."""
    box = page.locator("#stage").bounding_box()
    scale = min(box["width"] / 320, box["height"] / 180)
    left, top = box["x"] + (box["width"] - 320 * scale) / 2, box["y"] + (box["height"] - 180 * scale) / 2
    return left + x * scale, top + y * scale


def test_a_box_around_what_was_missed_becomes_an_object_and_is_taken_back(page, job, owner, served):
    frame = Frame.objects.get(sequence__position=0, number=0)
    there = frame.detections.get(label_class__number=3)
    before = page.locator("#detections li").count()
    page.keyboard.press("a")
    assert "drag a box" in page.inner_text("#prompt-hint")
    page.mouse.move(*_on_stage(page, there.x - 3, there.y - 3))
    page.mouse.down()
    page.mouse.move(*_on_stage(page, there.x + there.width + 3, there.y + there.height + 3), steps=4)
    page.mouse.up()
    page.wait_for_selector("#prompt-hint:has-text('quality')")
    page.keyboard.press("Escape")  # thrown away
    page.wait_for_selector("#prompt-hint:has-text('drag a box')")
    page.mouse.move(*_on_stage(page, there.x - 3, there.y - 3))
    page.mouse.down()
    page.mouse.move(*_on_stage(page, there.x + there.width + 3, there.y + there.height + 3), steps=4)
    page.mouse.up()
    page.wait_for_selector("#prompt-hint:has-text('quality')")
    page.keyboard.press("3")
    page.wait_for_selector("#prompt-hint:has-text('Traffic cone')")
    page.keyboard.press("Enter")
    page.wait_for_function("n => document.querySelectorAll('#detections li').length === n", arg=before + 1)
    made = Detection.objects.get(frame=frame, prompted_segmenter="classical")
    assert (made.label_class.number, made.confirmed_by, made.source) == (3, owner, "human")
    overlap = min(made.x + made.width, there.x + there.width) - max(made.x, there.x)
    assert overlap > 0.7 * there.width
    page.keyboard.press("Escape")
    page.wait_for_selector("#add[aria-pressed=false]")
    page.keyboard.press("z")
    page.wait_for_function("n => document.querySelectorAll('#detections li').length === n", arg=before)
    assert not Detection.objects.filter(pk=made.pk).exists()


def test_where_no_model_answers_the_page_says_so(page, job):
    page.keyboard.press("a")
    page.mouse.click(*_on_stage(page, 100, 100))
    page.wait_for_selector(".toast[data-kind=error]:has-text('start a worker')")
    page.problems.clear()  # the browser tells of the 503 by itself
