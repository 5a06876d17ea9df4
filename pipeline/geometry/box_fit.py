"""An upright box around the visible points of one object.

A camera sees one or two sides of a thing. So: points of the background that leaked into the mask are removed; the
orientation is that whose rectangle lies closest to the points in bird's-eye view (L-shape fitting, closeness criterion:
Zhang et al., "Efficient L-Shape Fitting for Vehicle Detection Using Laser Scanners", IV 2017); hidden extents are
completed from the class's typical size, away from the camera; the bottom stands on the ground where there is one.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from pipeline.geometry.boxes3d import level_rotation, wrap_angle
from pipeline.geometry.plane import Plane

Points = NDArray[np.floating]
Vector = NDArray[np.float64]

MIN_POINTS: Final = 12
"""Fewer points say where something is, not how large it is."""
_MAX_SEARCHED: Final = 2500
_ANGLE_STEP_DEG: Final = 2.0
_GROUND_CLEARANCE_M: Final = 0.08
"""Points lower than this above the ground are the ground's as often as the object's."""
_SNAP_M: Final = 0.6
"""An object whose lowest visible point is higher than this above the ground does not stand on it (or its lower part is
hidden: then its typical height decides)."""
_CELL_M: Final = 0.04
_TRIM: Final = 0.003
_OVERSIZE: Final = 1.35
"""How much larger than typical an instance of a class may be before its extent is held to be contaminated."""


@dataclass(frozen=True, slots=True)
class Box3D:
    """KITTI conventions: location is the centre of the bottom face, camera axes, metres; rotation_y in [-pi, pi).

    Of a tilted camera rotation_y counts about the vertical in the levelled camera (see `boxes3d`).
    """

    location: Vector
    dimensions_hwl: tuple[float, float, float]
    rotation_y: float
    points_used: int

    @property
    def row(self) -> Vector:
        """(7,): x, y, z, h, w, l, rotation_y."""
        return np.array([*self.location, *self.dimensions_hwl, self.rotation_y])


def fit_box(
    points_camera: Points,
    up: Vector,
    typical_size_hwl: tuple[float, float, float] | None = None,
    ground: Plane | None = None,
    min_points: int = MIN_POINTS,
) -> Box3D | None:
    """The box of one object, or None where fewer than `min_points` points remain.

    points_camera: (N, 3) camera axes, metres, of the object's mask; some may be background. up: vector against gravity.
    typical_size_hwl: metres. ground: the plane it probably stands on. Deterministic.
    """
    rotation = level_rotation(-np.asarray(up, dtype=np.float64))
    points: Points = np.asarray(points_camera, dtype=np.float64).reshape(-1, 3)
    points = points[np.all(np.isfinite(points), axis=1)]
    if len(points) > 4 * _MAX_SEARCHED:
        points = points[:: len(points) // (4 * _MAX_SEARCHED) + 1]
    height = None if ground is None else ground.height(points)
    points = points @ rotation.T
    if height is not None:
        points, height = _without_ground(points, height, typical_size_hwl)
    kept = foreground(points, typical_size_hwl)
    points = points[kept]
    if len(points) < min_points:
        return None

    seen = _thinned(points[:, (0, 2)])
    yaw, centre, width, length = _footprint(seen, typical_size_hwl)
    top, bottom = float(np.quantile(points[:, 1], _TRIM)), float(np.quantile(points[:, 1], 1 - _TRIM))  # y is down
    if ground is not None:
        bottom = _on_ground(centre, top, bottom, ground, rotation, typical_size_hwl)
    elif typical_size_hwl and bottom - top < 0.6 * typical_size_hwl[0]:
        bottom = top + typical_size_hwl[0]
    tall = max(bottom - top, 0.05)
    location = rotation.T @ np.array([centre[0], bottom, centre[1]])
    return Box3D(location, (tall, width, length), wrap_angle(yaw), len(points))


def foreground(points: Points, typical_size_hwl: tuple[float, float, float] | None = None) -> NDArray[np.bool_]:
    """Which of the points (N, 3) of a mask are the object's: bool (N,).

    The mode of the distance along the ground (a window as deep as the object may be), then the largest connected part
    of that in bird's-eye view: what lies behind or in front of the object is apart from it.
    """
    distance = np.hypot(points[:, 0], points[:, 2])
    if len(points) < 3:
        return np.ones(len(points), dtype=bool)
    if typical_size_hwl:
        window = 1.1 * float(np.hypot(*typical_size_hwl[1:]))
    else:
        deviation = 1.4826 * float(np.median(np.abs(distance - np.median(distance))))
        window = max(6 * deviation, 0.3)
    order = np.sort(distance)
    count = np.searchsorted(order, order + window, side="right") - np.arange(len(order))
    # The nearest window that holds nearly as many as the fullest one: the object is in front of what it hides.
    start = float(order[np.argmax(count >= 0.8 * count.max())])
    kept = (distance >= start) & (distance <= start + window)
    return kept & _largest_part(points, kept, typical_size_hwl)


def _largest_part(
    points: Points, kept: NDArray[np.bool_], typical_size_hwl: tuple[float, float, float] | None
) -> NDArray[np.bool_]:
    """The largest connected part of the kept points on a grid seen from above."""
    bev = points[kept][:, (0, 2)]
    # Cells must be wider than the gaps between the samples of one surface, which grow with distance.
    cell = max(0.15, 0.02 * float(np.median(np.hypot(*bev.T))))
    places = np.floor((bev - bev.min(axis=0)) / cell).astype(np.intp)
    shape = np.minimum(places.max(axis=0) + 1, 2000)
    places = np.minimum(places, shape - 1)
    grid = np.zeros(shape, dtype=np.int64)
    np.add.at(grid, tuple(places.T), 1)
    labels, number = ndimage.label(grid > 0, structure=np.ones((3, 3)))
    sizes = ndimage.sum_labels(grid, labels, np.arange(1, number + 1))
    mine = labels[tuple(places.T)] == int(np.argmax(sizes)) + 1
    result = np.zeros(len(points), dtype=bool)
    result[np.flatnonzero(kept)[mine]] = True
    return result


def _thinned(bev: Points) -> Points:
    """One point per small cell, so that a side seen closely weighs no more than one seen at a distance."""
    cell = max(_CELL_M, 0.002 * float(np.median(np.hypot(*bev.T))))
    _, first = np.unique(np.floor(bev / cell).astype(np.int64), axis=0, return_index=True)
    bev = bev[np.sort(first)]
    return bev[:: len(bev) // _MAX_SEARCHED + 1]


def _without_ground(
    points: Points, height: Vector, typical_size_hwl: tuple[float, float, float] | None
) -> tuple[Points, Vector]:
    clearance = min(_GROUND_CLEARANCE_M, 0.2 * typical_size_hwl[0]) if typical_size_hwl else _GROUND_CLEARANCE_M
    above = height > clearance
    if above.sum() < 0.3 * len(points):  # something flat: then the ground's own points are all there is of it
        return points, height
    return points[above], height[above]


def _on_ground(
    centre: Vector,
    top: float,
    bottom: float,
    ground: Plane,
    rotation: NDArray[np.float64],
    typical_size_hwl: tuple[float, float, float] | None,
) -> float:
    """The y of the bottom face: the ground's under the object, if the object reaches down to it."""
    normal = rotation @ ground.normal
    floor = float(-(normal[0] * centre[0] + normal[2] * centre[1] + ground.offset) / normal[1])
    if abs(floor - bottom) <= _SNAP_M or (typical_size_hwl and floor - top <= _OVERSIZE * typical_size_hwl[0]):
        return floor if floor > top else bottom
    return bottom


