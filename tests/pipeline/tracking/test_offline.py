from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import ConfigurationError
from pipeline.tracking.offline import Refinement, Tracks, link, refine, smoothed


def walk(frames, identity: int, *, start=(100.0, 100.0), step=(4.0, 0.0), noise=0.0, class_id: int = 1) -> Tracks:
    """An object of 40 by 80 pixels in steady motion, seen in the frames given."""
    frames = np.asarray(frames, np.int64)
    corner = np.array(start) + frames[:, None] * np.array(step)
    corner = corner + np.random.default_rng(identity).normal(0, noise, corner.shape) if noise else corner
    count = len(frames)
    return Tracks(
        frames,
        np.full(count, identity),
        np.concatenate([corner, corner + np.array([40, 80])], axis=1),
        np.full(count, 0.9),
        np.full(count, class_id),
    )


def together(*pieces: Tracks) -> Tracks:
    return Tracks(
        *(
            np.concatenate([getattr(piece, name) for piece in pieces])
            for name in ("frames", "ids", "boxes_xyxy", "scores", "class_ids")
        )
    )


def test_a_track_that_broke_is_one_again_and_its_gap_is_filled():
    refined = refine(together(walk(range(30), 1), walk(range(40, 70), 2)))
    assert set(refined.ids.tolist()) == {1}
    assert refined.frames.tolist() == list(range(70))
    assert np.flatnonzero(refined.interpolated).tolist() == list(range(30, 40))
    np.testing.assert_allclose(refined.boxes_xyxy, walk(range(70), 1).boxes_xyxy, atol=0.5)
    assert refined.sources[~refined.interpolated].tolist() == list(range(60))


def test_many_pieces_in_a_chain_carry_the_id_of_the_first():
    pieces = [walk(range(20 * part, 20 * part + 14), 9 - part) for part in range(5)]
    assert set(refine(together(*pieces)).ids.tolist()) == {9}


def test_two_objects_that_break_together_are_not_mixed_up():
    # Their paths cross in the gap.
    one = {"start": (100, 100), "step": (4, 0)}
    other = {"start": (420, 120), "step": (-4, 0)}
    broken = together(
        walk(range(35), 1, **one),
        walk(range(35), 2, **other),
        walk(range(45, 80), 3, **one),
        walk(range(45, 80), 4, **other),
    )
    refined = refine(broken)
    for identity, path in ((1, one), (2, other)):
        np.testing.assert_allclose(
            refined.boxes_xyxy[refined.ids == identity], walk(range(80), identity, **path).boxes_xyxy, atol=0.5
        )


@pytest.mark.parametrize(
    "other",
    [
        walk(range(40, 70), 2, start=(100, 400)),  # elsewhere
        walk(range(40, 70), 2, start=(420, 100), step=(-4, 0)),  # there, and going the other way
        walk(range(95, 120), 2),  # too late
        walk(range(25, 60), 2),  # while the first is still seen
    ],
)
def test_what_one_object_could_not_have_done_stays_two(other):
    assert set(refine(together(walk(range(30), 1), other)).ids.tolist()) == {1, 2}


def test_class_and_look_speak_against_a_link():
    broken = together(walk(range(30), 1), walk(range(40, 70), 2, class_id=7))
    assert set(refine(broken, Refinement(class_mismatch=float("inf"))).ids.tolist()) == {1, 2}
    alike = replace(broken, class_ids=None, features=np.tile([1.0, 0], (60, 1)))
    assert set(refine(alike).ids.tolist()) == {1}
    unlike = replace(alike, features=np.where(alike.ids[:, None] == 1, [1.0, 0], [0, 1.0]))
    assert set(refine(unlike).ids.tolist()) == {1, 2}


def test_a_gap_too_long_stays_a_gap():
    refined = refine(walk([*range(20), *range(30, 50), *range(61, 80)], 1), Refinement(fill_gap=10))
    assert refined.frames.tolist() == [*range(50), *range(61, 80)]


