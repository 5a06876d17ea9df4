import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from accounts.models import Role
from labeling.datasets.models import Dataset
from tests.factories import (
    CalibrationFactory,
    DatasetFactory,
    DatasetFileFactory,
    LabelClassFactory,
    MembershipFactory,
    OperationFactory,
)

pytestmark = pytest.mark.django_db


@pytest.fixture
def browser(owner) -> Client:
    client = Client()
    client.force_login(owner)
    return client


@pytest.fixture
def url(dataset):
    return f"/datasets/{dataset.pk}"


def test_the_list_invites_to_make_the_first_dataset(owner, browser):
    assert "Create your first dataset" in browser.get("/datasets/").content.decode()


def test_the_list_shows_ones_own_datasets_with_their_numbers(browser, dataset):
    DatasetFactory(name="Someone else's")
    DatasetFileFactory.create_batch(3, dataset=dataset, frame_count=400)
    DatasetFileFactory(dataset=dataset, status="broken", frame_count=None)
    text = browser.get("/datasets/").content.decode()
    assert "Street" in text
    assert "1,200" in text
    assert "1 unreadable" in text
    assert "Someone else" not in text
    assert "Nothing found" in browser.get("/datasets/?search=nowhere").content.decode()


def test_a_dataset_is_made_by_the_form(browser, recordings):
    answer = browser.post("/datasets/create", {"name": "Yard", "description": "", "source_folder": str(recordings)})
    dataset = Dataset.objects.get()
    assert answer["Location"] == f"/datasets/{dataset.pk}"
    assert dataset.source_folder == str(recordings)
    assert dataset.label_classes.filter(name="person").exists()


@pytest.mark.parametrize("folder", ["/etc", "../..", "/nowhere", "a" * 900])
def test_a_source_folder_outside_the_roots_is_refused_at_its_field(owner, browser, folder):
    answer = browser.post("/datasets/create", {"name": "Yard", "source_folder": folder})
    assert answer.status_code == 200
    assert "source_folder" in answer.context["form"].errors
    assert not Dataset.objects.exists()


def test_the_page_says_what_is_wrong_with_each_recording(browser, dataset, url):
    DatasetFileFactory(dataset=dataset, name="a.svo2", status="broken", error="a.svo2 is empty (0 bytes).")
    DatasetFileFactory(dataset=dataset, name="b.svo2", status="salvaged", warnings=["b.svo2 is cut off."])
    DatasetFileFactory(dataset=dataset, name="<script>.svo2", camera_serial="33234316")
    text = browser.get(url).content.decode()
    for told in ("a.svo2 is empty (0 bytes).", "b.svo2 is cut off.", "2 recordings are not metric", "SN33234316.conf"):
        assert told in text
    assert "<script>.svo2" not in text
    assert "&lt;script&gt;.svo2" in text


def test_recordings_can_be_filtered_on_the_page(browser, dataset, url):
    DatasetFileFactory(dataset=dataset, name="first.svo2")
    DatasetFileFactory(dataset=dataset, name="second.svo2", status="broken")
    text = browser.get(f"{url}?status=broken").content.decode()
    assert "second.svo2" in text
    assert "first.svo2" not in text
    assert browser.get(f"{url}?status=nonsense&page=99").status_code == 200


@pytest.mark.parametrize("part", ["", "/classes", "/members", "/settings"])
def test_a_viewer_sees_each_page_without_what_only_managers_may(dataset, url, part):
    LabelClassFactory(dataset=dataset)
    CalibrationFactory(dataset=dataset)
    file = DatasetFileFactory(dataset=dataset)
    client = Client()
    client.force_login(MembershipFactory(dataset=dataset, role=Role.VIEWER).user)
    text = client.get(url + part).content.decode()
    for word in ("Scan folder", "Add class", "Add member", "Delete dataset", "Upload calibration", "Save</button>"):
        assert word not in text
    assert "Take out" not in client.get(f"{url}/files/{file.pk}").content.decode()
    assert client.post(f"{url}/settings", {"name": "x", "version": 1}).status_code == 403


@pytest.mark.parametrize("part", ["", "/classes", "/members", "/settings"])
def test_a_stranger_finds_nothing_and_the_unknown_signs_in(url, part):
    client = Client()
    assert client.get(url + part).status_code == 302
    client.force_login(MembershipFactory().user)
    assert client.get(url + part).status_code == 404


def test_a_file_of_another_dataset_is_not_shown(browser, url):
    assert browser.get(f"{url}/files/{DatasetFileFactory().pk}").status_code == 404


def test_settings_changed_meanwhile_are_not_overwritten(browser, dataset, url):
    form = {"name": "New", "description": "", "source_folder": "", "version": 1}
    assert browser.post(f"{url}/settings", form).status_code == 302
    again = browser.post(f"{url}/settings", form | {"name": "Newer"})
    assert "changed by someone else" in again.content.decode()
    dataset.refresh_from_db()
    assert dataset.name == "New"


def test_pages_need_the_same_number_of_queries_however_much_they_show(browser, dataset, url):
    def fill(count):
        for _ in range(count):
            file = DatasetFileFactory(dataset=dataset, calibration=CalibrationFactory(dataset=dataset))
            DatasetFileFactory(dataset=dataset, duplicate_of=file)
            LabelClassFactory(dataset=dataset)
            MembershipFactory(dataset=dataset)
            OperationFactory(dataset=dataset, status="running")
            MembershipFactory(dataset=DatasetFactory(), user=dataset.memberships.get(role="owner").user)

    def counts():
        found = []
        for address in ("/datasets/", url, f"{url}/classes", f"{url}/members"):
            with CaptureQueriesContext(connection) as captured:
                assert browser.get(address).status_code == 200
            found.append(len(captured))
        return found

    fill(1)
    before = counts()
    fill(8)
    assert counts() == before
    assert max(before) <= 16
