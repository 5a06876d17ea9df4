import cv2
import numpy as np
import pytest

from pipeline.segmentation.refinement import (
    SURE,
    contested,
    expected_iou,
    guided_filter,
    outlined,
    refined,
    signed_distance,
    stability,
    without_crumbs,
)


def iou(a, b):
    return np.count_nonzero(a & b) / np.count_nonzero(a | b)


@pytest.fixture
def disc():
    """An orange disc on grey noise, and its mask."""
    rng = np.random.default_rng(3)
    image = rng.normal(120, 12, (120, 160, 3))
    truth = np.zeros((120, 160), np.uint8)
    cv2.circle(truth, (80, 60), 30, 1, cv2.FILLED)
    image[truth > 0] = rng.normal((40, 140, 220), 12, (int(truth.sum()), 3))
    return np.clip(image, 0, 255).astype(np.uint8), truth > 0


@pytest.mark.parametrize("shift", [(4, 0), (0, -4), (3, 3)])
def test_an_outline_some_pixels_off_comes_back_to_the_edge(disc, shift):
    image, truth = disc
    rough = np.roll(truth, shift, (0, 1))
    assert iou(rough, truth) < 0.88
    assert iou(refined(image, rough) > 0, truth) > 0.97


def test_without_any_edge_the_outline_stays_where_it_is(disc):
    _, truth = disc
    flat = np.full((120, 160, 3), 90, np.uint8)
    assert iou(refined(flat, truth) > 0, truth) > 0.95


def test_depth_that_contradicts_takes_pixels_away(disc):
    image, truth = disc
    rough = cv2.dilate(truth.astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
    flat = np.full_like(image, 90)
    evidence = np.where(truth, 0, -2).astype(np.float32)
    assert iou(refined(flat, rough, evidence) > 0, truth) > iou(refined(flat, rough) > 0, truth) + 0.1


def test_where_nothing_is_known_the_outline_may_move_farther(disc):
    image, truth = disc
    rough = truth.copy()
    rough[:50] = False  # its top, 20 pixels high, has no depth
    known = np.ones_like(truth)
    known[:50] = False
    assert iou(refined(image, rough, known=known) > 0, truth) > iou(refined(image, rough) > 0, truth) + 0.02


def test_crumbs_beside_an_object_are_not_part_of_it():
    odds = np.full((60, 60), -3.0, np.float32)
    odds[10:40, 10:40] = 2  # the object
    odds[45:55, 10:40] = 2  # what something in front cuts off from it
    odds[50:52, 50:52] = 2  # a crumb
    kept = without_crumbs(odds)
    assert (kept[50:52, 50:52] == -2).all()
    assert np.array_equal(kept[:, :45], odds[:, :45])
    assert without_crumbs(np.full((3, 3), -1.0)).max() == -1


def test_far_from_the_outline_nothing_changes_and_log_odds_are_bounded(disc):
    image, truth = disc
    odds = refined(image[::-1], truth)  # colours that speak against it
    distance = signed_distance(truth)
    assert odds.dtype == np.float32
    assert np.abs(odds).max() <= SURE
    assert (odds[distance > 12] > 0).all()
    assert (odds[distance < -12] < 0).all()


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (40, 1), (2, 3)])
@pytest.mark.parametrize("value", [False, True])
def test_masks_of_any_shape_full_or_empty_will_do(shape, value):
    odds = refined(np.full((*shape, 3), 7, np.uint8), np.full(shape, value))
    assert np.isfinite(odds).all()
    assert ((odds > 0) == value).all()


def test_a_mask_of_one_pixel_yields_finite_log_odds(disc):
    image, _ = disc
    one = np.zeros(image.shape[:2], bool)
    one[60, 80] = True
    assert np.isfinite(refined(image, one)).all()


def test_the_same_image_gives_the_same_bytes_on_any_number_of_threads(disc):
    image, truth = disc
    threads = cv2.getNumThreads()
    try:
        cv2.setNumThreads(1)
        alone = refined(image, truth)
        cv2.setNumThreads(4)
        assert refined(image, truth).tobytes() == alone.tobytes()
    finally:
        cv2.setNumThreads(threads)


def test_what_two_claim_goes_to_the_likelier():
    a, b = np.array([[3.0, 2.0, -1.0]], np.float32), np.array([[1.0, 4.0, -2.0]], np.float32)
    mine, other = contested([a, b])
    assert mine.tolist() == [[2.0, -2.0, -1.0]]
    assert other.tolist() == [[-2.0, 2.0, -2.0]]
    third = contested([a, b, np.array([[5.0, -8.0, -8.0]], np.float32)])
    assert [each[0, 0] > 0 for each in third] == [False, False, True]
    assert contested([a])[0] is a
    assert contested([]) == []


def test_quality_and_stability_are_high_where_the_outline_is_sure(disc):
    _, truth = disc
    distance = signed_distance(truth)
    sharp, vague = np.clip(4 * distance, -SURE, SURE), np.clip(0.1 * distance, -SURE, SURE)
    assert expected_iou(sharp) > 0.95 > expected_iou(vague)
    assert stability(sharp) > 0.95 > stability(vague)
    assert expected_iou(np.full((3, 3), -SURE)) == stability(np.full((3, 3), -SURE)) == 0


def test_the_expected_overlap_is_that_of_masks_drawn_by_chance():
    rng = np.random.default_rng(5)
    logits = rng.normal(0, 2, (80, 80)).astype(np.float32)
    chance = 1 / (1 + np.exp(-logits / 1.3))
    overlaps = [iou(logits > 0, rng.random(logits.shape) < chance) for _ in range(40)]
    assert expected_iou(logits) == pytest.approx(np.mean(overlaps), abs=0.01)


def test_an_instance_has_the_mask_of_its_logits_at_the_size_of_the_image(disc):
    _, truth = disc
    odds = np.clip(signed_distance(truth), -SURE, SURE)
    instance = outlined(odds, (320, 240), 2, 0.7, {2: 0.7})
    assert instance.mask.shape == instance.logits.shape == (240, 320)
    assert instance.logits.dtype == np.float16
    assert np.array_equal(instance.mask, instance.logits > 0)
    assert instance.mask.sum() == pytest.approx(4 * truth.sum(), rel=0.03)
    assert outlined(np.full((4, 4), -1.0), (4, 4), 2, 0.7, {2: 0.7}) is None


def test_the_guided_filter_moves_a_border_to_the_edge_of_the_image():
    image = np.zeros((40, 60, 3), np.uint8)
    image[:, 30:] = (40, 160, 220)
    rough = np.zeros((40, 60), np.float32)
    rough[:, 33:] = 1
    border = (guided_filter(image, rough, 6, 1e-4) > 0.5).argmax(axis=1)
    assert np.abs(border - 30).max() <= 1
