"""Whether probabilities mean what they say, and how to make them.

Guo, Pleiss, Sun, Weinberger, "On Calibration of Modern Neural Networks", 2017 (temperature, ECE, reliability); Zadrozny
and Elkan, "Transforming Classifier Scores into Accurate Multiclass Probability Estimates", 2002 (isotonic map); Geifman
and El-Yaniv, "Selective Classification for Deep Neural Networks", 2017 (risk and coverage).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression, minimize_scalar
from scipy.special import log_softmax
from scipy.stats import rankdata

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

BINS: Final = 10
_TEMPERATURES: Final = (0.005, 50.0)
"""Where a temperature is looked for: beyond, nothing changes any more but the size of the numbers."""


@dataclass(frozen=True, slots=True)
class Bin:
    """Predictions with a confidence in low…high (high included): how many, how confident, and how often right."""

    low: float
    high: float
    count: int
    confidence: float
    accuracy: float


def reliability(confidence: Any, correct: Any, bins: int = BINS) -> list[Bin]:
    """The reliability diagram: `bins` of equal width over 0…1, empty ones with count 0.

    confidence: (N,) in 0…1; correct: bool (N,).
    """
    confidence, correct = _checked(confidence, correct)
    place = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    count = np.bincount(place, minlength=bins)
    sure = np.bincount(place, weights=confidence, minlength=bins)
    right = np.bincount(place, weights=correct.astype(np.float64), minlength=bins)
    some = np.maximum(count, 1)
    return [
        Bin(i / bins, (i + 1) / bins, int(count[i]), float(sure[i] / some[i]), float(right[i] / some[i]))
        for i in range(bins)
    ]


def expected_calibration_error(confidence: Any, correct: Any, bins: int = BINS) -> float:
    """Mean distance of confidence and accuracy over the bins, weighted by their counts; 0 for no predictions."""
    parts = reliability(confidence, correct, bins)
    total = sum(each.count for each in parts)
    return sum(each.count * abs(each.confidence - each.accuracy) for each in parts) / total if total else 0.0


def brier(probabilities: Any, labels: Any) -> float:
    """Mean squared distance of probabilities (N, C) from certainty of the right column, labels int (N,); 0…2."""
    values = np.asarray(probabilities, dtype=np.float64)
    rows = np.asarray(labels, dtype=np.int64)
    if not rows.size:
        return 0.0
    right = values[np.arange(rows.size), rows]
    return float(np.mean(np.square(values).sum(axis=1) - 2 * right + 1))


def negative_log_likelihood(probabilities: Any, labels: Any) -> float:
    """Mean of -log p of the right column; what was called impossible counts as one in a million million."""
    values = np.asarray(probabilities, dtype=np.float64)
    rows = np.asarray(labels, dtype=np.int64)
    if not rows.size:
        return 0.0
    return float(-np.mean(np.log(np.maximum(values[np.arange(rows.size), rows], 1e-12))))


def fit_temperature(logits: Any, labels: Any, caution: float = 0.0) -> float:
    """The T for which softmax(logits / T) fits best (least NLL). logits (N, C), labels int (N,); 1 for no data.

    caution: how much the squared logarithm of T costs, in likelihoods of one label. Of a few labels that are all right,
    nothing else keeps T from 0.
    """
    values = np.asarray(logits, dtype=np.float64)
    rows = np.asarray(labels, dtype=np.int64)
    if not rows.size:
        return 1.0
    at = np.arange(rows.size)

    def loss(t: float) -> float:
        fit = float(-log_softmax(values / t, axis=1)[at, rows].sum())
        return fit + caution * float(np.log(t)) ** 2

    return _best(loss)


def fit_binary_temperature(logits: Any, truth: Any) -> float:
    """The same for log-odds (N,) of yes/no questions, the pixels of masks that people corrected; truth bool (N,)."""
    values, yes = np.asarray(logits, dtype=np.float64).ravel(), np.asarray(truth, dtype=bool).ravel()
    if values.shape != yes.shape:
        raise ValueError(f"logits and truth are {values.shape} and {yes.shape}: one of each is needed.")
    if not yes.size:
        return 1.0
    signed = np.where(yes, -values, values)
    return _best(lambda t: float(np.mean(np.logaddexp(0, signed / t))))


def _best(loss: Callable[[float], float]) -> float:
    low, high = np.log(_TEMPERATURES)
    found = minimize_scalar(lambda log_t: loss(float(np.exp(log_t))), bounds=(low, high), method="bounded")
    return float(np.exp(found.x))


@dataclass(frozen=True, slots=True)
class IsotonicMap:
    """A rising map of scores to probabilities, linear between its knots (K,) and level beyond them."""

    scores: Floats
    probabilities: Floats

    @classmethod
    def fit(cls, scores: Any, truth: Any) -> "IsotonicMap":
        """Pool adjacent violators over scores (N,), truth bool or 0…1 (N,). Raises ValueError for no data."""
        x, y = np.asarray(scores, dtype=np.float64), np.asarray(truth, dtype=np.float64)
        if not x.size or x.shape != y.shape or x.ndim != 1:
            raise ValueError("An isotonic map needs one truth for each of at least one score.")
        knots, at, count = np.unique(x, return_inverse=True, return_counts=True)
        mean = np.bincount(at, weights=y) / count
        return cls(knots, np.asarray(isotonic_regression(mean, weights=count).x, dtype=np.float64))

    def __call__(self, scores: Any) -> Floats:
        return np.asarray(np.interp(np.asarray(scores, dtype=np.float64), self.scores, self.probabilities))


def auroc(scores: Any, positive: Any) -> float:
    """The chance that a positive scores above a negative (ties count half); NaN where either is missing."""
    values, flags = np.asarray(scores, dtype=np.float64), np.asarray(positive, dtype=bool)
    yes = int(np.count_nonzero(flags))
    no = flags.size - yes
    if not yes or not no:
        return float("nan")
    ranks = rankdata(values)
    return float((ranks[flags].sum() - yes * (yes + 1) / 2) / (yes * no))


def risk_coverage(confidence: Any, correct: Any) -> tuple[Floats, Floats, float]:
    """Coverage (N,), the share of predictions kept, the surest first; risk (N,), the share of wrong ones among them;
    and the area under the curve (the mean of the risks)."""
    confidence, correct = _checked(confidence, correct)
    if not correct.size:
        return np.empty(0), np.empty(0), 0.0
    # Equally sure ones share their errors: the curve does not depend on the order they came in.
    _, group = np.unique(-confidence, return_inverse=True)
    wrong = np.bincount(group, weights=~correct) / np.bincount(group)
    kept = np.arange(1, correct.size + 1)
    risk = np.cumsum(wrong[np.sort(group)]) / kept
    return kept / correct.size, risk, float(risk.mean())


def _checked(confidence: Any, correct: Any) -> tuple[Floats, Flags]:
    values, flags = np.asarray(confidence, dtype=np.float64), np.asarray(correct, dtype=bool)
    if values.shape != flags.shape or values.ndim != 1:
        raise ValueError(f"confidence and correct are {values.shape} and {flags.shape}: two (N,) are needed.")
    if values.size and not (values.min() >= 0 and values.max() <= 1):
        raise ValueError("confidence: every value must be within 0 and 1.")
    return values, flags
