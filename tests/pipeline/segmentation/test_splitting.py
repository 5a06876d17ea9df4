import cv2
import numpy as np
import pytest

from pipeline.segmentation.splitting import by_concavity, by_depth, by_shape, parts

SPLITTERS = [by_shape, by_concavity]


def discs(*circles, size=(120, 240)):
    mask = np.zeros(size, np.uint8)
    for x, y, radius in circles:
        cv2.circle(mask, (x, y), radius, 1, cv2.FILLED)
    return mask > 0


def box(mask):
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return columns[0], rows[0], columns[-1], rows[-1]


def test_parts_are_those_that_are_connected_and_large_enough():
    mask = discs((40, 60, 20), (120, 60, 20), (200, 60, 3))
    found = parts(mask, 100)
    assert [box(each) for each in found] == [(20, 40, 60, 80), (100, 40, 140, 80)]
    assert parts(np.zeros((5, 5), bool), 1) == []


@pytest.mark.parametrize("split", SPLITTERS)
def test_two_that_touch_are_told_apart_and_nothing_is_lost(split):
    mask = discs((70, 60, 40), (140, 60, 38))
    pieces = split(mask, 50)
    assert len(pieces) == 2
    assert np.array_equal(np.any(pieces, axis=0), mask)
    assert not np.any(pieces[0] & pieces[1])
    assert sorted(np.count_nonzero(each) for each in pieces)[0] > 0.4 * mask.sum()


@pytest.mark.parametrize("split", SPLITTERS)
@pytest.mark.parametrize(
    "mask",
    [
        discs((120, 60, 50)),
        discs((90, 60, 40), (150, 60, 40), (120, 60, 44)),
        discs((110, 60, 50), (165, 60, 8)),
        np.pad(np.ones((40, 150), bool), 30),
    ],
    ids=["disc", "long", "mirror", "bar"],
)
def test_one_thing_stays_one(split, mask):
    pieces = split(mask, 50)
    assert len(pieces) == 1
    assert np.array_equal(pieces[0], mask)


def test_a_row_of_cars_far_away_becomes_as_many_cars():
    mask = np.zeros((80, 260), np.uint8)
    for x, width, height in ((10, 90, 50), (105, 60, 34), (170, 40, 24)):
        cv2.ellipse(mask, (x + width // 2, 60 - height // 2), (width // 2, height // 2), 0, 0, 360, 1, cv2.FILLED)
        cv2.rectangle(mask, (x + width // 3, 52), (x + width + 8, 58), 1, cv2.FILLED)  # what joins them at the ground
    mask[:, 215:] = 0
    assert len(by_concavity(mask > 0, 50)) == 3


@pytest.mark.parametrize("split", SPLITTERS)
@pytest.mark.parametrize("shape", [(1, 1), (1, 30), (30, 1), (2, 2), (5, 400)])
def test_masks_that_fill_an_image_of_any_shape_will_do(split, shape):
    assert [each.tolist() for each in split(np.ones(shape, bool), 1)] == [np.ones(shape, bool).tolist()]


@pytest.mark.parametrize("split", SPLITTERS)
def test_ragged_masks_are_never_torn_to_less_than_the_least(split):
    rng = np.random.default_rng(8)
    for _ in range(12):
        noise = cv2.GaussianBlur(rng.normal(size=(90, 140)), (0, 0), 5)
        for whole in parts(noise > 0.02, 60):
            pieces = split(whole, 60)
            assert np.array_equal(np.sum(pieces, axis=0), whole)
            assert len(pieces) == 1 or min(np.count_nonzero(each) for each in pieces) >= 0.5 * 60


def test_a_jump_of_the_depth_cuts_and_a_slope_does_not():
    mask = np.zeros((60, 120), bool)
    mask[10:50, 10:110] = True
    jump = np.where(np.arange(120) < 60, 4.0, 9.0).astype(np.float32) * np.ones((60, 1), np.float32)
    slope = np.linspace(4, 9, 120, dtype=np.float32) * np.ones((60, 1), np.float32)
    left, right = sorted(by_depth(mask, jump, 500, 50), key=lambda each: box(each)[0])
    assert (box(left)[2], box(right)[0]) == (59, 60)
    assert len(by_depth(mask, slope, 500, 50)) == 1
    jump[mask & (np.random.default_rng(1).random(mask.shape) < 0.8)] = np.nan
    assert len(by_depth(mask, jump, 500, 50)) == 1  # too little is known to cut
