from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.tracking.association import assign, grown, height_overlap, iou_xyxy


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        (np.empty((0, 4)), np.empty((0, 4)), np.empty((0, 0))),
        (np.empty((0, 4)), np.ones((2, 4)), np.empty((0, 2))),
        ([[0, 0, 2, 2]], [[0, 0, 2, 2]], [[1]]),
        ([[0, 0, 2, 2]], [[1, 0, 3, 2], [2, 0, 4, 2], [9, 9, 10, 10]], [[1 / 3, 0, 0]]),
        ([[0, 0, 4, 4]], [[1, 1, 2, 2]], [[1 / 16]]),
        ([[1, 1, 1, 1]], [[1, 1, 1, 1]], [[0]]),
    ],
)
def test_iou_of_every_pair(a, b, expected):
    np.testing.assert_allclose(iou_xyxy(np.array(a, float), np.array(b, float)), expected)


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        (np.empty((0, 4)), np.empty((0, 4)), np.empty((0, 0))),
        ([[0, 0, 2, 4]], [[50, 0, 60, 4], [0, 2, 2, 6], [0, 5, 2, 9]], [[1, 1 / 3, 0]]),
        ([[0, 1, 1, 1]], [[0, 1, 1, 1]], [[0]]),
    ],
)
def test_how_far_heights_overlap_wherever_the_boxes_stand(a, b, expected):
    np.testing.assert_allclose(height_overlap(np.array(a, float), np.array(b, float)), expected)


def test_a_box_grows_by_its_own_size_on_every_side():
    assert grown(np.array([[10.0, 20, 14, 30]])).tolist() == [[6, 10, 18, 40]]


@given(st.integers(0, 2**32 - 1), st.integers(0, 4), st.integers(0, 4), st.floats(0, 0.9))
def test_an_assignment_is_the_best_of_all(seed, rows, columns, least):
    similarity = np.random.default_rng(seed).random((rows, columns))
    pairs = assign(similarity, least)
    assert len({row for row, _ in pairs}) == len({column for _, column in pairs}) == len(pairs)
    assert all(similarity[row, column] > least for row, column in pairs)
    gain = np.zeros((4, 4))
    gain[:rows, :columns] = np.maximum(similarity - least, 0)
    best = max(sum(gain[row, column] for row, column in enumerate(order)) for order in permutations(range(4)))
    assert sum(similarity[pair] - least for pair in pairs) == pytest.approx(best)


def test_a_better_sum_beats_a_better_pair():
    assert assign(np.array([[0.9, 0.8], [0.8, 0.1]]), 0.2) == [(0, 1), (1, 0)]
