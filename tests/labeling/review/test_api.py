"""Statistics and frames over REST equal what the database holds, in a constant number of queries."""

import statistics
from uuid import uuid4

import numpy as np
import pytest
from pycocotools import mask as coco
from rest_framework.test import APIClient

from labeling.jobs.models import Detection, Frame
from tests.factories import UserFactory

pytestmark = pytest.mark.django_db


def _stats(api, job, filters=None, status=200):
    response = api.post(f"/api/v1/jobs/{job.pk}/annotation-stats", filters or {})
    assert response.status_code == status, response.content
    return response.json()


def test_statistics_count_each_class(api, job, django_assert_num_queries):
    with django_assert_num_queries(4):  # the job, the role in it, the aggregate, the frames
        body = _stats(api, job)
    assert body["total_frames"] == 8
    assert body["total_annotations"] == Detection.objects.count()
    for row in body["classes"]:
        found = list(Detection.objects.filter(label_class__number=row["class_id"]))
        confidences = [item.confidence for item in found]
        assert row["total_count"] == len(found)
        assert row["frame_count"] == len({item.frame_id for item in found})
        assert row["average_confidence"] == pytest.approx(statistics.fmean(confidences))
        assert (row["min_confidence"], row["max_confidence"]) == (min(confidences), max(confidences))


def test_statistics_leave_out_what_the_filter_says(api, job):
    frame = Frame.objects.first()
    annotation = Detection.objects.exclude(frame=frame).filter(label_class__number=1).first()
    filters = {
        "excluded_class_ids": [2],
        "excluded_frame_ids": [str(frame.pk)],
        "excluded_annotation_ids": [annotation.pk],
        "min_confidence": 0.6,
    }
    kept = Detection.objects.exclude(frame=frame).exclude(pk=annotation.pk).exclude(label_class__number=2)
    body = _stats(api, job, filters)
    assert body["total_annotations"] == kept.filter(confidence__gte=0.6).count() > 0
    assert body["total_frames"] == 7


@pytest.mark.parametrize(
    ("filters", "field"),
    [
        ({"min_confidence": 1.5}, "min_confidence"),
        ({"excluded_class_ids": "car"}, "excluded_class_ids"),
        ({"excluded_frame_ids": ["one"]}, "excluded_frame_ids.0"),
        ({"excluded_annotation_ids": [-1]}, "excluded_annotation_ids.0"),
    ],
)
def test_a_wrong_filter_is_named(api, job, filters, field):
    body = _stats(api, job, filters, status=400)
    assert body["errors"][0]["field"] == field


def test_frames_come_with_all_that_was_found(api, job):
    sequence = job.sequences.get(position=1)
    body = api.get(f"/api/v1/jobs/{job.pk}/frames/batch", {"sequence": str(sequence.pk), "start": 1, "count": 2}).json()
    assert [(row["sequence"], row["number"]) for row in body["results"]] == [
        (str(sequence.pk), 1),
        (str(sequence.pk), 2),
    ]
    for row in body["results"]:
        rows = Detection.objects.filter(frame=row["id"]).select_related("mask", "track", "label_class")
        assert len(row["detections"]) == len(rows) > 0
        for value, detection in zip(row["detections"], rows.order_by("instance"), strict=True):
            assert value["id"] == detection.pk
            assert value["bbox"] == [detection.x, detection.y, detection.width, detection.height]
            assert value["track_id"] == detection.track.number
            assert value["class_id"] == detection.label_class.number
            assert value["box_3d"]["location"][2] == detection.location_z
            pixels = coco.decode({"size": value["mask"]["size"], "counts": value["mask"]["counts"]})
            assert np.count_nonzero(pixels) == detection.area


def test_frames_cost_the_same_number_of_queries_however_many(api, job, django_assert_num_queries):
    for count in (1, 4):
        with django_assert_num_queries(4):  # the job, its sequences, frames, detections
            response = api.get(f"/api/v1/jobs/{job.pk}/frames/batch", {"page_size": count})
        assert len(response.json()["results"]) == count


def test_all_frames_of_a_job_page_by_page(api, job):
    seen, url = [], f"/api/v1/jobs/{job.pk}/frames/batch?page_size=3"
    while url:
        body = api.get(url).json()
        seen += [(row["sequence_name"], row["number"]) for row in body["results"]]
        url = body["next"]
    assert seen == [(f"walk_{s}", n) for s in range(2) for n in range(4)]


def test_frames_by_id_come_in_the_order_asked_for_and_strangers_are_left_out(api, job):
    ids = [str(pk) for pk in Frame.objects.order_by("-number").values_list("pk", flat=True)[:3]]
    body = api.get(f"/api/v1/jobs/{job.pk}/frames/batch", {"ids": ",".join([*ids, str(uuid4())])}).json()
    assert [row["id"] for row in body["results"]] == ids


def test_masks_may_be_left_out(api, job):
    body = api.get(f"/api/v1/jobs/{job.pk}/frames/batch", {"masks": "false", "page_size": 1}).json()
    assert {value["mask"] for value in body["results"][0]["detections"]} == {None}


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("ids=1,2", "ids"),
        ("sequence=x", "sequence"),
        ("masks=maybe", "masks"),
        ("cursor=7", "cursor"),
        ("sequence={s}&start=-1", "start"),
    ],
)
def test_a_wrong_parameter_is_named(api, job, query, field):
    url = f"/api/v1/jobs/{job.pk}/frames/batch?" + query.format(s=job.sequences.first().pk)
    response = api.get(url)
    assert response.status_code == 400
    assert response.json()["errors"][0]["field"] == field


def test_one_frame_has_an_etag(api, job):
    frame = Frame.objects.first()
    response = api.get(f"/api/v1/frames/{frame.pk}")
    assert response.json()["id"] == str(frame.pk)
    assert response["ETag"] == '"1"'


def test_what_is_not_yours_does_not_exist(job):
    client, frame = APIClient(), Frame.objects.first()
    client.force_authenticate(UserFactory())
    for url in (f"jobs/{job.pk}/frames/batch", f"frames/{frame.pk}", f"frames/{frame.pk}/left"):
        assert client.get(f"/api/v1/{url}").status_code == 404
    assert client.post(f"/api/v1/jobs/{job.pk}/annotation-stats").status_code == 404
