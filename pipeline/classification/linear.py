"""Multinomial logistic regression with an L2 penalty, the whole path of penalties at once."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh
from scipy.optimize import minimize
from scipy.special import log_softmax

Floats = NDArray[np.float64]

PENALTIES: Final = (10.0, 2.0, 0.4, 0.08, 0.016)
"""Strong to weak, for features whose mean square over instances and dimensions is 1, divided by the root of D."""
_DIRECTIONS: Final = 160
"""The fit is done in the main directions of the features: at most so many (the penalty keeps the others near 0)."""
_ITERATIONS: Final = 40
_ENOUGH: Final = 1e-6
"""A fit ends after so many steps, or with one that betters it by less than this share."""


@dataclass(frozen=True, slots=True)
class Linear:
    """weights (D, C), bias (C,) on features as they come: log-odds up to what they have in common."""

    weights: Floats
    bias: Floats

    def logits(self, features: NDArray[np.floating]) -> Floats:
        return np.asarray(np.asarray(features, dtype=np.float64) @ self.weights + self.bias)


@dataclass(frozen=True, slots=True)
class Directions:
    """Features (N, D) seen in their main directions: z = (x - centre) @ basis, basis (D, K)."""

    centre: Floats
    basis: Floats

    @classmethod
    def of(cls, features: NDArray[np.floating]) -> "Directions":
        x = np.asarray(features, dtype=np.float64)
        centre = x.mean(axis=0)
        x = x - centre
        n, dimension = x.shape
        scale = float(np.sqrt(np.mean(np.square(x)))) + 1e-12
        keep = min(_DIRECTIONS, n, dimension)
        if dimension <= n:
            _, vectors = eigh(x.T @ x, subset_by_index=(dimension - keep, dimension - 1))
            basis = vectors[:, ::-1]
        else:
            values, vectors = eigh(x @ x.T, subset_by_index=(n - keep, n - 1))
            values, vectors = values[::-1], vectors[:, ::-1]
            solid = values > 1e-10 * max(float(values[0]), 1e-300)
            basis = (x.T @ vectors[:, solid]) / np.sqrt(values[solid])
        return cls(centre, basis / (scale * np.sqrt(dimension)))

    def seen(self, features: NDArray[np.floating]) -> Floats:
        return np.asarray((np.asarray(features, dtype=np.float64) - self.centre) @ self.basis)

    def back(self, weights: Floats, bias: Floats) -> Linear:
        """What weights (K, C) and bias mean on the features themselves."""
        whole = self.basis @ weights
        return Linear(whole, bias - self.centre @ whole)


def path(
    seen: Floats, column: NDArray[np.int64], columns: int, penalties: Sequence[float] = PENALTIES
) -> Iterator[tuple[Floats, Floats]]:
    """Weights (K, C) and bias (C,) for each penalty in turn, each fit starting from the last one.

    seen: (N, K); column: int (N,). A class without a label gets a bias of -30: as good as impossible.
    """
    n, k = seen.shape
    present = np.unique(column)
    place = np.searchsorted(present, column)
    rows = np.arange(n)
    start = np.zeros((k + 1, present.size))
    start[k] = np.log(np.bincount(place) / n)
    options = {"maxiter": _ITERATIONS, "ftol": _ENOUGH}

    for penalty in penalties:

        def loss(flat: Floats, penalty: float = penalty) -> tuple[float, Floats]:
            w = flat.reshape(k + 1, present.size)
            log_p = log_softmax(seen @ w[:k] + w[k], axis=1)
            value = -log_p[rows, place].sum() + 0.5 * penalty * np.square(w[:k]).sum()
            error = np.exp(log_p)
            error[rows, place] -= 1
            slope = np.vstack([seen.T @ error + penalty * w[:k], error.sum(axis=0)])
            return float(value), slope.ravel()

        found = minimize(loss, start.ravel(), jac=True, method="L-BFGS-B", options=options)
        start = found.x.reshape(k + 1, present.size)
        weights, bias = np.zeros((k, columns)), np.full(columns, -30.0)
        weights[:, present], bias[present] = start[:k], start[k]
        yield weights, bias
