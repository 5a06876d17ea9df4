import pytest
from django.db import connection
from rest_framework.test import APIClient

from accounts.models import Role
from labeling.datasets.probing import Prober
from labeling.jobs import services
from labeling.jobs.models import ProcessingJob
from tests.factories import MembershipFactory, UserFactory

pytestmark = pytest.mark.django_db
ONLY_EXTRACTION = {"stages_to_run": ["extraction"]}


@pytest.fixture
def client(manager):
    client = APIClient()
    client.force_authenticate(manager)
    return client


@pytest.fixture
def job(manager, dataset, recording, hints):
    return services.create_job(
        user=manager, dataset=dataset, input_paths=[str(recording)], name="First", parameters=ONLY_EXTRACTION
    )


def signed_in(user):
    client = APIClient()
    client.force_authenticate(user)
    return client


def test_a_job_is_created_with_every_parameter(client, dataset, recording):
    parameters = {
        "stages_to_run": ["tracking"],
        "segmenter": "geometric",
        "sam3_variant": "small",
        "confidence_threshold": 0.4,
        "batch_size": 8,
        "frame_skip": 3,
        "enable_diversity_filter": True,
        "similarity_threshold": 6.0,
        "motion_threshold": 0.02,
        "object_class_ids": [1],
        "depth_method": "sgbm",
        "flip_agreement": True,
        "image_format": "jpeg",
        "write_point_clouds": False,
    }
    place = {"input_paths": [str(recording)], "dataset_id": str(dataset.pk), "name": "Full"}
    response = client.post("/api/v1/jobs/create", {**parameters, **place})
    assert response.status_code == 201, response.data
    body = response.json()
    assert body["config"] == parameters
    assert (body["name"], body["status"], body["actions"]) == ("Full", "pending", ["start", "cancel"])
    assert [stage["name"] for stage in body["stages"]] == ["extraction", "segmentation", "reconstruction", "tracking"]
    assert [stage["share"] for stage in body["stages"]] == [0.25, 0.5, 0.15, 0.1]
    assert response["Location"] == f"/api/v1/jobs/{body['id']}"
    assert response["ETag"] == '"1"'


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"frame_skip": 0}, "frame_skip"),
        ({"frame_skip": "many"}, "frame_skip"),
        ({"stages_to_run": "all"}, "stages_to_run"),
        ({"stages_to_run": ["no"]}, "stages_to_run"),
        ({"confidence_threshold": 2}, "confidence_threshold"),
        ({"object_class_ids": [77]}, "object_class_ids.0"),
        ({"segmenter": "sam3"}, "segmenter"),
        ({"depth_method": "neural"}, "depth_method"),
        ({"dataset_id": "00000000-0000-4000-8000-000000000000"}, "dataset_id"),
        ({"framskip": 2}, "framskip"),
        ({"input_paths": ["/etc/passwd"]}, "input_paths.0"),
    ],
)
def test_an_error_names_the_field(client, dataset, recording, wrong, field):
    body = {"input_paths": [str(recording)], "dataset_id": str(dataset.pk)} | wrong
    response = client.post("/api/v1/jobs/create", body)
    assert response.status_code == 400
    assert [error["field"] for error in response.json()["errors"]] == [field]
    assert not ProcessingJob.objects.exists()


def test_creating_twice_with_one_key_creates_once(client, recording):
    body = {"input_paths": [str(recording)], **ONLY_EXTRACTION}
    first, second = (client.post("/api/v1/jobs/create", body, headers={"Idempotency-Key": "k1"}) for _ in range(2))
    assert (first.status_code, second.status_code) == (201, 201)
    assert first.json()["id"] == second.json()["id"]
    assert ProcessingJob.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_recordings_are_opened_before_the_transaction_so_that_others_can_write(client, recording, monkeypatch):
    inside = []
    probe = Prober.probe
    monkeypatch.setattr(
        Prober, "probe", lambda *args, **more: inside.append(connection.in_atomic_block) or probe(*args, **more)
    )
    body = {"input_paths": [str(recording)], **ONLY_EXTRACTION}
    assert client.post("/api/v1/jobs/create", body, headers={"Idempotency-Key": "one"}).status_code == 201
    assert inside == [False]


def test_creating_with_many_recordings_does_not_take_for_ever(client, recording, monkeypatch):
    monkeypatch.setattr(services, "PROBE_ALL_SECONDS", -1)
    response = client.post("/api/v1/jobs/create", {"input_paths": [str(recording)], **ONLY_EXTRACTION})
    assert (response.status_code, response.data["errors"][0]["field"]) == (400, "input_paths.0")
    assert "scan the recordings" in response.data["detail"]


