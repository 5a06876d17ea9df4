"""People confirm and correct classes: one by one and many at once, never over another's change, and taken back."""

import pytest
from rest_framework.test import APIClient

from accounts.models import Role
from core.errors import ConflictError
from core.models import AuditEvent, WorkStatus
from labeling.jobs.models import Detection
from labeling.jobs.services import restart_job
from labeling.review.filters import AnnotationFilter
from labeling.review.selectors import class_statistics
from tests.factories import LabelClassFactory, MembershipFactory
from tests.labeling.review.scenes import make_job

pytestmark = pytest.mark.django_db


@pytest.fixture
def detection(job):
    return job.detections.filter(label_class__number=1).earliest("pk")


def patch(api, detection, body, etag='"1"'):
    headers = {"If-Match": etag} if etag else {}
    return api.patch(f"/api/v1/detections/{detection.pk}", body, headers=headers)


def test_a_person_corrects_a_class_and_the_detection_says_so(api, owner, detection):
    response = patch(api, detection, {"class_id": 2})
    assert response.status_code == 200, response.content
    body = response.json()
    assert (body["class_id"], body["class_name"], body["source"], body["confirmed"]) == (2, "Person", "human", True)
    assert (body["version"], response["ETag"]) == (2, '"2"')
    detection.refresh_from_db()
    assert (detection.label_class.number, detection.confirmed_by) == (2, owner)
    told = AuditEvent.objects.get(action="detection.judged")
    assert (told.actor, told.object_id, told.dataset_id) == (owner, str(detection.pk), detection.job.dataset_id)
    assert told.before == {"class_id": 1, "source": "model", "confirmed": False}
    assert told.after == {"class_id": 2, "source": "human", "confirmed": True}


def test_without_a_class_the_one_it_has_is_confirmed(api, detection):
    body = patch(api, detection, {}).json()
    assert (body["class_id"], body["confirmed"], body["version"]) == (1, True, 2)


def test_a_confirmation_is_taken_back_by_another_patch(api, detection):
    before = api.get(f"/api/v1/detections/{detection.pk}").json()
    patch(api, detection, {"class_id": 3})
    after = patch(api, detection, {"class_id": 1, "confirmed": False}, '"2"').json()
    assert {**after, "version": 1} == before
    detection.refresh_from_db()
    assert (detection.confirmed_by, detection.confirmed_at) == (None, None)


def test_who_did_not_read_it_or_read_an_older_one_changes_nothing(api, detection):
    assert patch(api, detection, {"class_id": 2}, etag=None).status_code == 428
    assert patch(api, detection, {"class_id": 2}).status_code == 200
    stale = patch(api, detection, {"class_id": 3})
    assert stale.status_code == 412
    assert (stale.json()["current"]["class_id"], stale["ETag"]) == (2, '"2"')


@pytest.mark.parametrize(
    ("body", "field"),
    [({"class_id": 9}, "class_id"), ({"class_id": "car"}, "class_id"), ({"confirmed": 7}, "confirmed")],
)
def test_what_is_wrong_is_named(api, detection, body, field):
    response = patch(api, detection, body)
    assert response.status_code == 400
    assert response.json()["errors"][0]["field"] == field


def test_a_class_of_another_dataset_is_none_of_this_one(api, detection):
    LabelClassFactory(number=77)
    assert "77" in patch(api, detection, {"class_id": 77}).json()["detail"]


@pytest.mark.parametrize("status", [WorkStatus.RUNNING, WorkStatus.PAUSED, WorkStatus.PENDING])
def test_while_the_job_may_still_write_nobody_changes_what_it_found(api, job, detection, status):
    type(job).objects.filter(pk=job.pk).update(status=status)
    response = patch(api, detection, {"class_id": 2})
    assert (response.status_code, response.json()["code"]) == (409, "conflict")
    assert status in response.json()["detail"]


def test_a_job_with_confirmed_labels_is_not_started_anew(api, owner, job, detection):
    type(job).objects.filter(pk=job.pk).update(status=WorkStatus.CANCELLED)
    patch(api, detection, {})
    with pytest.raises(ConflictError, match="1 detection that a person confirmed"):
        restart_job(job=job, user=owner)
    job.refresh_from_db()
    assert job.status == WorkStatus.CANCELLED


def test_what_a_person_confirmed_is_not_left_out_for_the_models_doubt(api, job, detection):
    Detection.objects.filter(pk=detection.pk).update(confidence=0.01)
    sure = AnnotationFilter(min_confidence=0.5)
    without = sum(row["total_count"] for row in class_statistics(job, sure))
    patch(api, detection, {})
    assert sum(row["total_count"] for row in class_statistics(job, sure)) == without + 1


def test_many_are_confirmed_at_once_and_each_is_answered_for_itself(api, owner, job):
    first, second, third, fourth = job.detections.order_by("pk")[:4]
    stranger = make_job(owner=owner, frames=1).detections.first()
    asked = [
        {"id": first.pk},
        {"id": second.pk, "class_id": 3, "version": 1},
        {"id": third.pk, "version": 7},
        {"id": fourth.pk, "class_id": 99},
        {"id": stranger.pk},
    ]
    response = api.post(f"/api/v1/jobs/{job.pk}/detections/confirm", {"detections": asked})
    assert response.status_code == 200, response.content
    body = response.json()
    assert [(item["id"], item["status"]) for item in body["results"]] == [
        (first.pk, 200),
        (second.pk, 200),
        (third.pk, 412),
        (fourth.pk, 400),
        (stranger.pk, 404),
    ]
    assert body["confirmed"] == 2
    assert body["results"][1]["detection"]["class_id"] == 3
    assert body["results"][2]["detection"]["confirmed"] is False
    assert body["results"][4]["detection"] is None
    assert set(job.detections.filter(confirmed_by=owner)) == {first, second}
    assert AuditEvent.objects.filter(action="detection.judged").count() == 2


def test_many_cost_as_many_queries_as_few(api, job, django_assert_max_num_queries):
    detections = [{"id": pk} for pk in job.detections.values_list("pk", flat=True)[:30]]
    for count in (1, 30):
        with django_assert_max_num_queries(10):
            response = api.post(f"/api/v1/jobs/{job.pk}/detections/confirm", {"detections": detections[:count]})
        assert response.json()["confirmed"] == count


@pytest.mark.parametrize("detections", [[], [{"id": 1}] * 1001, [{"id": "one"}], "all"])
def test_a_wrong_list_is_refused_whole(api, job, detections):
    response = api.post(f"/api/v1/jobs/{job.pk}/detections/confirm", {"detections": detections})
    assert response.status_code == 400
    assert response.json()["errors"][0]["field"].startswith("detections")


def test_a_viewer_looks_and_an_annotator_confirms(job, detection):
    for role, status in ((Role.VIEWER, 403), (Role.ANNOTATOR, 200)):
        client = APIClient()
        client.force_authenticate(MembershipFactory(dataset=job.dataset, role=role).user)
        assert client.get(f"/api/v1/detections/{detection.pk}").status_code == 200
        assert patch(client, detection, {}).status_code == status
