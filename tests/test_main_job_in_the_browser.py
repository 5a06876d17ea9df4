"""The main job as a person does it, in a real browser: a recording goes in, a KITTI and COCO dataset comes out.

dataset → scan → prepare → job over all four stages → review → export → download → read back with others' readers.
"""

import hashlib
import json
import math
import re
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest

from tests.core.running import Fovea, session_of

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(240)]
CHROMIUM = Path("/usr/bin/chromium")


class MainJob:
    """Drives `page` (signed in, at `address`) through the main job."""

    def __init__(self, page, address: str) -> None:
        self.page, self.address = page, address

    def make_dataset(self, name: str, folder: Path) -> str:
        """Choose `folder` in the server's folder browser; gives the address of the dataset's page."""
        page = self.page
        page.goto(f"{self.address}/datasets/create")
        page.get_by_label("Name").fill(name)
        page.get_by_role("button", name="Browse…").click()
        # The deepest root that holds it, then down folder by folder.
        page.locator(".browser-entry").first.wait_for()
        roots = [item.get_attribute("data-path") for item in page.locator(".browser-entry").all()]
        here = max((Path(root) for root in roots if folder.is_relative_to(root)), key=lambda root: len(root.parts))
        page.locator(f'.browser-entry[data-path="{here}"]').click()
        for part in folder.relative_to(here).parts:
            here /= part
            page.locator(f'.browser-entry[data-path="{here}"]').click()
        page.locator("[data-chosen]", has_text=re.compile(f"^{re.escape(str(folder))}$")).wait_for()
        page.get_by_role("button", name="Use this folder").click()
        page.get_by_role("button", name="Create dataset").click()
        page.wait_for_url(re.compile(r"/datasets/[0-9a-f-]{36}$"))
        return page.url

    def scan(self) -> None:
        self.page.get_by_role("button", name="Scan folder").click()
        self.page.locator(".files tbody tr").first.wait_for(timeout=60_000)
        self.page.locator('.operation .badge[data-status="completed"]').wait_for(timeout=60_000)

    def prepare(self) -> None:
        self.page.get_by_role("button", name=re.compile(r"^Prepare \d+ recording")).click()
        self.page.locator(".files .badge", has_text="prepared").first.wait_for(timeout=60_000)

    def run_job(self, name: str, timeout: float = 60) -> str:
        """New job over everything; watch it until it has ended. Gives the address of the job's page."""
        page = self.page
        page.get_by_role("link", name="New job").click()
        page.get_by_label("Name", exact=True).fill(name)
        page.get_by_role("button", name="Create and start").click()
        page.wait_for_url(re.compile(r"/jobs/[0-9a-f-]{36}$"))
        page.locator('[data-connection][data-state="live"]').wait_for()
        ended = '[data-job-status]:is([data-status="completed"], [data-status="failed"])'
        page.locator(ended).wait_for(timeout=timeout * 1000)
        assert page.locator("[data-job-status]").get_attribute("data-status") == "completed", page.inner_text("main")
        return page.url

    def review_every_frame(self) -> tuple[int, int]:
        """Step through the frames by keyboard; gives how many frames there are and how many objects were listed."""
        page = self.page
        page.get_by_role("link", name="Review").click()
        page.locator("#frame-total").wait_for()
        page.locator("#strip button").first.wait_for()
        frames = 1 + int(re.sub(r"\D", "", page.inner_text("#frame-total")))  # they are numbered from 0
        objects = 0
        for number in range(frames):
            page.wait_for_function("n => document.querySelector('#frame-number').value === String(n)", arg=number)
            objects += page.locator("#detections li").count()
            if number + 1 < frames:
                page.keyboard.press("ArrowRight")
        return frames, objects

    def export(self, name: str) -> str:
        page = self.page
        page.get_by_role("link", name="Export…").click()
        page.get_by_label("Name", exact=True).fill(name)
        page.locator('input[name="format"][value="both"]').check()
        for option in page.locator('input[name^="include_"]').all():
            option.check()
        page.get_by_role("button", name="Export", exact=True).click()
        page.wait_for_url(re.compile(r"/training-datasets/[0-9a-f-]{36}$"))
        page.get_by_role("link", name="Download KITTI").wait_for(timeout=60_000)
        return page.url

    def teach(self, review: str) -> str:
        """Confirm what was found in a frame, add an object by hand, train a class head; gives its address."""
        page = self.page
        page.goto(review)
        page.locator("#detections li").first.wait_for()
        ticks = "[data-part=tick]:not([hidden])"
        for done in range(page.locator("#detections li").count()):
            if page.locator("#chosen").is_hidden():
                page.keyboard.press("Enter")  # choose one that nobody confirmed
            page.keyboard.press("Enter")  # confirm it; the next one is chosen
            page.wait_for_function(f"n => document.querySelectorAll('{ticks}').length === n", arg=done + 1)
        before = page.locator("#detections li").count()
        page.keyboard.press("a")
        stage = page.locator("#stage").bounding_box()
        page.mouse.move(stage["x"] + stage["width"] * 0.4, stage["y"] + stage["height"] * 0.4)
        page.mouse.down()
        page.mouse.move(stage["x"] + stage["width"] * 0.6, stage["y"] + stage["height"] * 0.7, steps=5)
        page.mouse.up()
        page.locator("#prompt-hint", has_text="quality").wait_for(timeout=90_000)  # a process starts for it
        page.keyboard.press("Enter")
        page.wait_for_function("n => document.querySelectorAll('#detections li').length === n", arg=before + 1)
        page.locator("#train:not([hidden])").click()
        page.get_by_role("button", name="Train a class head").click()
        page.wait_for_url(re.compile(r"/models/[0-9a-f-]{36}$"))
        page.locator(".badge", has_text=re.compile("^active$")).first.wait_for(timeout=60_000)
        return page.url

    def download(self, button: str, into: Path) -> Path:
        """Press the button, keep the ZIP, unpack it; gives the one folder in it."""
        with self.page.expect_download() as waiting:
            self.page.get_by_role("link", name=button, exact=True).click()
        into.mkdir(parents=True)
        archive = into / waiting.value.suggested_filename
        waiting.value.save_as(archive)
        with zipfile.ZipFile(archive) as opened:
            assert opened.testzip() is None
            opened.extractall(into)
        archive.unlink()
        (root,) = (path.parent for path in into.rglob("lineage.json"))
        return root


