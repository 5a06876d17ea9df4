"""The job page in a real browser, while a real worker does the job."""

import shutil

import pytest

from tests.core.running import Fovea, session_of

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(240)]

CREATE = """
from accounts.models import User
from labeling.jobs.services import create_job
user = User.objects.get(email="mira@example.org")
print(create_job(user=user, input_paths=[{path!r}], parameters={{"stages_to_run": ["extraction"]}}).pk)
"""


@pytest.fixture(scope="module")
def fovea(tmp_path_factory, data_folder):
    fovea = Fovea(tmp_path_factory.mktemp("page"))
    for name in ("test.svo2", "SN33234316.conf"):
        shutil.copy(data_folder / "svo2_zed2i" / name, fovea.home / "recordings" / name)
    fovea.up("--workers=1")
    fovea.cookie = session_of(fovea, "mira@example.org")
    yield fovea
    fovea.remove()


@pytest.fixture
def page(fovea):
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        context = browser.new_context(viewport={"width": 1280, "height": 900})
        context.add_cookies([{"name": "sessionid", "value": fovea.cookie, "url": fovea.address}])
        page = context.new_page()
        page.problems = []
        page.on("pageerror", lambda error: page.problems.append(str(error)))
        yield page
        browser.close()


@pytest.fixture
def job(fovea):
    path = str(fovea.home / "recordings" / "test.svo2")
    return fovea.shell(CREATE.format(path=path)).splitlines()[-1]


def status(page, expected, timeout=60_000):
    page.wait_for_selector(f"[data-job-status][data-status={expected}]", timeout=timeout)


def test_a_job_is_started_paused_and_resumed_from_the_keyboard_and_watched_to_its_end(fovea, page, job):
    page.goto(f"{fovea.address}/jobs/{job}")
    page.wait_for_selector("[data-connection][data-state=live]")
    page.keyboard.press("s")
    status(page, "running")
    page.wait_for_selector("[data-verb=pause]:not([hidden])")
    bar = page.locator("[data-stage=extraction] progress")
    fovea.wait(lambda: bar.evaluate("element => element.value") > 0.05, 60)
    page.keyboard.press("p")
    status(page, "paused")
    assert page.locator("[data-verb=resume]").is_visible()
    assert not page.locator("[data-verb=pause]").is_visible()
    page.keyboard.press("r")
    status(page, "completed")
    fovea.wait(lambda: page.locator("[data-percent]").inner_text() == "100 %", 10)
    fovea.wait(lambda: page.locator("[data-refresh=found] .stat-value").first.inner_text() == "12", 10)
    lines = page.locator("[data-log] div").all_inner_texts()
    for text in ("Started by", "Paused by", "Resumed by", "Extraction of test finished: 12 frames", "Completed."):
        assert sum(text in line for line in lines) == 1, (text, lines)
    assert page.problems == []


def test_without_a_socket_the_page_asks_every_two_seconds(fovea, page, job):
    page.route_web_socket("**/ws/live**", lambda socket: socket.close())
    page.goto(f"{fovea.address}/jobs/{job}")
    page.wait_for_selector("[data-connection][data-state=polling]")
    fovea.shell(
        "from labeling.jobs.models import ProcessingJob\n"
        "from labeling.jobs.services import start_job\n"
        f"start_job(job=ProcessingJob.objects.get(pk={job!r}), user=None)"
    )
    status(page, "completed")
    assert page.problems == []


def test_the_form_makes_a_job_and_tells_what_depends_on_what(fovea, page):
    page.goto(f"{fovea.address}/jobs/create")
    for stage in ("extraction", "segmentation", "reconstruction"):
        page.locator(f"input[value={stage}]").uncheck()
    assert page.locator("[data-plan]").inner_text() == "extraction → segmentation → reconstruction → tracking"
    assert "tracking depends on it" in page.locator("[data-implied=segmentation]").inner_text()
    page.locator("input[value=tracking]").uncheck()
    page.locator("input[value=extraction]").check()
    assert not page.locator("[data-segmentation]").is_visible()
    page.fill("#id_input_paths", "/nowhere/at-all.svo2")
    page.get_by_role("button", name="Create only").click()
    assert "outside the folders" in page.locator(".errorlist").inner_text()
    page.fill("#id_input_paths", str(fovea.home / "recordings" / "test.svo2"))
    page.get_by_role("button", name="Create only").click()
    page.wait_for_url("**/jobs/*-*")
    status(page, "pending")
    assert page.problems == []
