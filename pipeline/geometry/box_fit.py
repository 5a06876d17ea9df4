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

from pipeline.geometry.box_sigma import box_sigma
from pipeline.geometry.boxes3d import level_rotation, wrap_angle
from pipeline.geometry.outline import Outline, Outlines, is_rounded, outline_of, place
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
_BREAK_OFF: Final = 0.08
_BREAK_OFF_CLEAN: Final = 0.01
"""Share of the density of the peak below which an object ends: mismatches scatter some way, laser points do not."""
_FAIR_SHARE: Final = 0.08
_SPARSE: Final = 0.05
_TRIM: Final = 0.003
_NOISY_TRIM: Final = 0.03
_NOISY_M: Final = 0.02
_MEASURED_M: Final = 0.05
_SPREAD: Final = 0.15
"""How certain an extent is: metres of one measured, share of the typical one."""
_FACING: Final = 0.7
"""Cosine of the angle to the ray across which a side is seen face on."""
_END_PIXELS: Final = 3.0
_OVERSIZE: Final = 1.35
"""How much larger than typical an instance of a class may be before its extent is held to be contaminated."""


@dataclass(frozen=True, slots=True)
class Box3D:
    """KITTI conventions: location is the centre of the bottom face, camera axes, metres; rotation_y in [-pi, pi).

    Of a tilted camera rotation_y counts about the vertical in the levelled camera (see `boxes3d`). outline: what the
    box was laid around, as seen from above. sigma: (7,) standard deviations of `row`, x, y, z in the levelled camera.
    """

    location: Vector
    dimensions_hwl: tuple[float, float, float]
    rotation_y: float
    points_used: int
    outline: Outline | None = None
    sigma: Vector | None = None

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
    inverse_depth_noise: float = 0.0,
    cut: tuple[bool, bool] = (False, False),
    rim: float = 0.0,
    pixel: float = 0.0,
) -> Box3D | None:
    """The box of one object, or None where fewer than `min_points` points remain.

    points_camera: (N, 3) camera axes, metres, of the object's mask; some may be background. up: vector against gravity.
    typical_size_hwl: metres. ground: the plane it probably stands on. inverse_depth_noise: standard deviation of 1/z in
    1/m (stereo: pixels / (f·B); 0 for LiDAR): surfaces are that much thicker along the ray. cut: whether more of it may
    be hidden beyond the left and beyond the right end of what is seen. rim: radians by which the mask was made smaller.
    pixel: radians of one, 0 where ends are exact. Deterministic.
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
    kept = foreground(points, typical_size_hwl, _BREAK_OFF if inverse_depth_noise > 0 else _BREAK_OFF_CLEAN)
    points = points[kept]
    if len(points) < min_points:
        return None

    seen = _thinned(points[:, (0, 2)])
    distance = float(np.median(points[:, 2]))
    noise = inverse_depth_noise * distance**2
    hidden_side = int(cut[1]) - int(cut[0])
    yaw, centre, width, length, whole = _footprint(seen, typical_size_hwl, noise, hidden_side, rim * distance)
    top, bottom = float(np.quantile(points[:, 1], _TRIM)), float(np.quantile(points[:, 1], 1 - _TRIM))  # y is down
    top -= rim * distance
    if ground is not None:
        bottom = _on_ground(centre, top, bottom, ground, rotation, typical_size_hwl)
    elif typical_size_hwl and bottom - top < 0.6 * typical_size_hwl[0]:
        bottom = top + typical_size_hwl[0]
    tall = max(bottom - top, 0.05)
    size, rounded = (tall, width, length), is_rounded(tall, width, length)
    outline = outline_of(points, inverse_depth_noise, cut, rim) if inverse_depth_noise > 0 else None
    if outline is not None:
        # Where depth is noisy, the middle of what is seen at each bearing says more than what sticks out.
        views, one = Outlines.of([outline]), np.ones(1)
        centre = place(
            views, width * one, length * one, yaw * one, _END_PIXELS * pixel + 1e-3, rounded=rounded
        ).centres[0]
    location = rotation.T @ np.array([centre[0], bottom, centre[1]])
    sigma = box_sigma(
        size,
        yaw,
        centre,
        whole,
        typical_known=typical_size_hwl is not None,
        rounded=rounded,
        inverse_depth_noise=inverse_depth_noise,
        pixel=pixel,
        cut=cut,
    )
    return Box3D(location, size, wrap_angle(yaw), len(points), outline, sigma)


def foreground(
    points: Points, typical_size_hwl: tuple[float, float, float] | None = None, break_off: float = 0.08
) -> NDArray[np.bool_]:
    """Which of the points (N, 3) of a mask are the object's: bool (N,).

    The mode of the distance along the ground, as far as the density does not break off and as deep as the object may
    be; of that, the parts connected in bird's-eye view that are not small: what leaked in is apart from the object.
    """
    if len(points) < 3:
        return np.ones(len(points), dtype=bool)
    distance = np.hypot(points[:, 0], points[:, 2])
    deepest = 1.1 * float(np.hypot(*typical_size_hwl[1:])) if typical_size_hwl else np.inf
    near, far = _mode(distance, deepest, break_off)
    kept = (distance >= near) & (distance <= far)
    return kept & _large_parts(points, kept)


def _mode(distance: Vector, deepest: float, break_off: float) -> tuple[float, float]:
    """The interval around the densest distance where the density stays above a share of the peak's."""
    width = max(0.1, 0.02 * float(np.median(distance)))
    first = float(distance.min())
    counts = np.bincount(np.minimum((distance - first) / width, 100_000).astype(np.int64)).astype(np.float64)
    smooth = np.convolve(counts, (0.25, 0.5, 0.25), mode="same")
    # A window as deep as the object finds the object even where a wall behind it is denser within one bin.
    if np.isfinite(deepest):
        share = np.convolve(counts, np.ones(max(1, round(deepest / width))), mode="full")[: len(counts)]
        last = int(np.argmax(share >= 0.9 * share.max()))
        start = max(0, last - max(1, round(deepest / width)) + 1)
        peak = start + int(np.argmax(smooth[start : last + 1]))
    else:
        peak = int(np.argmax(smooth))
    alive = smooth >= break_off * smooth[peak]
    low = high = peak
    while low > 0 and alive[low - 1]:
        low -= 1
    while high + 1 < len(alive) and alive[high + 1]:
        high += 1
    near = first + low * width
    return near, min(first + (high + 1) * width, near + deepest)


