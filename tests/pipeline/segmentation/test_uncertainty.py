import time

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.segmentation.base import Instance
from pipeline.segmentation.geometric import Geometric
from pipeline.segmentation.uncertainty import (
    encoded,
    expected_wrong,
    mean,
    uncertain_regions,
    uncertainty_map,
)
from pipeline.simulation.scene import CLASSES

SHAPE = (120, 200)
BOX = (slice(40, 88), slice(60, 140))
INSIDE, OUTSIDE = (16, 25), (3, 3)  # cells of the map


def mask(box=BOX):
    out = np.zeros(SHAPE, bool)
    out[box] = True
    return out


def instance(scores, logits=None, box=BOX):
    found = logits > 0 if logits is not None else mask(box)
    return Instance(found, next(iter(scores)), max(scores.values()), scores, logits=logits)


def sharp(box=BOX):
    return np.where(mask(box), 8, -8).astype(np.float16)


def test_a_frame_without_instances_is_not_unsure():
    found = uncertainty_map([], SHAPE)
    assert (found.shape, found.dtype) == ((30, 50), np.uint8)
    assert not found.any()
    assert mean(found) == 0
    assert uncertain_regions(found, SHAPE) == []


@pytest.mark.parametrize(
    ("scores", "bits"),
    [
        ({1: 1.0}, 0.0),
        ({1: 0.5}, 1.0),  # real or not: a toss-up
        ({1: 0.9}, 0.469),
        ({1: 0.5, 2: 0.5}, 1.0),  # real, but which class?
        ({1: 0.9, 2: 0.1}, 0.469),
        ({1: 0.3, 2: 0.3, 3: 0.3}, 1.0),  # more than a bit is cut off
        ({1: 0.02}, 0.141),
    ],
)
def test_the_scale_is_the_entropy_in_bits(scores, bits):
    found = uncertainty_map([instance(scores, sharp())], SHAPE)
    assert found[INSIDE] / 255 == pytest.approx(bits, abs=0.012)
    assert found[OUTSIDE] == 0


def test_pixels_with_even_odds_are_a_toss_up():
    logits = sharp()
    logits[:, 120:] = np.where(mask()[:, 120:], 0.001, -8)
    found = uncertainty_map([instance({1: 1.0}, logits)], SHAPE)
    assert found[16, 33] > 250
    assert found[INSIDE] < 5


def test_a_higher_temperature_is_less_sure():
    x = np.clip((np.arange(200) - 100) / 4, -8, 8)
    logits = np.broadcast_to(x, SHAPE).astype(np.float16)
    cold, warm = (uncertainty_map([instance({1: 1.0}, logits)], SHAPE, t) for t in (0.5, 2.0))
    assert mean(warm) > 2 * mean(cold)


def test_without_logits_the_outline_is_unsure_and_the_inside_is_not():
    found = uncertainty_map([instance({1: 1.0})], SHAPE)
    assert found[16, 15] > 100  # on the outline
    assert found[INSIDE] < 3
    assert found[OUTSIDE] == 0


def test_two_that_claim_the_same_pixels_are_unsure_of_which():
    one = uncertainty_map([instance({1: 1.0}, sharp())], SHAPE)
    two = uncertainty_map([instance({1: 1.0}, sharp()), instance({2: 1.0}, sharp())], SHAPE)
    assert one[INSIDE] < 5
    assert two[INSIDE] > 250


