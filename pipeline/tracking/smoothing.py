"""The smoothest way through uncertain places: a whole track at once, looking back as well as ahead.

Places are normally distributed about a path whose velocity (or, of what stands still, whose place) wanders as a random
walk: the path is the Rauch-Tung-Striebel smoother's, written as one banded least-squares problem. How much it wanders
is chosen by the evidence (marginal likelihood), outliers count less (Huber's weights).
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve_banded, cholesky_banded

Array = NDArray[np.float64]

ACCELERATIONS: Final = (0.003, 0.03, 0.3, 3.0)
"""Candidates for the spectral density of the acceleration, m²/s³: what glides, what walks, what dodges."""
_CREEP: Final = 1e-4
"""m²/s: how much the place of what stands still wanders."""
_HUBER: Final = 2.0
_ROUNDS: Final = 4
_SPEED: Final = 2.0
"""m/s: how fast things may be before anything is known of them."""
_BAND: Final = 5
_PROBED_EVERY: Final = 8


@dataclass(frozen=True, slots=True)
class Path:
    """places: (F, 2) metres; covariances: (F, 2, 2); still: whether it stands; weights: (F,) of the measured, 0…1."""

    places: Array
    covariances: Array
    still: bool
    weights: Array


def smooth(times: Array, measured: Array, precisions: Array, slack: Array | None = None) -> Path:
    """The path behind places measured (F, 2) at increasing times (F,), seconds.

    precisions: (F, 2, 2), inverse covariances of the places; zero where there is none. slack: (F-1,) variance, m², by
    which the frame of reference itself may have slipped between two places. Deterministic.
    """
    if len(times) == 1:
        return Path(measured.copy(), np.asarray(np.linalg.pinv(precisions), np.float64), True, np.ones(1))
    slack = np.zeros(len(times) - 1) if slack is None else slack
    best: tuple[float, Path] | None = None
    for density in (None, *ACCELERATIONS):
        if density is not None and len(times) < 3:
            continue
        evidence, path = _with_density(times, measured, precisions, slack, density)
        if best is None or evidence > best[0]:
            best = evidence, path
    assert best is not None  # noqa: S101 - standing still is always tried
    return best[1]


def _with_density(
    times: Array, measured: Array, precisions: Array, slack: Array, density: float | None
) -> tuple[float, Path]:
    prior, log_prior = _prior(times, slack, density)
    weights = np.ones(len(times))
    for _ in range(_ROUNDS):
        factor, places = _solve(prior, measured, precisions * weights[:, None, None])
        off = np.sqrt(_squared(measured - places, precisions))
        weights = np.minimum(1, _HUBER / np.maximum(off, 1e-9))
    factor, places = _solve(prior, measured, precisions * weights[:, None, None])
    off = np.sqrt(_squared(measured - places, precisions))
    misfit = np.where(off <= _HUBER, off**2, 2 * _HUBER * off - _HUBER**2).sum()
    wiggle = _quadratic(prior, places)
    evidence = -0.5 * (misfit + wiggle) + 0.5 * log_prior - float(np.log(factor[-1]).sum())
    return evidence, Path(places, _covariances(factor), density is None, weights)


def _prior(times: Array, slack: Array, density: float | None) -> tuple[Array, float]:
    """Upper band (_BAND, 2F) of the precision that smoothness gives, and the logarithm of its determinant (without the
    place of the first, which is as likely anywhere)."""
    count = len(times)
    step = np.maximum(np.diff(times), 1e-3)
    band = np.zeros((_BAND, 2 * count))
    if density is None:
        rows = np.stack([-np.ones(count - 1), np.ones(count - 1)])
        weight = 1 / (_CREEP * step + slack)
    else:
        rows = np.stack([1 / step[:-1], -1 / step[:-1] - 1 / step[1:], 1 / step[1:]])
        between = (step[:-1] + step[1:]) / 2
        weight = 1 / (density * between + slack[:-1] / step[:-1] ** 2 + slack[1:] / step[1:] ** 2)
    for i in range(len(rows)):
        for j in range(i, len(rows)):
            value = weight * rows[i] * rows[j]
            for axis in (0, 1):
                # Element (2(k+i)+axis, 2(k+j)+axis) lies on band row _BAND - 1 - 2(j - i).
                columns = 2 * (np.arange(len(weight)) + j) + axis
                np.add.at(band[_BAND - 1 - 2 * (j - i)], columns, value)
    # The density of the places is that of the first (as likely anywhere), of the first velocity, and of the changes.
    log_determinant = 2 * np.log(weight).sum()
    if density is not None:
        log_determinant += 4 * (np.log(rows[-1]).sum() - np.log(step[0]) - np.log(_SPEED))
    return band, float(log_determinant)


def _solve(prior: Array, measured: Array, precisions: Array) -> tuple[Array, Array]:
    band = prior.copy()
    count = len(measured)
    band[-1] += precisions[:, (0, 1), (0, 1)].ravel()
    band[-2, 1::2] += precisions[:, 0, 1]
    band[-1] += 1e-9
    factor = cholesky_banded(band, check_finite=False)
    right = np.einsum("fij,fj->fi", precisions, measured).ravel()
    places = cho_solve_banded((factor, False), right, check_finite=False).reshape(count, 2)
    return factor, places


def _squared(off: Array, precisions: Array) -> Array:
    return np.asarray(np.maximum(np.einsum("fi,fij,fj->f", off, precisions, off), 0))


def _quadratic(band: Array, places: Array) -> float:
    flat = places.ravel()
    total = float((band[-1] * flat * flat).sum())
    for apart in range(1, _BAND):
        total += 2 * float((band[_BAND - 1 - apart, apart:] * flat[apart:] * flat[:-apart]).sum())
    return total


def _covariances(factor: Array) -> Array:
    """(F, 2, 2): worked out at every few places, interpolated between."""
    count = factor.shape[1] // 2
    probes = np.unique(np.append(np.arange(0, count, _PROBED_EVERY), count - 1))
    units = np.zeros((2 * count, 2 * len(probes)))
    for place, probe in enumerate(probes):
        units[2 * probe, 2 * place] = units[2 * probe + 1, 2 * place + 1] = 1
    columns = cho_solve_banded((factor, False), units, check_finite=False)
    known = np.array([columns[2 * p : 2 * p + 2, 2 * i : 2 * i + 2] for i, p in enumerate(probes)])
    everywhere = np.arange(count)
    return np.stack(
        [[np.interp(everywhere, probes, known[:, i, j]) for j in (0, 1)] for i in (0, 1)], axis=0
    ).transpose(2, 0, 1)