def _footprint(bev: Points, typical_size_hwl: tuple[float, float, float] | None) -> tuple[float, Vector, float, float]:
    """Yaw, centre (x, z), width and length of the rectangle behind the visible points (N, 2) in (x, z)."""
    angle = _l_shape_angle(bev)
    # KITTI's yaw: at rotation_y the length axis is (cos, -sin) in (x, z).
    axes = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    local = bev @ axes.T
    low, high = np.quantile(local, _TRIM, axis=0), np.quantile(local, 1 - _TRIM, axis=0)
    extent = high - low
    direction = axes @ (np.median(bev, axis=0) / max(float(np.linalg.norm(np.median(bev, axis=0))), 1e-9))

    if typical_size_hwl is None:
        along = 0 if extent[0] >= extent[1] else 1
        size = np.maximum(extent, 0.05)
    else:
        _, typical_w, typical_l = typical_size_hwl
        options = [np.array([typical_l, typical_w]), np.array([typical_w, typical_l])]
        along = int(np.argmin([_mismatch(extent, typical, direction) for typical in options]))
        size = _completed(extent, options[along], direction)
    # Hidden depth lies beyond what is seen; a side seen face on is hidden (by others) as likely left as right.
    beyond = np.clip(direction / 0.5, -1, 1) * (size - extent) / 2
    centre = axes.T @ ((low + high) / 2 + beyond)
    yaw = angle if along == 0 else angle - np.pi / 2
    return float(yaw), centre, float(size[1 - along]), float(size[along])


def _mismatch(extent: Vector, typical: Vector, direction: Vector) -> float:
    """How badly extents go with sizes. A side faces the camera as much as the other axis points along the ray."""
    facing = np.abs(direction[::-1])
    difference = np.log(np.maximum(extent, 0.02) / typical)
    # Larger than typical is evidence against; smaller may be hidden, more so along the ray.
    return float((facing * np.where(difference > 0, 3 * difference, -difference) + np.clip(difference, 0, None)).sum())


def _completed(extent: Vector, typical: Vector, direction: Vector) -> Vector:
    """Sizes: what was seen, at least what is typical where it was not seen whole, never implausibly large."""
    facing = np.abs(direction[::-1])
    low = typical * np.where(facing > 0.7, 0.85, 1.0)
    return np.clip(extent, low, _OVERSIZE * typical)


def _l_shape_angle(bev: Points) -> float:
    """The angle in [0, 90°) whose rectangle the points (N, 2) keep closest to."""
    coarse = np.radians(np.arange(0, 90, _ANGLE_STEP_DEG))
    best = coarse[np.argmax(_closeness(bev, coarse))]
    fine = best + np.radians(np.arange(-_ANGLE_STEP_DEG, _ANGLE_STEP_DEG + 0.01, 0.25))
    return float(fine[np.argmax(_closeness(bev, fine))])


def _closeness(bev: Points, angles: Vector) -> Vector:
    cosine, sine = np.cos(angles)[:, None], np.sin(angles)[:, None]
    x, z = bev.T
    first, second = cosine * x - sine * z, sine * x + cosine * z  # (angles, N)
    distances = []
    for values in (first, second):
        low, high = np.quantile(values, (_TRIM, 1 - _TRIM), axis=1)
        distances.append(np.minimum(np.abs(values - low[:, None]), np.abs(high[:, None] - values)))
    # Nearer than the noise is near enough: the floor keeps single points from deciding.
    noise = max(0.03, 0.003 * float(np.median(np.hypot(x, z))))
    return np.asarray((1 / np.maximum(np.minimum(*distances), noise)).sum(axis=1))
