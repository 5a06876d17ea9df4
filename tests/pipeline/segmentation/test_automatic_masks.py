import numpy as np
import pytest

from pipeline.segmentation.automatic_masks import Candidates, Selection, cleaned, enlarged, grid, stability


def disc(x, y, radius, size=64, sure=4.0):
    """Logits that fall off from the middle of a disc."""
    rows, columns = np.mgrid[:size, :size]
    return (sure * (1 - np.hypot(rows - y, columns - x) / radius)).astype(np.float32)


def add(candidates, *found):
    candidates.add(np.stack([logits for logits, _ in found]), np.array([quality for _, quality in found], np.float32))


def test_the_grid_has_a_point_in_the_middle_of_each_cell():
    points = grid(4, 128)
    assert points.shape == (16, 2)
    assert points.tolist()[:5] == [[16, 16], [48, 16], [80, 16], [112, 16], [16, 48]]


def test_stability_is_high_where_the_edge_is_sharp():
    sharp, soft, empty = disc(32, 32, 20, sure=80), disc(32, 32, 20, sure=3), np.full((64, 64), -9, np.float32)
    values = stability(np.stack([sharp, soft, empty]))
    assert values[0] > 0.9 > 0.5 > values[1] > values[2] == 0


def test_of_masks_that_mean_the_same_the_best_is_kept():
    candidates = Candidates(Selection(stability=0, quality=0.5))
    add(candidates, (disc(20, 20, 10), 0.8), (disc(21, 20, 10), 0.9), (disc(45, 45, 10), 0.7), (disc(20, 20, 4), 0.6))
    assert [each.quality for each in candidates.distinct()] == pytest.approx([0.9, 0.7, 0.6])


def test_what_is_poor_unstable_or_tiny_is_not_looked_at():
    candidates = Candidates(Selection(stability=0.8, quality=0.5, min_share=0.002))
    add(candidates, (disc(20, 20, 10, sure=40), 0.4), (disc(40, 40, 10, sure=2), 0.9), (disc(40, 20, 1, sure=40), 0.9))
    assert candidates.distinct() == []
    assert candidates.seen == 0


def test_thousands_of_masks_are_bounded_and_counted():
    selection = Selection(stability=0, quality=0.1, overlap=0.9, most=50, most_candidates=300)
    candidates = Candidates(selection)
    random = np.random.default_rng(0)
    qualities = random.uniform(0.2, 1.0, 2000)
    for start in range(0, 2000, 100):
        places = random.uniform(4, 60, (100, 2))
        found = [(disc(x, y, 3), q) for (x, y), q in zip(places, qualities[start : start + 100], strict=True)]
        add(candidates, *found)
        assert len(candidates._kept) <= 700
    kept = candidates.distinct()
    assert len(kept) == 50
    assert candidates.seen == 2000
    assert candidates.dropped >= 1700
    assert kept[0].quality == pytest.approx(qualities.max(), abs=1e-6)
    assert [each.quality for each in kept] == sorted((each.quality for each in kept), reverse=True)


def test_a_mask_keeps_its_place_when_it_is_enlarged():
    large = enlarged(disc(32, 16, 12), (256, 512)) > 0
    rows, columns = np.nonzero(large)
    assert (rows.mean(), columns.mean()) == pytest.approx((16.5 * 4, 32.5 * 8), abs=4)


def test_islands_are_removed_and_holes_filled_and_the_logits_say_so():
    logits = np.full((40, 40), -5, np.float32)
    logits[5:25, 5:25] = 5
    logits[10:12, 10:12] = -5
    logits[35:37, 35:37] = 5
    mask = cleaned(logits, 10) > 0
    assert mask[5:25, 5:25].all()
    assert mask.sum() == 400
    assert np.array_equal(cleaned(logits, 1), logits)


def test_the_largest_island_stays_however_small():
    logits = np.full((40, 40), -5, np.float32)
    logits[3, 3:6] = 5
    logits[20, 20] = 5
    assert np.argwhere(cleaned(logits, 100) > 0).tolist() == [[3, 3], [3, 4], [3, 5]]
