"""The pages of training datasets, without a browser."""

import pytest
from django.test import Client

from accounts.models import Role
from core import work
from tests.factories import MembershipFactory, UserFactory
from training.models import TrainingDataset

pytestmark = pytest.mark.django_db

FORM = {
    "name": "From the page",
    "format": "both",
    "train_ratio": "0.7",
    "val_ratio": "0.2",
    "test_ratio": "0.1",
    "split_by": "frame",
    "seed": "0",
    "segmentation": "rle",
    "include_masks": "on",
    "classes": ["1", "3"],
    "min_confidence": "0.5",
}


@pytest.fixture
def browser(owner) -> Client:
    client = Client()
    client.force_login(owner)
    return client


def _create(browser, job, **changes):
    return browser.post(f"/training-datasets/create?job={job.pk}", FORM | changes)


def test_the_form_starts_an_export_with_what_it_says(browser, job):
    response = _create(browser, job)
    row = TrainingDataset.objects.get()
    assert response["Location"] == f"/training-datasets/{row.pk}"
    assert row.filter_config["excluded_class_ids"] == [2]
    assert row.filter_config["min_confidence"] == 0.5
    assert row.export_config["include_depth"] is False
    assert row.export_config["include_masks"] is True


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"train_ratio": "0.8"}, "sum to 1.1 instead of 1"),
        ({"split_by": "sequence"}, "2 sequence(s) cannot be divided into 3 splits"),
        ({"classes": []}, "Keep at least one class."),
        ({"seed": "x"}, "Enter a whole number."),
    ],
)
def test_what_is_wrong_stands_at_its_field(browser, job, changes, sentence):
    response = _create(browser, job, **changes)
    assert response.status_code == 200
    assert sentence in response.content.decode()
    assert not TrainingDataset.objects.exists()


def test_exclusions_are_carried_over_from_review(browser, job):
    page = browser.get(
        f"/training-datasets/create?job={job.pk}&excluded_class_ids=2&min_confidence=0.35"
    ).content.decode()
    assert 'value="1" checked' in page
    assert 'value="2" checked' not in page
    assert 'value="0.35"' in page


def test_a_finished_export_shows_its_statistics_downloads_and_lineage(browser, job):
    _create(browser, job)
    row = TrainingDataset.objects.get()
    work.advance("training.TrainingDataset", str(row.pk))
    page = browser.get(f"/training-datasets/{row.pk}").content.decode()
    for text in ("walk_0.svo2", f"{0:064x}", "Download KITTI", "Download COCO", "Geometric", "without class 2"):
        assert text in page
    response = browser.get(f"/training-datasets/{row.pk}/download/both")
    assert response["Content-Type"] == "application/zip"


def test_a_viewer_sees_but_may_neither_export_nor_change(browser, job):
    _create(browser, job)
    row = TrainingDataset.objects.get()
    client = Client()
    client.force_login(MembershipFactory(dataset=job.dataset, user=UserFactory(), role=Role.VIEWER).user)
    assert client.get(f"/training-datasets/{row.pk}").status_code == 200
    assert client.get(f"/training-datasets/create?job={job.pk}").status_code == 403
    assert client.post(f"/training-datasets/{row.pk}/cancel").status_code == 403
    assert client.post(f"/training-datasets/{row.pk}/delete").status_code == 403


def test_a_stranger_finds_nothing(browser, job):
    _create(browser, job)
    row = TrainingDataset.objects.get()
    client = Client()
    client.force_login(UserFactory())
    for path in (f"{row.pk}", f"{row.pk}/download/kitti", f"create?job={job.pk}"):
        assert client.get(f"/training-datasets/{path}").status_code == 404
    assert "No training datasets yet" in client.get("/training-datasets/").content.decode()


def test_the_list_costs_the_same_number_of_queries_however_long(browser, job, django_assert_max_num_queries):
    _create(browser, job)
    browser.get("/training-datasets/")
    with django_assert_max_num_queries(5):
        browser.get("/training-datasets/")
    _create(browser, job)
    _create(browser, job)
    with django_assert_max_num_queries(5):
        assert browser.get("/training-datasets/").content.decode().count("From the page") == 3
