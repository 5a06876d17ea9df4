import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.special import expit, softmax

from pipeline.classification.calibration import (
    IsotonicMap,
    auroc,
    brier,
    expected_calibration_error,
    fit_binary_temperature,
    fit_temperature,
    negative_log_likelihood,
    reliability,
    risk_coverage,
)

FOUR = np.array([0.95, 0.85, 0.85, 0.35]), np.array([True, True, False, False])
confidences = hnp.arrays(np.float64, st.integers(1, 60), elements=st.floats(0, 1))


def answers(confidence, seed):
    return np.random.default_rng(seed).random(confidence.size) < confidence


def test_bins_hold_what_falls_into_them():
    parts = [each for each in reliability(*FOUR) if each.count]
    assert [(each.count, each.accuracy) for each in parts] == [(1, 0.0), (2, 0.5), (1, 1.0)]
    assert [each.confidence for each in parts] == pytest.approx([0.35, 0.85, 0.95])
    assert len(reliability(*FOUR)) == 10


def test_a_confidence_on_the_edge_of_two_bins_is_in_the_lower_one():
    parts = reliability(np.array([0.0, 0.1, 0.2, 1.0]), np.ones(4, bool))
    assert [each.count for each in parts] == [2, 1, 0, 0, 0, 0, 0, 0, 0, 1]


def test_the_calibration_error_computed_by_hand():
    # 1 of 4 off by 0.05, 2 of 4 off by 0.35, 1 of 4 off by 0.35
    assert expected_calibration_error(*FOUR) == pytest.approx((0.05 + 2 * 0.35 + 0.35) / 4)
    assert expected_calibration_error([], []) == 0


@pytest.mark.parametrize("wrong", [([0.5], [True, False]), ([1.5], [True]), ([-0.1], [True]), ([[0.5]], [[True]])])
def test_confidences_that_are_none_are_refused(wrong):
    with pytest.raises(ValueError, match="confidence"):
        reliability(*wrong)


@settings(max_examples=60, deadline=None)
@given(confidences, st.integers(0, 99))
def test_the_calibration_error_is_at_most_one_and_counts_everything(confidence, seed):
    correct = answers(confidence, seed)
    assert 0 <= expected_calibration_error(confidence, correct) <= 1
    assert sum(each.count for each in reliability(confidence, correct)) == confidence.size
    single = expected_calibration_error(confidence, correct, bins=1)
    assert single == pytest.approx(abs(confidence.mean() - correct.mean()))


def test_brier_and_likelihood_computed_by_hand():
    p = np.array([[0.7, 0.2, 0.1], [0.1, 0.1, 0.8]])
    assert brier(p, [0, 1]) == pytest.approx(((0.09 + 0.04 + 0.01) + (0.01 + 0.81 + 0.64)) / 2)
    assert negative_log_likelihood(p, [0, 1]) == pytest.approx(-(np.log(0.7) + np.log(0.1)) / 2)
    assert brier(np.empty((0, 3)), []) == negative_log_likelihood(np.empty((0, 3)), []) == 0


@pytest.mark.parametrize("true", [0.4, 1.0, 3.0])
def test_the_temperature_that_made_the_answers_is_found(true):
    rng = np.random.default_rng(4)
    logits = rng.normal(0, 3, (6000, 4))
    shares = softmax(logits / true, axis=1)
    labels = (rng.random((6000, 1)) > shares.cumsum(axis=1)).sum(axis=1).clip(0, 3)
    assert fit_temperature(logits, labels) == pytest.approx(true, rel=0.07)


@pytest.mark.parametrize("true", [0.5, 2.0])
def test_the_temperature_of_mask_logits_is_found(true):
    rng = np.random.default_rng(5)
    logits = rng.normal(0, 3, (80, 100))
    assert fit_binary_temperature(logits, rng.random((80, 100)) < expit(logits / true)) == pytest.approx(true, rel=0.07)


def test_caution_keeps_a_few_right_answers_from_being_certain():
    logits, labels = np.eye(3) * 2, [0, 1, 2]
    assert fit_temperature(logits, labels) < 0.1
    assert 0.3 < fit_temperature(logits, labels, caution=2.0) < 1
    assert fit_temperature(np.empty((0, 3)), []) == fit_binary_temperature([], []) == 1


def test_a_temperature_never_raises_the_loss():
    rng = np.random.default_rng(6)
    logits, labels = rng.normal(0, 5, (300, 5)), rng.integers(0, 5, 300)
    t = fit_temperature(logits, labels)
    before, after = (negative_log_likelihood(softmax(logits / each, axis=1), labels) for each in (1.0, t))
    assert after < before


def test_the_isotonic_map_pools_what_violates_the_order():
    fitted = IsotonicMap.fit([1.0, 2.0, 3.0, 4.0], [0, 1, 0, 1])
    assert fitted([1, 2, 3, 4]) == pytest.approx([0, 0.5, 0.5, 1])
    assert fitted([-9, 9]) == pytest.approx([0, 1])
    with pytest.raises(ValueError, match="isotonic"):
        IsotonicMap.fit([], [])


@settings(max_examples=60, deadline=None)
@given(confidences, st.integers(0, 99))
def test_the_isotonic_map_rises_and_keeps_the_mean(scores, seed):
    truth = answers(scores, seed)
    fitted = IsotonicMap.fit(scores, truth)
    assert (np.diff(fitted(np.linspace(-1, 2, 50))) >= -1e-12).all()
    assert fitted(scores).mean() == pytest.approx(truth.mean())


@pytest.mark.parametrize(
    ("scores", "positive", "expected"),
    [
        ([0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1], 0.75),
        ([1, 2, 3, 4], [0, 0, 1, 1], 1.0),
        ([1, 1, 1, 1], [0, 1, 0, 1], 0.5),
        ([4, 3], [0, 1], 0.0),
    ],
)
def test_the_area_under_the_curve_counts_pairs(scores, positive, expected):
    assert auroc(scores, positive) == pytest.approx(expected)


def test_without_a_negative_there_is_no_area():
    assert np.isnan(auroc([0.5, 0.6], [1, 1]))


def test_risk_over_coverage_computed_by_hand():
    coverage, risk, area = risk_coverage([0.9, 0.8, 0.7, 0.6], [True, False, True, False])
    assert coverage.tolist() == [0.25, 0.5, 0.75, 1.0]
    assert risk == pytest.approx([0, 1 / 2, 1 / 3, 1 / 2])
    assert area == pytest.approx((0 + 1 / 2 + 1 / 3 + 1 / 2) / 4)
    assert risk_coverage([], [])[2] == 0


@settings(max_examples=60, deadline=None)
@given(confidences, st.integers(0, 99), st.randoms(use_true_random=False))
def test_the_order_of_the_answers_does_not_matter(confidence, seed, random):
    confidence = np.round(confidence, 1)  # many ties
    correct = answers(confidence, seed)
    order = random.sample(range(confidence.size), confidence.size)
    first, second = risk_coverage(confidence, correct), risk_coverage(confidence[order], correct[order])
    assert first[1] == pytest.approx(second[1])
    assert first[1][-1] == pytest.approx(1 - correct.mean())
