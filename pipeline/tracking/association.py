"""Which detection belongs to which track: similarities from 0 to 1, and the assignment that makes the most of them."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

Array = NDArray[np.float64]


def iou_xyxy(a: Array, b: Array) -> Array:
    """Intersection over union of boxes (n, 4) with boxes (m, 4), x1 y1 x2 y2: (n, m), 0 where neither has an area."""
    overlap = np.minimum(a[:, None, 2:], b[:, 2:])
    overlap -= np.maximum(a[:, None, :2], b[:, :2])
    np.maximum(overlap, 0, out=overlap)
    shared: Array = overlap[..., 0] * overlap[..., 1]
    size_a, size_b = a[:, 2:] - a[:, :2], b[:, 2:] - b[:, :2]
    union = (size_a[:, :1] * size_a[:, 1:]) + size_b[:, 0] * size_b[:, 1]
    union -= shared
    union += np.finfo(np.float64).tiny
    shared /= union
    return shared


def assign(similarity: Array, least: float) -> list[tuple[int, int]]:
    """Pairs (row, column) with a similarity above `least` whose summed excess over `least` is greatest.

    This is the optimum of an assignment in which staying alone costs as much as the worst pair allowed, as the
    `cost_limit` of Jonker-Volgenant solvers has it.
    """
    excess = similarity - least
    np.maximum(excess, 0, out=excess)
    rows, columns = linear_sum_assignment(excess, maximize=True)
    gains: Sequence[float] = excess[rows, columns].tolist()
    pairs = zip(rows.tolist(), columns.tolist(), gains, strict=True)
    return [(row, column) for row, column, gain in pairs if gain > 0]
