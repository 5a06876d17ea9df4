import numpy as np
import pytest

from pipeline.segmentation.evidence import extent, quantiles, rising, solidity, surroundings


def test_quantiles_are_those_of_numpy():
    values = np.random.default_rng(1).normal(size=257)
    assert np.allclose(quantiles(values, (0, 0.03, 0.5, 0.985, 1)), np.quantile(values, (0, 0.03, 0.5, 0.985, 1)))
    assert quantiles(np.array([3.0]), (0.2, 0.9)) == [3, 3]


@pytest.mark.parametrize(("value", "expected"), [(0.0, 0), (0.2, 0), (0.3, 0.5), (0.4, 1), (9.0, 1)])
def test_support_rises_between_its_limits(value, expected):
    assert rising(value, (0.2, 0.4)) == pytest.approx(expected)


def test_extent_is_measured_across_and_along_the_line_of_sight():
    x, z = (each.ravel() for each in np.meshgrid(np.linspace(-0.5, 0.5, 101), np.linspace(9, 11, 101)))
    across, along = extent(x, z)
    assert across == pytest.approx(1.0, abs=0.1)
    assert along == pytest.approx(2.0, abs=0.25)


def test_a_sieve_is_less_solid_than_a_plate_and_holes_of_the_matcher_count():
    plate = np.zeros((40, 40), bool)
    plate[8:32, 8:32] = True
    sieve = plate.copy()
    sieve[::4] = False
    depth = np.full((40, 40), 3.0, np.float32)
    assert solidity(plate, depth) == (1.0, 1.0)
    assert solidity(sieve, depth)[0] < 0.85
    depth[::2] = np.nan
    assert solidity(plate, depth)[1] == pytest.approx(0.5, abs=0.05)


def test_a_piece_before_a_far_wall_is_free_and_a_part_of_the_wall_is_not():
    mask = np.zeros((80, 80), bool)
    mask[30:50, 30:50] = True
    depth = np.where(mask, 3.0, 9.0).astype(np.float32)
    standing = np.ones_like(mask)
    assert surroundings(mask, depth, standing).free > 0.95
    assert surroundings(mask, np.full_like(depth, 3.0), standing).free < 0.2


def test_something_nearer_beside_or_below_hides_the_rest():
    mask = np.zeros((80, 80), bool)
    mask[30:50, 30:50] = True
    depth = np.where(mask, 6.0, 9.0).astype(np.float32)
    standing = np.ones_like(mask)
    assert not surroundings(mask, depth, standing).aside
    beside = depth.copy()
    beside[:, 50:] = 2.0
    assert surroundings(mask, beside, standing).aside
    assert not surroundings(mask, beside, standing).below
    under = depth.copy()
    under[50:] = 2.0
    assert surroundings(mask, under, standing).below