def read_coco(root: Path) -> tuple[int, int]:
    """Frames and annotations of `root`/coco, as pycocotools reads them; every mask is decoded."""
    from pycocotools.coco import COCO

    images = annotations = 0
    for file in sorted((root / "coco").glob("*/annotations.json")):
        coco = COCO(str(file))
        for image in coco.imgs.values():
            assert (file.parent / "images" / Path(image["file_name"]).name).stat().st_size > 0
        for annotation in coco.anns.values():
            image = coco.imgs[annotation["image_id"]]
            assert annotation["id"] >= 1
            assert coco.annToMask(annotation).shape == (image["height"], image["width"])
            x, y, width, height = annotation["bbox"]
            assert x >= 0
            assert y >= 0
            assert x + width <= image["width"] + 1e-3
            assert y + height <= image["height"] + 1e-3
        images += len(coco.imgs)
        annotations += len(coco.anns)
    return images, annotations


def read_kitti(root: Path) -> tuple[int, int, int]:
    """Frames, objects and objects with a 3D box of `root`/kitti, read by the columns of the development kit."""
    frames = objects = boxes = 0
    for label in sorted((root / "kitti").glob("*/label_2/*.txt")):
        frames += 1
        split = label.parent.parent
        assert list((split / "image_2").glob(f"{label.stem}.*"))
        for line in label.read_text().splitlines():
            columns = line.split()
            assert len(columns) == 15
            values = [float(column) for column in columns[1:]]
            assert all(map(math.isfinite, values))
            objects += 1
            height, width, length = values[7:10]
            if height > 0:
                boxes += 1
                assert min(width, length) > 0
                assert values[12] > 0, "an object behind the camera"
                assert -math.pi <= values[13] <= math.pi
                rows = dict(row.split(":", 1) for row in (split / "calib" / label.name).read_text().splitlines() if row)
                assert len(rows["P2"].split()) == 12
    return frames, objects, boxes


def check_hashes(root: Path) -> int:
    """Every file of the manifest is there and is what it says; gives their number."""
    listed = [line.split("  ", 1) for line in (root / "manifest-sha256.txt").read_text().splitlines()]
    for digest, name in listed:
        assert hashlib.sha256((root / name).read_bytes()).hexdigest() == digest, name
    if tool := shutil.which("sha256sum"):
        subprocess.run([tool, "--check", "--quiet", "manifest-sha256.txt"], cwd=root, check=True)
    return len(listed)


