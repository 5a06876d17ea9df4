import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pipeline.classification.mixing import evidence, extended, fit_weight, mixed, shares

values = hnp.arrays(np.float64, 4, elements=st.floats(0.001, 1))


def test_evidence_is_the_objectness_else_what_the_scores_sum_to():
    assert evidence({1: 0.2, 2: 0.1}, 0.9) == pytest.approx(0.9)
    assert evidence({1: 0.2, 2: 0.1}, None) == pytest.approx(0.3)
    assert evidence({}, None) == 1


def test_shares_are_what_the_thing_would_be():
    assert shares({1: 0.4, 2: 0.2}, 0.8, (1, 2)) == pytest.approx([0.5, 0.25, 0.25])
    assert shares({2: 0.2}, None, (1, 2)) == pytest.approx([0, 0.5, 0.5])
    assert shares({}, None, (1, 2)) == pytest.approx([1 / 3] * 3)
    assert shares({}, 0.0, (1, 2)) == pytest.approx([1 / 3] * 3)
    assert shares({9: 0.0}, 0.0, (1, 2)) == pytest.approx([1 / 3] * 3)


def test_a_class_without_a_label_takes_from_none_what_the_segmenter_gives_it():
    head = np.array([0.6, 0.1, 0.3])  # of classes 1 and 2, and none
    own = np.array([0.1, 0.1, 0.6, 0.2])  # of classes 1, 2, 3, and none
    assert extended(head, (1, 2), (1, 2, 3), own) == pytest.approx([0.6, 0.1, 0.3 * 0.75, 0.3 * 0.25])


def test_a_class_the_job_does_not_have_is_none():
    assert extended(np.array([0.6, 0.1, 0.3]), (1, 2), (2,), np.array([0.5, 0.5])) == pytest.approx([0.1, 0.9])


@settings(max_examples=80, deadline=None)
@given(values, values, st.floats(0, 3))
def test_a_mixture_is_a_distribution_and_rises_with_both_opinions(head, own, weight):
    head, own = head / head.sum(), own / own.sum()
    p = mixed(head, own, weight)
    assert p.sum() == pytest.approx(1)
    more = own.copy()
    more[0] += 0.5
    assert mixed(head, more / more.sum(), weight)[0] >= p[0] - 1e-9
    assert mixed(head, own, 0.0) == pytest.approx(head)


def test_the_weight_follows_how_good_the_segmenter_is():
    rng = np.random.default_rng(0)
    column = rng.integers(0, 3, 200)
    head = np.full((200, 4), 0.25)
    good, bad = np.full((200, 4), 0.1), rng.dirichlet(np.ones(4), 200)
    good[np.arange(200), column] = 0.7
    assert fit_weight(head, good, column) > 1
    assert fit_weight(head, bad, column) < 0.2
    assert fit_weight(head[:0], good[:0], column[:0]) == pytest.approx(0.3)