def test_the_order_of_the_instances_does_not_matter():
    several = [instance({1: 0.7}, sharp()), instance({2: 0.4, 3: 0.2}, box=(slice(60, 110), slice(100, 180)))]
    assert np.abs(uncertainty_map(several, SHAPE).astype(int) - uncertainty_map(several[::-1], SHAPE)).max() <= 1


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.lists(st.floats(0, 1), min_size=0, max_size=4), st.integers(0, 99))
def test_any_image_and_any_scores_give_a_map(height, width, values, seed):
    rng = np.random.default_rng(seed)
    scale = max(sum(values), 1.0)
    scores = {number: value / scale for number, value in enumerate(values, start=1)}
    logits = rng.normal(0, 20, (height, width)).astype(np.float16)
    several = [
        Instance(logits > 0, 1, 0.5, scores, logits=logits),
        Instance(logits < -5, 1, 0.5, scores),
        Instance(np.ones((height, width), bool), 1, 0.5, scores),
    ]
    found = uncertainty_map(several, (height, width))
    assert found.shape == (-(-height // 4), -(-width // 4))


def test_the_picture_holds_the_map():
    found = uncertainty_map([instance({1: 0.8}, sharp())], SHAPE)
    assert np.array_equal(cv2.imdecode(np.frombuffer(encoded(found), np.uint8), cv2.IMREAD_UNCHANGED), found)
    assert encoded(found) == encoded(found.copy())
    assert mean(found) == pytest.approx(found.mean() / 255, abs=1e-6)


def test_how_likely_wrong_undoes_the_entropy():
    levels = np.array([0, 255, round(255 * 0.469)], np.uint8)
    assert expected_wrong(levels) == pytest.approx([0, 0.5, 0.1], abs=0.005)


def test_regions_come_with_the_most_wrong_pixels_first():
    unsure, less, small = {1: 0.55}, {1: 0.8}, {1: 0.5}
    several = [
        instance(small, sharp(box), box=box) if scores is small else instance(scores, sharp(box), box=box)
        for scores, box in (
            (small, (slice(4, 24), slice(4, 24))),
            (less, (slice(40, 100), slice(8, 68))),
            (unsure, (slice(40, 100), slice(120, 180))),
        )
    ]
    regions = uncertain_regions(uncertainty_map(several, SHAPE), SHAPE)
    assert [each.bbox_xywh for each in regions] == [(120, 40, 60, 60), (8, 40, 60, 60), (4, 4, 20, 20)]
    assert regions[0].expected_wrong == pytest.approx(0.45 * 3600, rel=0.05)
    assert regions[1].expected_wrong == pytest.approx(0.2 * 3600, rel=0.05)
    assert regions[0].area == 3600
    assert regions[0].mean == pytest.approx(0.993, abs=0.01)


def test_thin_outlines_are_no_region_but_broad_doubt_is():
    thin = uncertainty_map([instance({1: 1.0})], SHAPE)
    assert thin.max() > 128
    assert uncertain_regions(thin, SHAPE) == []
    broad = np.clip((np.arange(200) - 100) / 12, -8, 8)
    logits = np.broadcast_to(broad, SHAPE).astype(np.float16)
    assert len(uncertain_regions(uncertainty_map([instance({1: 1.0}, logits)], SHAPE), SHAPE)) == 1


def test_a_region_cut_by_the_border_stays_in_the_image():
    shape = (118, 198)
    found = np.full((30, 50), 255, np.uint8)
    assert [each.bbox_xywh for each in uncertain_regions(found, shape)] == [(0, 0, 198, 118)]


def test_the_map_of_a_frame_takes_ten_milliseconds_at_most(street):
    """Of the processor's own time, so that what else the machine does is left out."""
    found = Geometric(CLASSES).segment([street.view])[0]
    assert len(found) >= 3
    best = np.inf
    for _ in range(7):
        started = time.process_time()
        encoded(uncertainty_map(found, street.view.image.shape[:2]))
        best = min(best, time.process_time() - started)
    assert best < 0.010


def test_where_the_street_is_unsure_it_is_wrong_more_often(street):
    """Sampled at the cells of the map: errors of the masks against the true ones."""
    found = [each for each in Geometric(CLASSES).segment([street.view])[0] if each.confidence >= 0.5]
    said = np.any([each.mask for each in found], axis=0)
    wrong = (said != (street.instances > 0)) & ~np.isin(street.instances, unseen(street, found))
    doubt = cv2.resize(uncertainty_map(found, said.shape), said.shape[::-1], interpolation=cv2.INTER_NEAREST)
    assert wrong[doubt > 200].mean() > 5 * wrong[doubt < 50].mean()


def unseen(street, found):
    """Actors that nothing was found of: no map can know of them."""
    union = np.any([each.mask for each in found], axis=0)
    return [each for each in street.names if union[street.instances == each].mean() < 0.3]
