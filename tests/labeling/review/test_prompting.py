"""People point at what no segmenter found: a click or a box becomes a mask, and the mask an object."""

import socket
import threading

import numpy as np
import pytest
from pycocotools import mask as coco
from rest_framework.test import APIClient

from accounts.models import Role
from core.model_door import address
from core.models import AuditEvent, WorkStatus
from labeling.jobs.models import Detection, Frame
from labeling.review.api.detection_views import MaskThrottle
from pipeline.segmentation.model_client import short_address
from pipeline.segmentation.model_server import serve
from tests.factories import MembershipFactory

pytestmark = pytest.mark.django_db


@pytest.fixture
def frame(job):
    return Frame.objects.get(sequence__position=0, number=0)


@pytest.fixture
def served(settings):
    """The real server behind the real address, in a thread."""
    place = address()
    place.parent.mkdir(parents=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with short_address(place) as short:
        listener.bind(short)
    listener.listen(8)
    listener.setblocking(False)
    thread = threading.Thread(target=serve, args=(listener, settings.JOBS_ROOT, [], 5.0), daemon=True)
    thread.start()
    yield
    thread.join(15)
    listener.close()


def propose(api, frame, **prompt):
    return api.post(f"/api/v1/frames/{frame.pk}/masks", prompt)


def pixels(mask, frame):
    whole = np.zeros((frame.height, frame.width), bool)
    height, width = mask["size"]
    part = coco.decode({"size": mask["size"], "counts": mask["counts"]}).astype(bool)
    whole[mask["top"] : mask["top"] + height, mask["left"] : mask["left"] + width] = part
    return whole


def test_a_box_becomes_a_mask_and_the_mask_an_object_that_a_person_vouches_for(api, owner, frame, served):
    there = frame.detections.get(instance=0)
    box = [there.x - 2, there.y - 2, there.width + 4, there.height + 4]
    response = propose(api, frame, box=box)
    assert response.status_code == 200, response.content
    body = response.json()
    assert (body["segmenter"], body["embedded"], len(body["seconds"])) == ("classical", True, 3)
    best = body["proposals"][0]
    truth = {"left": there.mask.left, "top": there.mask.top, "size": there.mask.rle()["size"]}
    truth = pixels({**truth, "counts": there.mask.counts}, frame)
    found = pixels(best["mask"], frame)
    assert np.count_nonzero(found & truth) / np.count_nonzero(found | truth) > 0.6
    assert propose(api, frame, box=box).json()["embedded"] is False

    new = {"class_id": 2, "mask": best["mask"], "segmenter": body["segmenter"], "quality": best["quality"]}
    made = api.post(f"/api/v1/frames/{frame.pk}/detections", new)
    assert made.status_code == 201, made.content
    row = Detection.objects.get(pk=made.json()["id"])
    assert (row.label_class.number, row.source, row.prompted_segmenter) == (2, "human", "classical")
    assert (row.confirmed_by, row.confidence, row.area) == (owner, 1, best["area"])
    assert [row.x, row.y, row.width, row.height] == best["bbox"]
    assert np.array_equal(pixels(made.json()["mask"], frame), found)
    assert row.instance == frame.detections.exclude(pk=row.pk).count()
    assert AuditEvent.objects.filter(action="detection.added", object_id=str(row.pk)).exists()

    address = made["Location"]
    assert api.delete(address).status_code == 428
    assert api.delete(address, headers={"If-Match": made["ETag"]}).status_code == 204
    assert not Detection.objects.filter(pk=row.pk).exists()


def test_what_the_job_found_is_not_deleted(api, frame):
    row = frame.detections.first()
    response = api.delete(f"/api/v1/detections/{row.pk}", headers={"If-Match": '"1"'})
    assert response.status_code == 409
    assert Detection.objects.filter(pk=row.pk).exists()


@pytest.mark.parametrize(
    ("prompt", "field"),
    [
        ({}, "points"),
        ({"points": [[1, 2, 3]]}, "points.0"),
        ({"points": [[1, 2]], "labels": [1, 0]}, "labels"),
        ({"points": [[-1, 2]]}, "points.0.0"),
        ({"points": [[1, 2]] * 101}, "points"),
        ({"points": [[500, 2]]}, "points.0"),
        ({"box": [0, 0, 500, 10]}, "box"),
        ({"box": [0, 0, 0.5, 10]}, "box"),
        ({"points": [[1, 2]], "variant": "huge"}, "variant"),
    ],
)
def test_a_wrong_prompt_is_named_and_no_model_is_asked(api, frame, prompt, field):
    response = propose(api, frame, **prompt)
    assert response.status_code == 400
    assert response.json()["errors"][0]["field"] == field


def test_a_segmenter_that_is_not_here_is_named(api, frame, served):
    response = propose(api, frame, points=[[5, 5]], segmenter="sam2")
    assert response.status_code == 400
    assert response.json()["errors"][0]["field"] == "segmenter"


def test_without_a_worker_the_answer_says_what_is_missing(api, frame):
    response = propose(api, frame, points=[[5, 5]])
    assert (response.status_code, response.json()["code"]) == (503, "models_unavailable")
    assert "start a worker" in response.json()["detail"]
    assert response["Retry-After"]


def test_who_clicks_too_often_is_told_to_wait(api, frame, monkeypatch):
    monkeypatch.setattr(MaskThrottle, "rate", "2/min", raising=False)
    answers = [propose(api, frame, points=[[5, 5]]) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [503, 503, 429]
    assert int(answers[-1]["Retry-After"]) > 0


GOOD = {"left": 0, "top": 0, "size": [2, 2], "counts": "04"}


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"mask": {**GOOD, "left": 159}}, "mask"),
        ({"mask": {**GOOD, "counts": "\x7f!"}}, "mask"),
        ({"mask": {**GOOD, "counts": "4"}}, "mask"),
        ({"mask": {**GOOD, "size": [2]}}, "mask.size"),
        ({"class_id": 9}, "class_id"),
        ({"quality": 2}, "quality"),
    ],
)
def test_a_mask_that_is_none_makes_no_object(api, frame, change, field):
    before = frame.detections.count()
    response = api.post(f"/api/v1/frames/{frame.pk}/detections", {"class_id": 1, "mask": GOOD, **change})
    assert response.status_code == 400, response.content
    assert response.json()["errors"][0]["field"] == field
    assert frame.detections.count() == before


def test_an_object_is_added_once_however_often_the_request_comes(api, frame):
    before = frame.detections.count()
    body = {"class_id": 1, "mask": GOOD}
    answers = [
        api.post(f"/api/v1/frames/{frame.pk}/detections", body, headers={"Idempotency-Key": "one"}) for _ in range(2)
    ]
    assert [answer.status_code for answer in answers] == [201, 201]
    assert answers[0].json()["id"] == answers[1].json()["id"]
    assert answers[0].json()["area"] == 4
    assert frame.detections.count() == before + 1


def test_nothing_is_added_while_the_job_may_still_write(api, job, frame):
    type(job).objects.filter(pk=job.pk).update(status=WorkStatus.RUNNING)
    assert api.post(f"/api/v1/frames/{frame.pk}/detections", {"class_id": 1, "mask": GOOD}).status_code == 409


def test_a_viewer_neither_points_nor_draws(job, frame):
    client = APIClient()
    client.force_authenticate(MembershipFactory(dataset=job.dataset, role=Role.VIEWER).user)
    assert propose(client, frame, points=[[5, 5]]).status_code == 403
    assert client.post(f"/api/v1/frames/{frame.pk}/detections", {"class_id": 1, "mask": GOOD}).status_code == 403