def check_accessibility(page, *addresses: str) -> None:
    """axe finds nothing serious, in light and dark."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    found = []
    for address in addresses:
        page.goto(address)
        page.locator("h1").first.wait_for(state="attached")
        for theme in ("light", "dark"):
            page.evaluate("theme => { document.documentElement.dataset.theme = theme; }", theme)
            page.wait_for_timeout(250)  # colours fade in
            for violation in axe.run(page).response["violations"]:
                if violation["impact"] in ("serious", "critical"):
                    found.append((address, theme, violation["id"], violation["nodes"][0]["html"]))
    assert found == []


@pytest.fixture(scope="module")
def fovea(tmp_path_factory, street):
    fovea = Fovea(tmp_path_factory.mktemp("main-job"))
    shutil.copytree(street.recording.parent, fovea.home / "recordings" / "street")
    fovea.up("--workers=2")
    yield fovea
    fovea.remove()


@pytest.fixture
def page(fovea):
    playwright = pytest.importorskip("playwright.sync_api")
    if not CHROMIUM.exists():
        pytest.skip("Chromium is not installed")
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        context = browser.new_context(viewport={"width": 1440, "height": 900}, accept_downloads=True)
        cookie = session_of(fovea, "mira@example.org")
        context.add_cookies([{"name": "sessionid", "value": cookie, "url": fovea.address}])
        page = context.new_page()
        page.set_default_timeout(20_000)
        problems: list[str] = []
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on(
            "response",
            lambda answer: problems.append(f"{answer.status} {answer.url}") if answer.status >= 400 else None,
        )
        yield page
        browser.close()
    assert problems == []


def test_a_recording_becomes_a_training_dataset(fovea, page, tmp_path):
    person = MainJob(page, fovea.address)
    dataset = person.make_dataset("Street corner", fovea.home / "recordings" / "street")
    person.scan()
    person.prepare()
    job = person.run_job("First look")
    frames, listed = person.review_every_frame()
    assert frames == 8
    assert listed > 0
    export = person.export("Street 1")
    kitti, coco = (
        person.download("Download KITTI", tmp_path / "kitti"),
        person.download("Download COCO", tmp_path / "coco"),
    )
    kitti_frames, objects, boxes = read_kitti(kitti)
    coco_images, annotations = read_coco(coco)
    assert kitti_frames == coco_images == frames
    assert objects == annotations == listed
    assert boxes > 0

    both = person.download("Both", tmp_path / "both")
    assert check_hashes(both) > 4 * frames
    lineage = json.loads((both / "lineage.json").read_text())
    (recording,) = lineage["recordings"]
    source = next((fovea.home / "recordings" / "street").glob("*.svo2"))
    assert recording["sha256"] == hashlib.sha256(source.read_bytes()).hexdigest()

    review = job.replace("/jobs/", "/review/") + "/"
    new_job, new_export = f"{fovea.address}/jobs/create", f"{fovea.address}/training-datasets/create?job={job[-36:]}"
    check_accessibility(page, fovea.address, dataset, f"{dataset}/classes", new_job, job, review, new_export, export)
    model = person.teach(review)
    check_accessibility(page, model, f"{fovea.address}/models/?dataset={dataset[-36:]}")


def test_a_sequence_of_images_is_chosen_as_a_folder_and_a_file_is_taken_to_the_job_form(fovea, page, data_folder):
    recordings = fovea.home / "recordings"
    shutil.copytree(data_folder / "kitti_vo00", recordings / "kitti_vo00")
    page.goto(f"{fovea.address}/datasets/create")
    page.get_by_role("button", name="Browse…").click()
    page.locator(f'.browser-entry[data-path="{recordings}"]').click()
    sequence = page.locator(f'.browser-entry[data-path="{recordings / "kitti_vo00"}"]')
    sequence.focus()
    page.keyboard.press("Enter")
    assert sequence.get_attribute("aria-selected") == "true"
    page.get_by_role("button", name="Use this folder").click()
    assert page.get_by_label("Source folder").input_value() == str(recordings / "kitti_vo00")

    page.goto(f"{fovea.address}/datasets/browse?path={recordings}")
    page.locator(f'.browser-entry[data-path="{recordings / "kitti_vo00"}"]').click()
    page.get_by_role("link", name="New job").click()
    page.wait_for_url("**/jobs/create?*")
    assert page.locator("#id_input_paths").input_value() == str(recordings / "kitti_vo00")