def _large_parts(points: Points, kept: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The connected parts of the kept points, on a grid seen from above, that hold a fair share of the largest one's.

    More than one: something that stands in front may divide what is seen of an object.
    """
    result = np.zeros(len(points), dtype=bool)
    bev = points[kept][:, (0, 2)]
    if not len(bev):
        return result
    # Cells must be wider than the gaps between the samples of one surface, which grow with distance.
    cell = max(0.15, 0.02 * float(np.median(np.hypot(*bev.T))))
    places = np.minimum(np.floor((bev - bev.min(axis=0)) / cell).astype(np.intp), 2000)
    grid = np.zeros(places.max(axis=0) + 1, dtype=np.int64)
    np.add.at(grid, tuple(places.T), 1)
    labels, number = ndimage.label(grid > 0, structure=np.ones((3, 3)))
    sizes = np.asarray(ndimage.sum_labels(grid, labels, np.arange(1, number + 1)))
    large = np.concatenate([[False], sizes >= _FAIR_SHARE * sizes.max()])
    result[np.flatnonzero(kept)[large[labels[tuple(places.T)]]]] = True
    return result


def _thinned(bev: Points) -> Points:
    """One point per small cell of those that hold a fair share: a side seen closely weighs no more than one seen at a
    distance, and what a mismatch scattered in front of the object or behind it weighs nothing."""
    cell = max(_CELL_M, 0.002 * float(np.median(np.hypot(*bev.T))))
    places = np.floor((bev - bev.min(axis=0)) / cell).astype(np.int64)
    keys = places[:, 0] * (int(places[:, 1].max(initial=0)) + 1) + places[:, 1]
    _, first, counts = np.unique(keys, return_index=True, return_counts=True)
    order = np.sort(first[counts >= _SPARSE * np.quantile(counts, 0.9)])
    bev = bev[order]
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


def _footprint(
    bev: Points, typical_size_hwl: tuple[float, float, float] | None, noise: float, hidden_side: int, rim: float
) -> tuple[float, Vector, float, float, tuple[bool, bool]]:
    """Yaw, centre (x, z), width and length of the rectangle behind the visible points (N, 2) in (x, z), and whether
    width and length were seen from end to end."""
    trim = _TRIM if noise < _NOISY_M else _NOISY_TRIM
    angle = _l_shape_angle(bev, noise, trim)
    # KITTI's yaw: at rotation_y the length axis is (cos, -sin) in (x, z).
    axes = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    local = bev @ axes.T
    middle = np.median(bev, axis=0)
    direction_xz = middle / max(float(np.linalg.norm(middle)), 1e-9)
    direction = axes @ direction_xz
    # Noise is along the ray: across it the outermost points are true.
    trims = _TRIM + (trim - _TRIM) * direction**2
    low, high = np.array([np.quantile(local[:, axis], (trims[axis], 1 - trims[axis])) for axis in (0, 1)]).T
    thickness = np.minimum(0.5 * noise * direction**2, (high - low) / 2)
    across = rim * np.abs(direction[::-1])
    low, high = low + thickness - across, high - thickness + across
    extent = high - low

    if typical_size_hwl is None:
        along = 0 if extent[0] >= extent[1] else 1
        size, whole = np.maximum(extent, 0.05), np.abs(direction[::-1]) > _FACING
    else:
        _, typical_w, typical_l = typical_size_hwl
        options = [np.array([typical_l, typical_w]), np.array([typical_w, typical_l])]
        along = int(np.argmin([_mismatch(extent, typical, direction) for typical in options]))
        size, whole = _completed(extent, options[along], direction, noise)
    # Hidden depth lies beyond what is seen; a side seen face on ends where nothing nearer hides the rest of it.
    rightwards = axes @ np.array([direction_xz[1], -direction_xz[0]])
    beyond = np.clip(direction / 0.5 + hidden_side * rightwards, -1, 1) * (size - extent) / 2
    centre = axes.T @ ((low + high) / 2 + beyond)
    yaw = angle if along == 0 else angle - np.pi / 2
    seen_whole = bool(whole[1 - along]), bool(whole[along])
    return float(yaw), centre, float(size[1 - along]), float(size[along]), seen_whole


def _mismatch(extent: Vector, typical: Vector, direction: Vector) -> float:
    """How badly extents go with sizes. A side faces the camera as much as the other axis points along the ray."""
    facing = np.abs(direction[::-1])
    difference = np.log(np.maximum(extent, 0.02) / typical)
    # Larger than typical is evidence against; smaller may be hidden, more so along the ray.
    return float((facing * np.where(difference > 0, 3 * difference, -difference) + np.clip(difference, 0, None)).sum())


def _completed(extent: Vector, typical: Vector, direction: Vector, noise: float) -> tuple[Vector, NDArray[np.bool_]]:
    """Sizes: of a side seen whole, the measured and the typical one, weighted by their certainties; else at least the
    typical one. Never implausibly large. And which sides were seen whole."""
    facing = np.abs(direction[::-1]) > _FACING
    measured, usual = (_MEASURED_M + noise) ** -2.0, (_SPREAD * typical) ** -2.0
    blended = (measured * extent + usual * typical) / (measured + usual)
    whole = facing & (extent > 0.7 * typical)
    return np.minimum(np.where(whole, blended, np.maximum(extent, typical)), _OVERSIZE * typical), whole


def _l_shape_angle(bev: Points, noise: float, trim: float) -> float:
    """The angle in [0, 90°) whose rectangle the points (N, 2) keep closest to."""
    coarse = np.radians(np.arange(0, 90, _ANGLE_STEP_DEG))
    best = coarse[np.argmax(_closeness(bev, coarse, noise, trim))]
    fine = best + np.radians(np.arange(-_ANGLE_STEP_DEG, _ANGLE_STEP_DEG + 0.01, 0.25))
    return float(fine[np.argmax(_closeness(bev, fine, noise, trim))])


def _closeness(bev: Points, angles: Vector, noise: float, trim: float) -> Vector:
    cosine, sine = np.cos(angles)[:, None], np.sin(angles)[:, None]
    x, z = bev.T
    distances = []
    for values in (cosine * x - sine * z, sine * x + cosine * z):  # (angles, N)
        low, high = np.quantile(values, (trim, 1 - trim), axis=1)
        distances.append(np.minimum(np.abs(values - low[:, None]), np.abs(high[:, None] - values)))
    # Nearer than the noise is near enough: the floor keeps single points from deciding.
    floor = max(0.03, 0.003 * float(np.median(np.hypot(x, z))), noise)
    return np.asarray((1 / np.maximum(np.minimum(*distances), floor)).sum(axis=1))
