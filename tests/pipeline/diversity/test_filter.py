import json

import cv2
import numpy as np
import pytest

from pipeline.diversity.filter import Decision, DiversityFilter, Fingerprint, decide


def frame(level: int = 0, dhash: str = "0" * 16) -> Fingerprint:
    return Fingerprint(dhash, np.full((36, 64), level, np.uint8))


def decisions_on(frames: list[Fingerprint], similarity_threshold: float, motion_threshold: float) -> list[Decision]:
    diversity_filter = DiversityFilter(similarity_threshold, motion_threshold)
    return [diversity_filter.offer(each) for each in frames]


@pytest.mark.parametrize(
    ("level", "dhash", "keep", "reason"),
    [
        (0, "0" * 16, False, "similar"),
        (255, "000000000000000f", False, "similar"),  # 4 bits: as far as the threshold goes
        (255, "000000000000001f", True, "different"),
        (2, "ffffffffffffffff", False, "static"),  # 2/255 is below 0.01
        (3, "ffffffffffffffff", True, "different"),
    ],
)
def test_either_criterion_drops_a_frame(level, dhash, keep, reason):
    decision = decide(frame(level, dhash), frame(), similarity_threshold=4, motion_threshold=0.01)
    assert (decision.keep, decision.reason) == (keep, reason)


def test_the_first_frame_is_kept():
    assert decide(frame(), None, 64, 1) == Decision(True, "first", 64, 1.0)


def test_a_motion_threshold_of_zero_drops_nothing():
    assert decide(frame(0, "f" * 16), frame(), 4, 0).keep


def test_a_slow_drift_is_seen_because_the_last_kept_frame_is_the_measure():
    frames = [frame(level, f"{(1 << level) - 1:016x}") for level in range(20)]
    decisions = decisions_on(frames, 4, 0)
    assert [number for number, decision in enumerate(decisions) if decision.keep] == [0, 5, 10, 15]


def test_a_restored_filter_decides_as_an_undisturbed_one():
    rng = np.random.default_rng(4)
    walk = np.cumsum(rng.normal(0, 12, (60, 9, 16)), axis=0) + 128
    images = [np.kron(step.clip(0, 255).astype(np.uint8)[..., None], np.ones((20, 20, 3), np.uint8)) for step in walk]
    frames = [Fingerprint.of(image) for image in images]
    undisturbed = decisions_on(frames, 4, 0.05)
    assert 5 < sum(decision.keep for decision in undisturbed) < 55

    decisions, state = [], {}
    for fingerprint in frames:
        restarted = DiversityFilter(4, 0.05)
        restarted.restore(json.loads(json.dumps(state)))
        decisions.append(restarted.offer(fingerprint))
        state = restarted.state()
    assert decisions == undisturbed


@pytest.mark.parametrize(
    "value",
    [{}, {"version": "phash"}, {"version": "dhash64-v1", "dhash": "0"}, {"version": "dhash64-v1", "thumbnail": "!"}],
)
def test_a_state_that_is_none_is_refused(value):
    with pytest.raises(ValueError, match="fingerprint"):
        DiversityFilter(4, 0.01).restore({"last_kept": value})


def test_a_real_sequence_keeps_what_moves_and_drops_a_repeated_frame(data_folder):
    paths = sorted((data_folder / "mot17_frcnn" / "MOT17-02-FRCNN" / "img1").glob("*.jpg"))
    images = [cv2.imread(str(path)) for path in paths]
    frames = [Fingerprint.of(image) for image in [images[0], images[0], *images]]
    decisions = decisions_on(frames, 0, 0.001)
    assert [decision.keep for decision in decisions[:3]] == [True, False, False]
    scores = [decision.motion for decision in decisions[3:]]
    assert all(0 < score < 0.2 for score in scores)