def test_verbs_move_the_job_and_tell_what_is_possible_next(client, job):
    path = f"/api/v1/jobs/{job.pk}"
    steps = [
        ("start", "running", ["pause", "cancel"]),
        ("pause", "paused", ["resume", "cancel"]),
        ("resume", "running", ["pause", "cancel"]),
        ("cancel", "cancelled", ["restart"]),
        ("restart", "running", ["pause", "cancel"]),
    ]
    for verb, status, actions in steps:
        response = client.post(f"{path}/{verb}")
        assert response.status_code == 202, response.data
        assert (response.json()["status"], response.json()["actions"]) == (status, actions)
    refused = client.post(f"{path}/start")
    assert (refused.status_code, refused.json()["code"]) == (409, "invalid_transition")


def test_renaming_needs_the_version_one_has_read(client, job):
    path = f"/api/v1/jobs/{job.pk}"
    etag = client.get(path)["ETag"]
    renamed = client.patch(path, {"name": "Second"}, headers={"If-Match": etag})
    assert (renamed.status_code, renamed.json()["name"]) == (200, "Second")
    assert renamed["ETag"] != etag
    stale = client.patch(path, {"name": "Third"}, headers={"If-Match": etag})
    assert (stale.status_code, stale.json()["current"]["name"]) == (412, "Second")


def test_a_running_job_is_not_deleted(client, job):
    path = f"/api/v1/jobs/{job.pk}"
    client.post(f"{path}/start")
    assert client.delete(path).status_code == 409
    client.post(f"{path}/cancel")
    assert client.delete(path).status_code == 204
    assert client.get(path).status_code == 404


def test_a_job_of_others_does_not_exist(job):
    stranger = signed_in(UserFactory())
    for method, path in (("get", ""), ("post", "/start"), ("get", "/log"), ("delete", "")):
        assert getattr(stranger, method)(f"/api/v1/jobs/{job.pk}{path}").status_code == 404
    assert stranger.get("/api/v1/jobs").json()["count"] == 0


def test_an_annotator_sees_a_job_but_does_not_run_it(job, dataset):
    user = UserFactory()
    MembershipFactory(dataset=dataset, user=user, role=Role.ANNOTATOR)
    client = signed_in(user)
    assert client.get(f"/api/v1/jobs/{job.pk}").json()["actions"] == []
    assert client.post(f"/api/v1/jobs/{job.pk}/start").status_code == 403
    assert client.post("/api/v1/jobs/create", {"dataset_id": str(dataset.pk)}).status_code == 403


def test_the_list_filters_by_status_and_dataset(client, job, dataset, recording, manager):
    other = services.create_job(user=manager, input_paths=[str(recording)], parameters=ONLY_EXTRACTION, start=True)

    def found(query):
        return {row["id"] for row in client.get(f"/api/v1/jobs?{query}").json()["results"]}

    assert found("") == {str(job.pk), str(other.pk)}
    assert found("status=running") == {str(other.pk)}
    assert found(f"dataset={dataset.pk}") == {str(job.pk)}
    assert client.get("/api/v1/jobs?status=dreaming").status_code == 400


def test_the_list_needs_the_same_few_queries_however_long_it_is(
    client, dataset, recording, manager, django_assert_max_num_queries
):
    for _ in range(6):
        services.create_job(user=manager, dataset=dataset, input_paths=[str(recording)], parameters=ONLY_EXTRACTION)
    with django_assert_max_num_queries(3):
        assert client.get("/api/v1/jobs").json()["count"] == 6


def test_the_log_tells_what_happened(client, job):
    client.post(f"/api/v1/jobs/{job.pk}/start")
    lines = [line["text"] for line in client.get(f"/api/v1/jobs/{job.pk}/log").json()["results"]]
    assert lines == [
        "Created: 1 recording, stages extraction.",
        "test.svo2: about 88 frames were dropped while recording at 30 frames per second.",
        "Started by mira@example.org.",
    ]


def test_the_segmenters_say_whether_they_can_run_here(client):
    found = {row["name"]: row for row in client.get("/api/v1/segmenters").json()}
    assert found["geometric"]["available"]
    assert not found["deeplab"]["available"]
    assert "FOVEA_MODELS_DIR" in found["deeplab"]["how_to_get"]