def test_smoothing_brings_boxes_nearer_to_where_they_are():
    truth, seen = walk(range(60), 1), walk(range(60), 1, noise=2.0)
    errors = [np.abs(tracks.boxes_xyxy - truth.boxes_xyxy).mean() for tracks in (seen, refine(seen))]
    assert errors[1] < 0.6 * errors[0]


def test_a_flicker_goes_and_so_does_what_nobody_was_sure_of():
    doubtful = walk(range(20), 2, start=(500, 100))
    tracks = together(walk(range(20), 1), replace(doubtful, scores=np.full(20, 0.2)), walk([5, 6], 3, start=(900, 0)))
    assert set(refine(tracks).ids.tolist()) == {1, 2}
    assert set(refine(tracks, Refinement(least_confidence=0.3)).ids.tolist()) == {1}
    assert len(refine(tracks, Refinement(least_length=21)).ids) == 0


def test_nothing_gives_nothing():
    refined = refine(walk([], 1))
    assert refined.boxes_xyxy.shape == (0, 4)
    assert refined.sources.shape == (0,)


@given(st.integers(0, 2**32 - 1))
def test_every_detection_is_there_once_and_the_order_of_rows_does_not_matter(seed):
    rng = np.random.default_rng(seed)
    pieces = [
        walk(np.flatnonzero(rng.random(25) < 0.7), number, start=rng.uniform(0, 300, 2), step=rng.normal(0, 4, 2))
        for number in range(1, 6)
    ]
    tracks = together(*pieces)
    keep_all = Refinement(least_length=0)
    refined = refine(tracks, keep_all)
    assert sorted(refined.sources[~refined.interpolated].tolist()) == list(range(len(tracks.ids)))
    assert len(set(zip(refined.ids.tolist(), refined.frames.tolist(), strict=True))) == len(refined.ids)
    order = rng.permutation(len(tracks.ids))
    columns = ("frames", "ids", "boxes_xyxy", "scores", "class_ids")
    shuffled = refine(Tracks(*(getattr(tracks, name)[order] for name in columns)), keep_all)
    for name in columns:
        assert getattr(shuffled, name).tobytes() == getattr(refined, name).tobytes(), name
    assert np.array_equal(link(tracks, Refinement(link_gap=0)), tracks.ids) or len(tracks.ids) == 0


def test_the_smooth_curve_is_that_of_the_dense_normal_equations():
    rng = np.random.default_rng(0)
    at = np.array([0, 1, 2, 5, 6, 11])
    measured = rng.normal(size=(6, 2))
    pick, bend = np.eye(12)[at], np.diff(np.eye(12), 2, axis=0)
    expected = np.linalg.solve(pick.T @ pick + 9 * bend.T @ bend, pick.T @ measured)
    np.testing.assert_allclose(smoothed(at, measured, 3.0), expected)
    for count in (1, 2):
        np.testing.assert_allclose(smoothed(np.arange(count), measured[:count], 3.0), measured[:count])


def test_rows_that_do_not_fit_together_are_refused():
    tracks = walk(range(3), 1)
    with pytest.raises(ValueError, match="2 frames"):
        replace(tracks, frames=tracks.frames[:2])
    with pytest.raises(ValueError, match="2 class_ids do not go with 3 ids"):
        replace(tracks, class_ids=np.ones(2, np.int64))
    with pytest.raises(ValueError, match="finite"):
        replace(tracks, scores=np.array([0.1, np.nan, 0.2]))
    with pytest.raises(ValueError, match="two boxes in one frame"):
        replace(tracks, frames=np.array([0, 1, 1]))


@pytest.mark.parametrize("parameters", [{"link_gap": -1}, {"detection_share": 2}, {"stiffness": float("nan")}])
def test_a_parameter_out_of_range_is_named(parameters):
    with pytest.raises(ConfigurationError, match=next(iter(parameters))):
        Refinement(**parameters)
