"""Training datasets over REST: who may, what is refused and in which words, and the archive."""

import io
import json
import zipfile

import pytest
from asgiref.sync import async_to_sync
from pycocotools.coco import COCO
from rest_framework.test import APIClient

from accounts.models import Role
from core import work
from core.models import AuditEvent, WorkStatus
from labeling.jobs.models import Detection
from tests.factories import MembershipFactory, UserFactory
from training.models import TrainingDataset
from training.places import ExportPlace

pytestmark = pytest.mark.django_db


def _client(user) -> APIClient:
    client = APIClient()
    client.force_authenticate(user)
    return client


@pytest.fixture
def api(owner) -> APIClient:
    return _client(owner)


def _create(api, job, status=202, headers=None, **parameters):
    response = api.post(f"/api/v1/jobs/{job.pk}/training-dataset", parameters, headers=headers or {})
    assert response.status_code == status, response.content
    return response


@pytest.fixture
def exported(api, job) -> TrainingDataset:
    row = TrainingDataset.objects.get(pk=_create(api, job, name="First export").json()["id"])
    work.advance("training.TrainingDataset", str(row.pk))
    row.refresh_from_db()
    return row


def test_an_export_is_started_and_followed_to_its_end(api, job):
    response = _create(api, job, format="coco", seed=7)
    body = response.json()
    assert response["Location"] == f"/api/v1/training-datasets/{body['id']}"
    assert (body["status"], body["split_config"]["seed"]) == ("running", 7)
    work.advance("training.TrainingDataset", body["id"])
    state = api.get(f"{response['Location']}/status").json()
    assert (state["status"], state["progress"], state["cursor"], state["total"]) == ("completed", 1, 20, 20)
    assert api.get(response["Location"]).json()["statistics"]["total_frames"] == 20
    assert AuditEvent.objects.filter(action="training_dataset.created", object_id=body["id"]).exists()


@pytest.mark.parametrize(
    ("parameters", "field"),
    [
        ({"train_ratio": 0.7, "val_ratio": 0.2, "test_ratio": 0.2}, "train_ratio"),
        ({"train_ratio": 1.1, "val_ratio": 0, "test_ratio": -0.1}, "train_ratio"),
        ({"val_ratio": -0.2}, "val_ratio"),
        ({"format": "voc"}, "format"),
        ({"segmentation": "png"}, "segmentation"),
        ({"split_by": "sequence"}, "split_by"),
        ({"filters": {"min_confidence": 2}}, "filters.min_confidence"),
        ({"filters": {"excluded_frame_ids": ["x"]}}, "filters.excluded_frame_ids.0"),
    ],
)
def test_a_wrong_parameter_is_named_and_nothing_is_made(api, job, parameters, field):
    body = _create(api, job, status=400, **parameters).json()
    assert body["errors"][0]["field"] == field
    assert not TrainingDataset.objects.exists()


def test_a_running_job_cannot_be_exported(api, job):
    type(job).objects.filter(pk=job.pk).update(status=WorkStatus.RUNNING)
    assert _create(api, job, status=409).json()["detail"].startswith("The job is running")


def test_a_filter_that_leaves_no_frame_is_refused(api, job):
    frames = [str(pk) for pk in job.frames.values_list("pk", flat=True)]
    body = _create(api, job, status=409, filters={"excluded_frame_ids": frames}).json()
    assert "no frame to export" in body["detail"]


def test_repeated_with_the_same_key_it_starts_once(api, job):
    first, second = (_create(api, job, headers={"Idempotency-Key": "k1"}).json()["id"] for _ in range(2))
    assert first == second
    assert TrainingDataset.objects.count() == 1


@pytest.mark.parametrize(
    ("role", "expected"), [(None, 404), (Role.VIEWER, 403), (Role.REVIEWER, 403), (Role.MANAGER, 202)]
)
def test_only_managers_export(job, role, expected):
    user = UserFactory()
    if role:
        MembershipFactory(dataset=job.dataset, user=user, role=role)
    _create(_client(user), job, status=expected)


def test_what_is_not_yours_does_not_exist(exported):
    stranger = _client(UserFactory())
    url = f"/api/v1/training-datasets/{exported.pk}"
    for path in ("", "/status", "/lineage", "/download/kitti"):
        assert stranger.get(url + path).status_code == 404
    assert stranger.post(f"{url}/cancel").status_code == 404
    assert stranger.patch(url, {"name": "mine"}).status_code == 404
    assert stranger.delete(url).status_code == 404
    assert stranger.get("/api/v1/training-datasets").json()["count"] == 0


