"""Boxes that stand upright: corners, overlap, projection.

A box is a row of seven: x, y, z of the centre of the bottom face (camera axes, metres), height, width, length (metres)
and rotation_y (radians): KITTI's order. At rotation 0 the length lies along +X; a positive angle turns +X towards -Z.

Upright means along `down`, +Y by default. A camera that looks down or is rolled has another: then rotation_y counts
about `down` in the levelled camera (`level_rotation`), which for a level camera is KITTI's definition.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

Boxes = NDArray[np.floating]

EDGES: Final = ((0, 1), (1, 2), (2, 3), (3, 0), (4, 5), (5, 6), (6, 7), (7, 4), (0, 4), (1, 5), (2, 6), (3, 7))
"""Pairs of corners to draw."""
_EPSILON: Final = 1e-9


def level_rotation(down: NDArray[np.float64] | None) -> NDArray[np.float64]:
    """(3, 3) smallest rotation that takes `down` to +Y: camera axes → levelled axes. Identity for None."""
    if down is None:
        return np.eye(3)
    a = np.asarray(down, dtype=np.float64) / np.linalg.norm(down)
    v, cosine = np.cross(a, [0.0, 1.0, 0.0]), a[1]
    if cosine < -1 + 1e-9:  # upside down: half a turn about the optical axis
        return np.diag([-1.0, -1.0, 1.0])
    cross = np.array([[0, -v[2], v[1]], [v[2], 0, -v[0]], [-v[1], v[0], 0]])
    return np.asarray(np.eye(3) + cross + cross @ cross / (1 + cosine))


def box_corners(boxes: Boxes, down: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
    """Corners (N, 8, 3) of boxes (N, 7): four of the bottom face in turn, then the four above them."""
    boxes = np.asarray(boxes, dtype=np.float64).reshape(-1, 7)
    h, w, l, ry = boxes[:, 3:].T  # noqa: E741
    zero = np.zeros_like(h)
    x = np.stack([l, l, -l, -l, l, l, -l, -l], axis=1) / 2
    y = np.stack([zero, zero, zero, zero, -h, -h, -h, -h], axis=1)
    z = np.stack([w, -w, -w, w, w, -w, -w, w], axis=1) / 2
    cosine, sine = np.cos(ry)[:, None], np.sin(ry)[:, None]
    corners = np.stack([cosine * x + sine * z, y, -sine * x + cosine * z], axis=2)
    if down is not None:
        corners = corners @ level_rotation(down)
    return np.asarray(corners + boxes[:, None, :3])


def alpha_of(rotation_y: float, location: NDArray[np.floating] | list[float]) -> float:
    """Observation angle in [-pi, pi]: rotation_y minus the bearing of the box."""
    return wrap_angle(rotation_y - float(np.arctan2(location[0], location[2])))


def wrap_angle(angle: float) -> float:
    """The same angle in [-pi, pi)."""
    return float((angle + np.pi) % (2 * np.pi) - np.pi)


def project_boxes(
    boxes: Boxes, camera_matrix: NDArray[np.float64], size: tuple[int, int], down: NDArray[np.float64] | None = None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """2D boxes around the projections of boxes (N, 7): as seen, clipped to the image; and unclipped.

    size: (width, height) in pixels. Both (N, 4) x1, y1, x2, y2, NaN for boxes wholly behind the camera; of a box partly
    behind it, the part in front counts.
    """
    near = 0.05
    corners = box_corners(boxes, down)
    unclipped = np.full((len(corners), 4), np.nan)
    for row, box in zip(unclipped, corners, strict=True):
        visible = [box[box[:, 2] >= near]]
        for i, j in EDGES:
            a, b = box[i], box[j]
            if (a[2] < near) != (b[2] < near):
                visible.append((a + (near - a[2]) / (b[2] - a[2]) * (b - a))[None])
        points = np.concatenate(visible)
        if len(points):
            pixels = points @ camera_matrix.T
            pixels = pixels[:, :2] / pixels[:, 2:]
            row[:2], row[2:] = pixels.min(axis=0), pixels.max(axis=0)
    limits = np.array([size[0] - 1, size[1] - 1] * 2, dtype=np.float64)
    return np.clip(unclipped, 0, limits), unclipped


def bev_iou(a: Boxes, b: Boxes) -> NDArray[np.float64]:
    """(N, M) overlap of the footprints of boxes (N, 7) and (M, 7) that stand on levelled ground."""
    a, b = (np.asarray(boxes, dtype=np.float64).reshape(-1, 7) for boxes in (a, b))
    shared = _footprint_intersection(a, b)
    area_a, area_b = a[:, 4] * a[:, 5], b[:, 4] * b[:, 5]
    return np.asarray(shared / np.maximum(area_a[:, None] + area_b[None] - shared, _EPSILON))


def iou_3d(a: Boxes, b: Boxes) -> NDArray[np.float64]:
    """(N, M) overlap of the volumes of boxes (N, 7) and (M, 7). For a tilted camera level the locations first."""
    a, b = (np.asarray(boxes, dtype=np.float64).reshape(-1, 7) for boxes in (a, b))
    bottom = np.minimum(a[:, None, 1], b[None, :, 1])
    top = np.maximum((a[:, 1] - a[:, 3])[:, None], (b[:, 1] - b[:, 3])[None])
    shared = _footprint_intersection(a, b) * np.clip(bottom - top, 0, None)
    volume_a, volume_b = a[:, 3:6].prod(axis=1), b[:, 3:6].prod(axis=1)
    return np.asarray(shared / np.maximum(volume_a[:, None] + volume_b[None] - shared, _EPSILON))


def _footprint_intersection(a: Boxes, b: Boxes) -> NDArray[np.float64]:
    """(N, M) areas shared by the footprints; only pairs whose circumcircles meet are worked out."""
    shared = np.zeros((len(a), len(b)))
    radius_a, radius_b = (np.hypot(boxes[:, 4], boxes[:, 5]) / 2 for boxes in (a, b))
    distance = np.hypot(a[:, None, 0] - b[None, :, 0], a[:, None, 2] - b[None, :, 2])
    i, j = np.nonzero(distance < radius_a[:, None] + radius_b[None])
    for start in range(0, len(i), 20_000):  # bounds the memory of the temporaries
        rows = slice(start, start + 20_000)
        shared[i[rows], j[rows]] = _quadrilateral_intersection(_footprint(a[i[rows]]), _footprint(b[j[rows]]))
    return shared


def _footprint(boxes: Boxes) -> NDArray[np.float64]:
    """(N, 4, 2) corners in (x, z)."""
    return box_corners(boxes)[:, :4][:, :, (0, 2)]


def _quadrilateral_intersection(p: NDArray[np.float64], q: NDArray[np.float64]) -> NDArray[np.float64]:
    """(K,) areas shared by convex quadrilaterals (K, 4, 2), pair by pair.

    The corners of the common polygon are corners of one inside the other, and crossings of edges.
    """
    origin = q.mean(axis=1, keepdims=True)
    p, q = p - origin, q - origin
    candidates = np.concatenate([p, q, np.zeros((len(p), 16, 2))], axis=1)
    valid = np.zeros(candidates.shape[:2], dtype=bool)
    valid[:, :4], valid[:, 4:8] = _inside(p, q), _inside(q, p)
    edge_p, edge_q = np.roll(p, -1, axis=1) - p, np.roll(q, -1, axis=1) - q
    denominator = _cross(edge_p[:, :, None], edge_q[:, None])
    gap = q[:, None] - p[:, :, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        t = _cross(gap, edge_q[:, None]) / denominator
        s = _cross(gap, edge_p[:, :, None]) / denominator
        crossing = p[:, :, None] + t[..., None] * edge_p[:, :, None]
    hit = (np.abs(denominator) > 1e-12) & (t >= 0) & (t <= 1) & (s >= 0) & (s <= 1)
    candidates[:, 8:] = np.where(hit[..., None], crossing, 0).reshape(-1, 16, 2)
    valid[:, 8:] = hit.reshape(-1, 16)

    count = valid.sum(axis=1)
    centre = (candidates * valid[..., None]).sum(axis=1) / np.maximum(count, 1)[:, None]
    relative = candidates - centre[:, None]
    angle = np.where(valid, np.arctan2(relative[..., 1], relative[..., 0]), np.inf)
    order = np.argsort(angle, axis=1)
    ring = np.take_along_axis(relative, order[..., None], axis=1)
    used = np.take_along_axis(valid, order, axis=1)
    ring = np.where(used[..., None], ring, ring[:, :1])  # unused places repeat the first corner and add no area
    area = _cross(ring, np.roll(ring, -1, axis=1)).sum(axis=1) / 2
    return np.where(count >= 3, np.abs(area), 0.0)


def _inside(points: NDArray[np.float64], polygon: NDArray[np.float64]) -> NDArray[np.bool_]:
    """(K, P): which of the points (K, P, 2) lie in the convex polygons (K, 4, 2), on the edge included."""
    edges = np.roll(polygon, -1, axis=1) - polygon
    side = _cross(edges[:, None], points[:, :, None] - polygon[:, None])
    return np.asarray(np.all(side >= -1e-9, axis=2) | np.all(side <= 1e-9, axis=2))


def _cross(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0])
