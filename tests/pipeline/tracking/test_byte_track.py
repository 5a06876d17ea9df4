import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import ConfigurationError
from pipeline.tracking.byte_track import ByteTracker

NOTHING = (np.empty((0, 4)), np.empty(0))


def box(x: float, y: float = 100, width: float = 40, height: float = 80) -> list[float]:
    return [x, y, x + width, y + height]


def test_two_objects_that_cross_keep_their_ids():
    tracker = ByteTracker()
    for frame in range(40):
        left, right = box(100 + 8 * frame, y=100), box(420 - 8 * frame, y=112)
        ids = tracker.update([left, right], [0.9, 0.9])
        assert ids.tolist() == [1, 2], frame


def test_an_object_behind_another_comes_back_under_its_id():
    tracker = ByteTracker()
    for frame in range(10):
        first = tracker.update([box(100 + 5 * frame)], [0.9])
    for _ in range(8):
        assert tracker.update(*NOTHING).tolist() == []
        assert tracker.tracks()[0].tolist() == []
    assert tracker.update([box(100 + 5 * 18)], [0.9]).tolist() == first.tolist() == [1]


@pytest.mark.parametrize(("gap", "revived"), [(1, True), (5, True), (6, False), (20, False)])
def test_an_id_is_given_up_after_the_buffer(gap, revived):
    tracker = ByteTracker(buffer=5)
    for _ in range(4):
        tracker.update([box(100)], [0.9])
    for _ in range(gap):
        tracker.update(*NOTHING)
    assert (tracker.update([box(100)], [0.9])[0] == 1) == revived


def test_empty_frames_are_frames():
    tracker = ByteTracker()
    for _ in range(3):
        ids = tracker.update(*NOTHING)
        assert (ids.shape, ids.dtype) == ((0,), np.int64)
    assert tracker.update([box(0)], [0.9]).tolist() == [1]
    assert tracker.is_confirmed([1]) == [False]


def test_a_single_detection_in_the_very_first_frame_stands_and_a_later_one_is_tentative():
    tracker = ByteTracker()
    assert tracker.update([box(100)], [0.9]).tolist() == [1]
    assert tracker.is_confirmed([1]) == [True]
    assert tracker.update([box(100), box(400)], [0.9, 0.9]).tolist() == [1, 2]
    assert tracker.is_confirmed([1, 2]) == [True, False]
    assert tracker.tracks()[0].tolist() == [1]
    assert tracker.update([box(100)], [0.9]).tolist() == [1]
    assert tracker.is_confirmed([1, 2]) == [True, False]
    # A tentative id that was not seen again is never used again.
    assert tracker.update([box(400)], [0.9]).tolist() == [3]
    assert tracker.update([box(400)], [0.9]).tolist() == [3]
    assert tracker.is_confirmed([3]) == [True]


def test_a_doubtful_detection_continues_a_track_but_starts_none():
    tracker = ByteTracker()
    tracker.update([box(100)], [0.9])
    assert tracker.update([box(102), box(500)], [0.3, 0.3]).tolist() == [1, 0]
    assert tracker.update([box(104)], [0.05]).tolist() == [0]
    # Unseen, the track may only be revived by a confident detection.
    assert tracker.update([box(106)], [0.3]).tolist() == [0]
    assert tracker.update([box(108)], [0.9]).tolist() == [1]


def test_a_detection_between_the_thresholds_matches_first_but_starts_no_track():
    tracker = ByteTracker(track_threshold=0.6)
    assert tracker.update([box(100)], [0.65]).tolist() == [0]
    assert tracker.update([box(100)], [0.75]).tolist() == [1]


def test_classes_that_may_not_mix_do_not():
    free, strict = ByteTracker(), ByteTracker(class_mismatch_factor=0)
    for tracker, expected in ((free, [1]), (strict, [2])):
        tracker.update([box(100)], [0.9], [3])
        assert tracker.update([box(100)], [0.9], [4]).tolist() == expected


def test_of_two_tracks_on_one_object_the_younger_goes():
    tracker = ByteTracker()
    for _ in range(6):
        tracker.update([box(100)], [0.9])
    # It jumps: a new track starts, the old one is lost where it stood …
    for _ in range(3):
        assert tracker.update([box(300)], [0.9]).tolist() == [2]
    # … and the new one walks there in steps too long for the old one to be matched first.
    assert tracker._ids == [1, 2]
    tracker._motion[0, 1, 0] = tracker._motion[0, 0, 0]
    tracker.update([box(100)], [0.9])
    assert tracker._ids == [1]


