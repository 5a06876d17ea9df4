"""The frames of a job as a list: the least sure first, filtered, in a constant number of queries."""

import pytest
from django.utils import timezone

from labeling.jobs.models import Frame

pytestmark = pytest.mark.django_db


@pytest.fixture
def frames(job):
    """Eight frames: six with an uncertainty (two alike), two without a map."""
    rows = list(job.frames.order_by("sequence__position", "number"))
    for row, uncertainty in zip(rows, (0.3, 0.1, 0.5, 0.1, 0.4, 0.2, None, None), strict=True):
        Frame.objects.filter(pk=row.pk).update(uncertainty=uncertainty)
    return rows


def listed(api, job, **query):
    response = api.get(f"/api/v1/jobs/{job.pk}/frames", query)
    assert response.status_code == 200, response.content
    return response.json()


def test_the_least_sure_come_first_and_no_frame_twice(api, job, frames):
    seen, body = [], listed(api, job, page_size=2)
    while True:
        seen += [(row["uncertainty"], row["id"]) for row in body["results"]]
        if not body["next"]:
            break
        body = api.get(body["next"]).json()
    assert [value for value, _ in seen] == [0.5, 0.4, 0.3, 0.2, 0.1, 0.1]
    assert len({pk for _, pk in seen}) == 6
    assert listed(api, job, ordering="uncertainty")["results"][0]["uncertainty"] == 0.1
    assert len(listed(api, job, ordering="motion_score")["results"]) == 8


def test_frames_are_filtered_by_what_is_wanted_of_them(api, job, frames):
    assert {row["uncertainty"] for row in listed(api, job, min_uncertainty=0.3)["results"]} == {0.3, 0.4, 0.5}
    second = str(job.sequences.get(position=1).pk)
    assert {row["uncertainty"] for row in listed(api, job, sequence=second)["results"]} == {0.4, 0.2}
    done = frames[2].detections.all()
    done.update(confirmed_at=timezone.now())
    (entry,) = listed(api, job, to_confirm="false")["results"]
    assert entry["id"] == str(frames[2].pk)
    assert entry["detection_count"] == entry["confirmed_count"] == done.count() > 0
    assert str(frames[2].pk) not in {row["id"] for row in listed(api, job, to_confirm="true")["results"]}


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"ordering": "dhash"}, "ordering"),
        ({"ordering": "uncertainty,motion_score"}, "ordering"),
        ({"min_uncertainty": "much"}, "min_uncertainty"),
        ({"sequence": "one"}, "sequence"),
    ],
)
def test_a_wrong_parameter_is_named(api, job, query, field):
    response = api.get(f"/api/v1/jobs/{job.pk}/frames", query)
    assert response.status_code == 400
    assert response.json()["errors"][0]["field"] == field


def test_a_list_costs_the_same_however_long(api, job, frames, django_assert_num_queries):
    for count in (1, 6):
        with django_assert_num_queries(2):  # the job, its frames
            assert len(listed(api, job, page_size=count)["results"]) == count
