import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.tracking.byte_track_3d import ByteTracker3D

UNKNOWN = [np.nan] * 7


def box(x: float, y: float = 100, width: float = 40, height: float = 80) -> list[float]:
    return [x, y, x + width, y + height]


def person(x: float, z: float, yaw: float = 0.0) -> list[float]:
    return [x, 1.6, z, 1.75, 0.6, 0.6, yaw]


def test_depth_tells_apart_what_the_image_cannot():
    tracker = ByteTracker3D()
    # Both stand on one spot of the picture; the order of the detections changes from frame to frame.
    for frame in range(12):
        boxes, places = [box(100), box(101)], [person(0, 5), person(0, 12)]
        order = [0, 1] if frame % 2 else [1, 0]
        ids = tracker.update([boxes[i] for i in order], [0.9, 0.9], None, [places[i] for i in order])
        near = ids[order.index(0)]
        if frame == 0:
            first = near
        assert near == first


def test_an_object_too_far_away_is_another_one():
    tracker = ByteTracker3D()
    for _ in range(5):
        tracker.update([box(100)], [0.9], None, [person(0, 5)])
    assert tracker.update([box(100)], [0.9], None, [person(0, 15)]).tolist() == [2]


def test_a_fast_object_with_no_overlap_in_the_image_is_followed_in_space():
    tracker = ByteTracker3D()
    for frame in range(8):
        ids = tracker.update([box(100 + 60 * frame)], [0.9], None, [person(0.7 * frame, 6)])
        assert ids.tolist() == [1]


def test_without_depth_the_image_decides():
    tracker = ByteTracker3D()
    for frame in range(20):
        depth = frame % 3 == 0
        moving = person(0.05 * frame, 8) if depth else UNKNOWN
        ids = tracker.update([box(100 + 3 * frame), box(400)], [0.9, 0.9], None, [moving, UNKNOWN])
        assert ids.tolist() == [1, 2], frame


def test_without_any_cuboids_it_is_the_2d_tracker():
    tracker = ByteTracker3D()
    for frame in range(5):
        assert tracker.update([box(100 + 3 * frame)], [0.9]).tolist() == [1]


def test_a_place_not_seen_for_long_counts_no_more():
    tracker = ByteTracker3D(forget_depth=3)
    tracker.update([box(100)], [0.9], None, [person(0, 5)])
    for _ in range(5):
        tracker.update([box(100)], [0.9])
    # In space it would be far off: what is known of its place is too old to say so.
    assert tracker.update([box(100)], [0.9], None, [person(0, 15)]).tolist() == [1]
    assert tracker.update([box(100)], [0.9], None, [person(0, 15)]).tolist() == [1]
    assert tracker.update([box(100)], [0.9], None, [person(0, 5)]).tolist() == [2]


def test_a_lost_id_is_revived_where_its_walk_leads():
    tracker = ByteTracker3D()
    for frame in range(10):
        tracker.update([box(100 + 10 * frame)], [0.9], None, [person(0.2 * frame, 8)])
    for _ in range(6):
        tracker.update(np.empty((0, 4)), [])
    assert tracker.update([box(900)], [0.9], None, [person(0.2 * 16, 8)]).tolist() == [1]


@pytest.mark.parametrize("turn", [np.pi, -np.pi])
def test_a_yaw_that_jumps_by_half_a_turn_moves_nothing(turn):
    tracker = ByteTracker3D()
    for frame in range(6):
        tracker.update([box(100)], [0.9], None, [person(0, 5, 0.4 + turn * (frame % 2))])
    assert tracker._space[0, 0, 6] == pytest.approx(0.4, abs=1e-6)


@given(st.integers(0, 2**32 - 1))
def test_ids_are_unique_in_every_frame(seed):
    rng = np.random.default_rng(seed)
    tracker = ByteTracker3D(buffer=3)
    for _ in range(10):
        count = int(rng.integers(0, 6))
        corner = rng.uniform(0, 120, (count, 2))
        boxes = np.concatenate([corner, corner + rng.uniform(0, 60, (count, 2))], axis=1)
        places = rng.uniform([-2, 1, 3, 1, 0.5, 0.5, -3], [2, 2, 7, 2, 1, 1, 3], (count, 7))
        places[rng.random(count) < 0.4] = np.nan
        ids = tracker.update(boxes, rng.random(count), None, places)
        assert len(set(ids[ids > 0].tolist())) == (ids > 0).sum()


def test_cuboids_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"cuboids of shape \(1, 6\)"):
        ByteTracker3D().update([box(0)], [0.9], None, [[0] * 6])
