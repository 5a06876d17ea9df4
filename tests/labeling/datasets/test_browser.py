"""In a real browser: a dataset is made, scanned, prepared, uploaded to, and its classes are edited."""

import os
import re
import shutil
import threading

import pytest
from django.db import connections

from core import work
from labeling.datasets.models import Dataset, Operation

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]
CHROMIUM = "/usr/bin/chromium"
os.environ.setdefault("DJANGO_ALLOW_ASYNC_UNSAFE", "true")  # playwright keeps an event loop in this thread


@pytest.fixture
def worker():
    """Does what the workers would do, in a thread beside the web server."""
    ends = threading.Event()

    def run():
        while not ends.wait(0.1):
            for pk in Operation.objects.filter(status="running").values_list("pk", flat=True):
                work.advance("datasets.Operation", str(pk))
        connections.close_all()

    thread = threading.Thread(target=run)
    thread.start()
    yield
    ends.set()
    thread.join()


@pytest.fixture
def page(live_server, owner, worker):
    playwright = pytest.importorskip("playwright.sync_api")
    if not os.path.exists(CHROMIUM):  # noqa: PTH110
        pytest.skip("Chromium is not installed")
    from django.test import Client

    client = Client()
    client.force_login(owner)
    with playwright.sync_playwright() as api:
        browser = api.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        context = browser.new_context(viewport={"width": 1280, "height": 900}, base_url=live_server.url)
        context.add_cookies([{"name": "sessionid", "value": client.cookies["sessionid"].value, "url": live_server.url}])
        page = context.new_page()
        page.set_default_timeout(20_000)
        page.problems = []
        page.on("pageerror", lambda error: page.problems.append(str(error)))
        page.on(
            "console",
            lambda message: page.problems.append(message.text) if "Content Security Policy" in message.text else None,
        )
        yield page
        browser.close()
    assert page.problems == []


def test_a_dataset_is_made_scanned_and_prepared(page, recordings, svo2, data_folder):
    shutil.copy(data_folder / "bad_files/made_here/empty.svo2", recordings)
    page.goto("/datasets/create")
    page.fill("[name=name]", "Yard")
    page.click("text=Browse…")
    page.wait_for_selector(".browser-entry").press("Enter")
    page.wait_for_selector(".browser-entry[data-type=recording]")
    page.click("text=Use this folder")
    page.click("text=Create dataset")
    page.wait_for_url(re.compile(r"/datasets/[0-9a-f-]{36}$"))
    page.click("text=Scan folder")
    page.wait_for_selector(".operation .badge[data-status=completed]")
    page.wait_for_selector(".files .badge[data-status=ready]")
    assert "empty.svo2 is empty" in page.inner_text(".files")
    assert "1 recording is not metric" in page.inner_text("#recordings")
    page.set_input_files("#calibration-file", data_folder / "svo2_zed2i/SN33234316.conf")
    page.click("text=Upload calibration")
    page.wait_for_selector(".files .badge[data-kind=success]:has-text('metric')")
    page.fill("#prepare-rename", "{serial}_{number:03d}")
    page.click("#prepare-form button")
    page.wait_for_selector(".files a:has-text('33234316_001.svo2')")
    file = Dataset.objects.get().files.get(status="ready")
    assert file.sha256
    assert file.metric


def test_a_wrong_pattern_is_told_at_its_field(page, dataset, svo2):
    from tests.factories import DatasetFileFactory

    DatasetFileFactory(dataset=dataset, path=str(svo2))
    page.goto(f"/datasets/{dataset.pk}")
    page.fill("#prepare-rename", "{nothing}")
    page.click("#prepare-form button")
    page.wait_for_selector("[data-error=rename]:has-text('There is no placeholder')")


def test_a_recording_is_uploaded_and_an_interrupted_one_goes_on_after_a_reload(page, dataset, data_folder):
    address = f"/datasets/{dataset.pk}"
    page.goto(address)
    page.set_input_files("#upload-input", data_folder / "svo2_zed2i/test.svo2")
    page.wait_for_selector(".files .badge[data-status=ready]")
    assert dataset.files.get().frame_count == 12

    # The connection fails once the upload is announced; after a reload the same file is given again.
    page.route("**/uploads/*", lambda route: route.abort() if route.request.method == "PATCH" else route.continue_())
    page.set_input_files("#upload-input", data_folder / "svo2_like/euroc_h264.svo2")
    page.wait_for_timeout(800)
    page.unroute("**/uploads/*")
    page.once("dialog", lambda dialog: dialog.accept())
    page.goto(address)
    page.wait_for_selector(".upload:has-text('Drop the file again')")
    page.set_input_files("#upload-input", data_folder / "svo2_like/euroc_h264.svo2")
    page.wait_for_selector(".files a:has-text('euroc_h264.svo2')")
    page.wait_for_selector(".upload:has-text('Drop the file again')", state="detached")
    assert dataset.uploads.count() == 2


def test_classes_are_edited_in_place(page, dataset):
    from tests.factories import LabelClassFactory

    label_class = LabelClassFactory(dataset=dataset, name="car")
    page.goto(f"/datasets/{dataset.pk}/classes")
    page.fill("tr[data-id] [name=length_m]", "4.2")
    page.press("tr[data-id] [name=length_m]", "Tab")
    page.wait_for_selector("#class-status:has-text('Saved.')")
    label_class.refresh_from_db()
    assert label_class.length_m == 4.2
    page.fill("#new-class", "CAR")
    page.click("text=Add class")
    page.wait_for_selector("#add-class [data-error]:has-text('There is already a class')")
    page.fill("#new-class", "tree")
    page.click("text=Add class")
    page.wait_for_selector("tr[data-id] [value=tree]")


def test_recordings_are_chosen_by_keyboard_and_checked(page, svo2, recordings, data_folder):
    shutil.copy(data_folder / "bad_files/made_here/empty.svo2", recordings)
    page.goto(f"/datasets/browse?path={recordings}")
    page.wait_for_selector(".browser-entry").focus()
    page.keyboard.press("Space")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Space")
    page.click("[data-validate]")
    page.wait_for_selector(".result .badge[data-status=broken]")
    assert "12 frames" in page.inner_text("[data-results]")
