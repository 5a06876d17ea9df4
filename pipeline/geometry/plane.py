"""The ground under the camera, found among 3D points with gravity as a guide."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.floating]
Hypothesis = tuple[NDArray[np.float64], float]

_HYPOTHESES: Final = 400
_SAMPLE: Final = 4000
_RANKED: Final = 2000
_REFINED: Final = 12
_FINAL: Final = 3
"""How many points rank the hypotheses, how many of these are refined on the sample, and how many on all points."""
_WEIGHT_BELOW: Final = 0.1
"""What a point below the plane counts against it: a table top loses to an equally large floor."""


@dataclass(frozen=True, slots=True)
class Plane:
    """normal · X + offset = 0 with a unit normal pointing up, camera axes, metres.

    `offset` is then the height of the camera above the plane. `inliers`: how many of the given points lie on it.
    """

    normal: NDArray[np.float64]
    offset: float
    inliers: int

    def height(self, points: Points) -> NDArray[np.float64]:
        """Height of points (..., 3) above the plane, metres."""
        return np.asarray(points @ self.normal + self.offset)


def fit_ground_plane(
    points: Points,
    gravity: NDArray[np.float64] | None = None,
    *,
    max_tilt_deg: float = 15.0,
    tolerance: float = 0.02,
    inverse_depth_noise: float = 0.0,
    min_inliers: int = 200,
    min_share: float = 0.05,
) -> Plane | None:
    """The dominant plane nearly perpendicular to gravity with little below it, or None.

    points: (N, 3) camera axes, metres. gravity: unit vector pointing down; without it +Y is taken, with twice the tilt.
    tolerance: metres a point may be off; inverse_depth_noise: error of 1/z in 1/m (stereo: pixels / (f·B)), which lets
    far points be off by more. min_share: share of the points that must lie on it. Deterministic.

    RANSAC with local refinement, then iteratively reweighted least squares; the tilt of the result is free within
    `max_tilt_deg`, so that it tells something about the inertial unit rather than repeating it.
    """
    points = np.asarray(points, dtype=np.float64).reshape(-1, 3)
    points = points[np.all(np.isfinite(points), axis=1)]
    if len(points) < max(3, min_inliers):
        return None
    if gravity is None:
        up, max_tilt_deg = np.array([0.0, -1.0, 0.0]), 2 * max_tilt_deg
    else:
        up = -np.asarray(gravity, dtype=np.float64) / np.linalg.norm(gravity)
    rng = np.random.default_rng(0)
    sample = points if len(points) <= _SAMPLE else points[rng.choice(len(points), _SAMPLE, replace=False)]
    min_cos = float(np.cos(np.radians(max_tilt_deg)))

    def sigma(these: Points, offset: float) -> NDArray[np.float64]:
        # An error of 1/z moves a point of the ground by height · z · error.
        return np.asarray(tolerance + inverse_depth_noise * abs(offset) * np.abs(these[:, 2]))

    def support(planes: Sequence[Hypothesis], these: Points) -> NDArray[np.float64]:
        """Points on each plane, near ones more (MSAC), level planes more (the limit is 3 sigma), less those below."""
        normals, offsets = np.array([plane[0] for plane in planes]), np.array([plane[1] for plane in planes])
        height = normals @ these.T + offsets[:, None]
        height /= tolerance + inverse_depth_noise * np.abs(offsets)[:, None] * np.abs(these[:, 2])
        below = np.count_nonzero(height < -2, axis=1)
        np.square(height, out=height)
        on = np.maximum(1 - height, 0).sum(axis=1)
        tilt = np.degrees(np.arccos(np.minimum(1.0, normals @ up))) / max_tilt_deg
        return np.asarray(on * np.exp(-4.5 * tilt**2) - _WEIGHT_BELOW * below)

    def best(planes: Sequence[Hypothesis], these: Points, number: int) -> list[Hypothesis]:
        ranked = np.argsort(-support(planes, these), kind="stable")[:number]
        return [planes[int(place)] for place in ranked]

    def refined(plane: Hypothesis, these: Points, rounds: int) -> Hypothesis:
        for _ in range(rounds):
            scale = sigma(these, plane[1])
            weights = np.clip(1 - ((these @ plane[0] + plane[1]) / scale) ** 2, 0, None) / scale  # Tukey's biweight
            if np.count_nonzero(weights) < 3:
                return plane
            plane = _least_squares(these, weights, up)
        return plane

    hypotheses = list(_hypotheses(sample, up, min_cos, rng))
    if not hypotheses:
        return None
    hypotheses = [
        refined(plane, sample, 3) for plane in best(hypotheses, sample[:: -(-len(sample) // _RANKED)], _REFINED)
    ]
    hypotheses = [refined(plane, points, 3) for plane in best(hypotheses, sample, _FINAL)]
    ((normal, offset),) = best(hypotheses, points, 1)
    inliers = int(np.count_nonzero(np.abs(points @ normal + offset) < sigma(points, offset)))
    if inliers < max(min_inliers, min_share * len(points)) or normal @ up < min_cos or offset <= 0:
        return None
    return Plane(normal, offset, inliers)


def angle_between_deg(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Angle of two vectors in degrees, 0…180."""
    return float(np.degrees(np.arctan2(np.linalg.norm(np.cross(a, b)), a @ b)))


def _hypotheses(
    sample: Points, up: NDArray[np.float64], min_cos: float, rng: np.random.Generator
) -> Iterator[Hypothesis]:
    """Planes through three points each, nearly level, below the camera."""
    a, b, c = sample[rng.integers(0, len(sample), (3, 8 * _HYPOTHESES))]
    normals = np.cross(b - a, c - a)
    length = np.linalg.norm(normals, axis=1)
    solid = length > 1e-6
    normals, anchors = normals[solid] / length[solid, None], a[solid]
    normals *= np.where(normals @ up < 0, -1, 1)[:, None]
    offsets = -np.einsum("ij,ij->i", normals, anchors)
    usable = np.flatnonzero((normals @ up >= min_cos) & (offsets > 0))[:_HYPOTHESES]
    return ((normals[i], float(offsets[i])) for i in usable)


def _least_squares(points: Points, weights: NDArray[np.float64], up: NDArray[np.float64]) -> Hypothesis:
    """The plane of least weighted squares; weights are those of the residuals' squares, square-rooted."""
    used = weights > 0
    points, squared = points[used], weights[used] ** 2
    centre = squared @ points / squared.sum()
    apart = points - centre
    scatter = (apart * squared[:, None]).T @ apart
    normal = np.linalg.eigh(scatter)[1][:, 0]
    normal = normal if normal @ up > 0 else -normal
    return normal, float(-normal @ centre)
