"""The ground under the camera, found among 3D points with gravity as a guide."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.floating]
Hypothesis = tuple[NDArray[np.float64], float]

_HYPOTHESES: Final = 400
_SAMPLE: Final = 4000
_REFINED: Final = 12
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

    def support(plane: Hypothesis, sample: Points = sample) -> float:
        """Points on the plane, near ones more (MSAC), level planes more (the limit is 3 sigma), less those below."""
        height = (sample @ plane[0] + plane[1]) / sigma(sample, plane[1])
        on = float(np.clip(1 - height**2, 0, None).sum())
        tilt = np.degrees(np.arccos(min(1.0, float(plane[0] @ up)))) / max_tilt_deg
        return on * float(np.exp(-4.5 * tilt**2)) - _WEIGHT_BELOW * np.count_nonzero(height < -2)

    def refined(plane: Hypothesis, these: Points, rounds: int) -> Hypothesis:
        for _ in range(rounds):
            scale = sigma(these, plane[1])
            weights = np.clip(1 - ((these @ plane[0] + plane[1]) / scale) ** 2, 0, None) / scale  # Tukey's biweight
            if np.count_nonzero(weights) < 3:
                return plane
            plane = _least_squares(these, weights, up)
        return plane

    hypotheses = sorted(_hypotheses(sample, up, min_cos, rng), key=support, reverse=True)[:_REFINED]
    hypotheses = [refined(refined(plane, sample, 3), points, 3) for plane in hypotheses]
    if not hypotheses:
        return None
    normal, offset = max(hypotheses, key=lambda plane: support(plane, points))
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
    squared = weights**2
    centre = np.average(points, axis=0, weights=squared)
    scatter = ((points - centre) * squared[:, None]).T @ (points - centre)
    normal = np.linalg.eigh(scatter)[1][:, 0]
    normal = normal if normal @ up > 0 else -normal
    return normal, float(-normal @ centre)
