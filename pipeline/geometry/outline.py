"""What is seen of an object from above: how far its surface is at each bearing, and where it ends on either side.

The outline is what a view says, before any box is laid around it. Given a size and a heading from elsewhere (the whole
track, say), it says where the box stands: the seen faces fix the distance, the ends the direction, and what is hidden
extends away from the camera.
"""

from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]
Array = NDArray[np.float64]

BINS: Final = 16
_SURFACE: Final = 0.4
"""Quantile of the ranges at one bearing that is the surface: what lies behind it is seen as often as what scatters."""
_MIN_PER_BIN: Final = 4
_TRIM: Final = 0.003
_ROUNDS: Final = 5
_BODY: Final = 0.3
"""Radius of the body of something rounded, as a share of its mean width and length."""
_SLENDER: Final = 1.3
"""What is that much taller than wide and long is rounded."""
_FAR_OFF: Final = 3.0
"""Standard deviations beyond which a bearing's range says no more against a placement."""


def is_rounded(height: float, width: float, length: float) -> bool:
    """Whether a thing of this size fills its box as a person does, rather than as a car does."""
    return height > _SLENDER * max(width, length)


@dataclass(frozen=True, slots=True)
class Outline:
    """bearings: (K,) radians from straight ahead, rightwards, of the levelled camera; ranges: (K,) metres over ground.

    ends: bearing of the left and of the right end; cut: whether the object may go on beyond (image border, something
    nearer). per_metre: standard deviation of 1 / range, in 1/m, of one bearing (correlated between bearings).
    """

    bearings: Vector
    ranges: Vector
    ends: tuple[float, float]
    cut: tuple[bool, bool]
    per_metre: float

    def to_json(self) -> dict[str, Any]:
        return {
            "bearings": [round(float(value), 5) for value in self.bearings],
            "ranges": [round(float(value), 4) for value in self.ranges],
            "ends": [round(value, 5) for value in self.ends],
            "cut": [int(value) for value in self.cut],
            "per_metre": round(self.per_metre, 6),
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Self:
        return cls(
            np.array(value["bearings"], np.float64),
            np.array(value["ranges"], np.float64),
            (float(value["ends"][0]), float(value["ends"][1])),
            (bool(value["cut"][0]), bool(value["cut"][1])),
            float(value["per_metre"]),
        )


def outline_of(
    points_levelled: NDArray[np.floating],
    per_metre: float,
    cut: tuple[bool, bool] = (False, False),
    rim: float = 0.0,
) -> Outline | None:
    """The outline of an object's own points (N, 3) in the levelled camera; None where there are hardly any.

    rim: radians by which the mask was made smaller on either side before.
    """
    bearing = np.arctan2(points_levelled[:, 0], points_levelled[:, 2])
    distance = np.hypot(points_levelled[:, 0], points_levelled[:, 2])
    if len(bearing) < 2 * _MIN_PER_BIN:
        return None
    left, right = np.quantile(bearing, (_TRIM, 1 - _TRIM))
    number = int(np.clip(len(bearing) // (3 * _MIN_PER_BIN), 2, BINS))
    places = np.floor((bearing - left) / max(float(right - left), 1e-6) * number).astype(np.intp)
    order = np.lexsort((distance, places))
    places, distance = places[order], distance[order]
    starts = np.searchsorted(places, np.arange(number + 1))
    counts = np.diff(starts)
    kept = np.flatnonzero(counts >= _MIN_PER_BIN)
    if not len(kept):
        return None
    chosen = starts[kept] + np.floor(_SURFACE * (counts[kept] - 1)).astype(np.intp)
    middles = left + (kept + 0.5) * (right - left) / number
    return Outline(middles, distance[chosen], (float(left - rim), float(right + rim)), cut, per_metre)


@dataclass(frozen=True, slots=True)
class Outlines:
    """Many views at once. bearings, ranges: (F, K), NaN where a view has fewer; ends: (F, 2); cut: (F, 2) bool;
    per_metre: (F,)."""

    bearings: Array
    ranges: Array
    ends: Array
    cut: NDArray[np.bool_]
    per_metre: Vector

    @classmethod
    def of(cls, views: list[Outline]) -> Self:
        width = max(len(view.bearings) for view in views)
        bearings, ranges = np.full((2, len(views), width), np.nan)
        for row, view in enumerate(views):
            bearings[row, : len(view.bearings)] = view.bearings
            ranges[row, : len(view.ranges)] = view.ranges
        return cls(
            bearings,
            ranges,
            np.array([view.ends for view in views]),
            np.array([view.cut for view in views]),
            np.array([view.per_metre for view in views]),
        )

    def __len__(self) -> int:
        return len(self.ends)

    def rows(self, chosen: NDArray[np.intp]) -> "Outlines":
        return Outlines(
            self.bearings[chosen], self.ranges[chosen], self.ends[chosen], self.cut[chosen], self.per_metre[chosen]
        )


@dataclass(frozen=True, slots=True)
class Placed:
    """centres: (F, 2) x, z on the ground, levelled camera. cost: (F,) squared normalised residuals: of the ends, and
    of the ranges."""

    centres: Array
    cost: Vector


def place(
    views: Outlines,
    widths: Vector,
    lengths: Vector,
    yaws: Vector,
    end_sigma: float,
    missing: float = 1.0,
    *,
    rounded: bool = False,
) -> Placed:
    """Where boxes of these sizes and headings, (F,) each, stand in each view.

    end_sigma: standard deviation of an end's bearing, radians. missing: what it counts that the box reaches farther
    than what is seen, where sticking out counts 1. rounded: the thing fills its box as a person does: no corners, and a
    body that limbs make the box larger than.
    """
    bearing = views.ends.mean(axis=1)
    distance = _middle(views.ranges) + 0.4 * np.minimum(widths, lengths)
    left, right = views.ends.T
    cut_left, cut_right = views.cut.T
    box = (yaws, widths, lengths, rounded)
    for _ in range(_ROUNDS):
        ends = _ends(bearing, distance, *box)
        off_left, off_right = left - ends[0], right - ends[1]
        within = np.minimum(off_left, 0) + np.maximum(off_right, 0)
        # An end that is seen counts; one that is cut only must not stick out.
        one_sided = np.where(cut_left, np.where(cut_right, within, off_right), off_left)
        bearing = bearing + np.where(cut_left | cut_right, one_sided, (off_left + off_right) / 2)
        model = _near_ranges(bearing, distance, views.bearings, *box)
        distance = np.maximum(distance + _middle(views.ranges - model), 0.1)
    ends = _ends(bearing, distance, *box)
    off_left, off_right = left - ends[0], right - ends[1]
    off_left = np.where(cut_left, np.minimum(off_left, 0), off_left)
    off_right = np.where(cut_right, np.maximum(off_right, 0), off_right)
    inside = np.stack([off_left, -off_right])  # how far the seen ends lie within those of the box
    beyond = np.minimum((inside / end_sigma) ** 2, 16) * np.where(inside > 0, missing, 1)
    model = _near_ranges(bearing, distance, views.bearings, *box)
    off = np.abs(1 / views.ranges - 1 / model) / views.per_metre[:, None]
    off = np.where(np.isfinite(off), np.minimum(off, _FAR_OFF), _FAR_OFF)
    seen = np.isfinite(views.ranges)
    misfit = (off**2 * seen).sum(axis=1) / np.maximum(seen.sum(axis=1), 1)
    centres = np.stack([np.sin(bearing), np.cos(bearing)], axis=1) * distance[:, None]
    return Placed(centres, beyond.sum(axis=0) + 3 * misfit)


def _middle(values: Array) -> Vector:
    """(F,) medians of the rows, without what is NaN; 0 where all is."""
    ordered = np.sort(values, axis=1)  # NaN last
    count, rows = np.isfinite(ordered).sum(axis=1), np.arange(len(values))
    middle = (ordered[rows, np.maximum(count - 1, 0) // 2] + ordered[rows, np.minimum(count // 2, count - 1)]) / 2
    return np.where(count > 0, middle, 0.0)


def _ends(bearing: Vector, distance: Vector, yaws: Vector, widths: Vector, lengths: Vector, rounded: bool) -> Array:
    """(2, F) bearings of the outermost corners, or of the tangents to the ellipse in the box."""
    cosine, sine = np.cos(yaws), np.sin(yaws)
    if rounded:
        turned = bearing - yaws
        half = np.hypot(lengths / 2 * np.cos(turned), widths / 2 * np.sin(turned))
        spread = np.arcsin(np.minimum(half / distance, 0.99))
        return np.stack([bearing - spread, bearing + spread])
    x, z = np.sin(bearing) * distance, np.cos(bearing) * distance
    half_l, half_w = lengths / 2, widths / 2
    along = np.stack([half_l, half_l, -half_l, -half_l])
    across = np.stack([half_w, -half_w, half_w, -half_w])
    ahead = np.maximum(z - along * sine + across * cosine, 0.05)
    corners = np.arctan2(x + along * cosine + across * sine, ahead)
    return np.stack([corners.min(axis=0), corners.max(axis=0)])


def _near_ranges(
    bearing: Vector,
    distance: Vector,
    bearings: Array,
    yaws: Vector,
    widths: Vector,
    lengths: Vector,
    rounded: bool,
) -> Array:
    """(F, K) ranges at which rays meet the nearest side, or the body in the middle; NaN where they miss."""
    away = bearings - bearing[:, None]
    if rounded:
        radius = _BODY * (widths + lengths)[:, None] / 2
        off = np.sin(away) * distance[:, None]
        return np.asarray(np.cos(away) * distance[:, None] - np.sqrt(np.maximum(radius**2 - off**2, 0)))
    # In the axes of the box the camera is at -distance along the bearing; rays leave it at `away` from there.
    turned = bearing - yaws
    rays = turned[:, None] + away
    near, far = np.full(bearings.shape, -np.inf), np.full(bearings.shape, np.inf)
    for middle, ray, half in (
        (distance * np.sin(turned), np.sin(rays), lengths / 2),
        (distance * np.cos(turned), np.cos(rays), widths / 2),
    ):
        with np.errstate(divide="ignore"):
            inverse = 1 / ray
        a = (middle - half)[:, None] * inverse
        b = (middle + half)[:, None] * inverse
        np.maximum(near, np.minimum(a, b), out=near)
        np.minimum(far, np.maximum(a, b), out=far)
    near[(near >= far) | (near <= 0)] = np.nan
    return near