def test_a_viewer_reads_and_downloads_but_changes_nothing(exported):
    viewer = MembershipFactory(dataset=exported.job.dataset, user=UserFactory()).user
    client, url = _client(viewer), f"/api/v1/training-datasets/{exported.pk}"
    assert client.get(url).status_code == client.get(f"{url}/download/coco").status_code == 200
    for response in (client.patch(url, {"name": "x"}), client.delete(url), client.post(f"{url}/restart")):
        assert response.status_code == 403


def test_a_change_made_on_an_older_version_is_refused(api, exported):
    url = f"/api/v1/training-datasets/{exported.pk}"
    etag = api.get(url)["ETag"]
    assert api.patch(url, {"name": "Second"}, headers={"If-Match": etag}).json()["name"] == "Second"
    stale = api.patch(url, {"name": "Third"}, headers={"If-Match": etag})
    assert stale.status_code == 412
    assert stale.json()["current"]["name"] == "Second"


def test_deleted_it_is_gone_and_its_export_stops(api, job):
    pk = _create(api, job).json()["id"]
    assert api.delete(f"/api/v1/training-datasets/{pk}").status_code == 204
    assert api.get(f"/api/v1/training-datasets/{pk}").status_code == 404
    row = TrainingDataset.objects.get(pk=pk)
    assert row.deleted_at is not None
    assert row.status == WorkStatus.CANCELLED


def test_verbs_follow_the_state(api, job):
    url = f"/api/v1/training-datasets/{_create(api, job).json()['id']}"
    for verb, expected in (("pause", "paused"), ("resume", "running"), ("cancel", "cancelled"), ("restart", "running")):
        assert api.post(f"{url}/{verb}").json()["status"] == expected
    refused = api.post(f"{url}/resume")
    assert (refused.status_code, refused.json()["code"]) == (409, "invalid_transition")


def test_the_list_costs_the_same_number_of_queries_however_long(api, job, django_assert_num_queries):
    for count in (1, 3):
        while TrainingDataset.objects.count() < count:
            _create(api, job)
        with django_assert_num_queries(2):
            body = api.get("/api/v1/training-datasets").json()
        assert body["count"] == count
        assert "filter_config" not in body["results"][0]


def test_the_list_is_filtered_and_ordered_by_whitelist(api, exported, job):
    assert api.get("/api/v1/training-datasets", {"status": "completed", "job": str(job.pk)}).json()["count"] == 1
    assert api.get("/api/v1/training-datasets", {"export_format": "coco"}).json()["count"] == 0
    assert api.get("/api/v1/training-datasets", {"ordering": "job__created_by__password"}).status_code == 400


async def _body(response) -> bytes:
    return b"".join([part async for part in response.streaming_content])


@pytest.mark.parametrize("choice", ["kitti", "coco", "both"])
def test_the_archive_has_the_length_it_says_and_holds_the_files(api, exported, choice, tmp_path):
    response = api.get(f"/api/v1/training-datasets/{exported.pk}/download/{choice}")
    assert response.is_async
    content = async_to_sync(_body)(response)
    assert len(content) == int(response["Content-Length"])
    assert response["Content-Disposition"] == f'attachment; filename="First-export-{choice}.zip"'
    archive = zipfile.ZipFile(io.BytesIO(content))
    assert archive.testzip() is None
    assert {item.compress_type for item in archive.infolist()} == {zipfile.ZIP_STORED}
    roots = {"kitti": {"kitti"}, "coco": {"coco"}, "both": {"kitti", "coco"}}[choice]
    names = {item.filename for item in archive.infolist()}
    assert {name.partition("/")[0] for name in names} == roots | {"lineage.json", "manifest-sha256.txt"}
    folder = ExportPlace(exported).final
    expected = {
        str(path.relative_to(folder)) for root in roots for path in (folder / root).rglob("*") if path.is_file()
    }
    assert names == expected | {"lineage.json", "manifest-sha256.txt"}
    if choice == "coco":
        archive.extractall(tmp_path)
        total = sum(len(COCO(str(path)).anns) for path in tmp_path.rglob("annotations.json"))
        assert total == Detection.objects.count()


def test_nothing_is_downloaded_before_the_end_nor_in_a_format_that_was_not_exported(api, job):
    pk = _create(api, job, format="kitti").json()["id"]
    assert api.get(f"/api/v1/training-datasets/{pk}/download/kitti").status_code == 409
    work.advance("training.TrainingDataset", pk)
    assert api.get(f"/api/v1/training-datasets/{pk}/download/kitti").status_code == 200
    for choice in ("coco", "both", "voc"):
        assert api.get(f"/api/v1/training-datasets/{pk}/download/{choice}").status_code == 404


def test_lineage_is_what_the_archive_holds(api, exported):
    body = api.get(f"/api/v1/training-datasets/{exported.pk}/lineage").json()
    assert body == json.loads((ExportPlace(exported).final / "lineage.json").read_text())