def met_and_turned_round(frame: int) -> tuple[float, float]:
    """Where two objects are that walk towards each other, are hidden together, and walk back."""
    walked = min(frame, 48 - frame)
    return 100 + 6 * walked, 340 - 6 * walked


@pytest.mark.parametrize(("looks_known", "kept"), [(False, False), (True, True)])
def test_looks_tell_apart_what_motion_would_confuse(looks_known, kept):
    tracker = ByteTracker()
    looks = np.array([[1.0, 0, 0.2], [0, 1.0, 0.2]])
    for frame in range(48):
        if 18 <= frame < 30:
            tracker.update(*NOTHING)
            continue
        boxes = [box(x) for x in met_and_turned_round(frame)]
        ids = tracker.update(boxes, [0.9, 0.9], features=looks if looks_known else None)
    assert (ids.tolist() == [1, 2]) == kept


def test_a_detection_whose_look_is_not_known_is_compared_by_its_place():
    tracker = ByteTracker()
    for frame in range(6):
        looks = [[1.0, 0]] if frame % 2 else [[np.nan, np.nan]]
        assert tracker.update([box(100 + 2 * frame)], [0.9], features=looks).tolist() == [1]
    assert tracker.update([box(112)], [0.9]).tolist() == [1]


def test_features_that_do_not_fit_are_refused():
    tracker = ByteTracker()
    with pytest.raises(ValueError, match=r"features of shape \(1, 3\) do not go with 2 boxes"):
        tracker.update([box(0), box(200)], [0.9, 0.9], features=[[1, 0, 0]])
    tracker.update([box(0)], [0.9], features=[[1, 0, 0]])
    with pytest.raises(ValueError, match="features have 2 columns, those before had 3"):
        tracker.update([box(0)], [0.9], features=[[1, 0]])


@pytest.mark.parametrize(("known", "expected"), [(True, [1]), (False, [5])])
def test_an_object_before_a_shaken_camera_keeps_its_id_where_the_motion_is_known(known, expected):
    tracker = ByteTracker()
    shake, before = [0, 90, -70, 60, -100], 0
    for frame, shift in enumerate(shake):
        motion = np.array([[1.0, 0, shift - before], [0, 1, 0], [0, 0, 1]])
        ids = tracker.update([box(300 + 3 * frame + shift)], [0.9], camera_motion=motion if known else None)
        before = shift
    assert ids.tolist() == expected


def test_a_camera_motion_of_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"\(3, 3\) homography"):
        ByteTracker().update([box(0)], [0.9], camera_motion=np.eye(2))


@given(st.integers(0, 2**32 - 1))
def test_ids_are_unique_in_every_frame_and_count_upwards(seed):
    rng = np.random.default_rng(seed)
    tracker = ByteTracker(buffer=3)
    highest = 0
    for _ in range(12):
        count = int(rng.integers(0, 7))
        corner = rng.uniform(0, 120, (count, 2))
        boxes = np.concatenate([corner, corner + rng.uniform(0, 60, (count, 2))], axis=1)
        ids = tracker.update(boxes, rng.random(count), rng.integers(0, 2, count))
        given_ids = ids[ids > 0]
        assert len(set(given_ids.tolist())) == len(given_ids)
        new = sorted(given_ids[given_ids > highest].tolist())
        assert new == list(range(highest + 1, highest + 1 + len(new)))
        highest += len(new)
        shown, filtered = tracker.tracks()
        assert filtered.shape == (len(shown), 4)
        assert set(shown.tolist()) <= set(given_ids.tolist())
        assert np.isfinite(filtered).all()


def test_the_same_frames_give_the_same_ids():
    rng = np.random.default_rng(3)
    frames = [(rng.uniform(0, 300, (6, 4)).cumsum(axis=1), rng.random(6)) for _ in range(30)]
    first, second = ByteTracker(), ByteTracker()
    for frame in frames:
        assert first.update(*frame).tolist() == second.update(*frame).tolist()


@pytest.mark.parametrize(
    ("boxes", "scores", "message"),
    [
        ([box(0)], [0.9, 0.8], "1 boxes do not go with 2 scores"),
        ([[0, 0, np.nan, 1]], [0.9], "finite"),
        ([box(0)], [np.inf], "finite"),
    ],
)
def test_input_that_does_not_fit_is_refused(boxes, scores, message):
    with pytest.raises(ValueError, match=message):
        ByteTracker().update(boxes, scores)


@pytest.mark.parametrize(
    "parameters", [{"track_threshold": 1.5}, {"match_threshold": -1}, {"buffer": -1}, {"height_power": -1}]
)
def test_a_parameter_out_of_range_is_named(parameters):
    with pytest.raises(ConfigurationError, match=next(iter(parameters))):
        ByteTracker(**parameters)
