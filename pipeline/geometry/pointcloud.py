"""Depth maps as points; KITTI's axes: camera is right, down, forward; velodyne is forward, left, up."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from pipeline.stereo.camera import RectifiedCamera

VELODYNE_FROM_CAMERA: Final = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])
"""(3, 3): a pure change of axes; our velodyne frame sits in the left camera."""


def back_project(
    depth: NDArray[np.float32],
    camera: RectifiedCamera,
    mask: NDArray[np.bool_] | None = None,
    stride: int = 1,
) -> NDArray[np.float32]:
    """Points (N, 3) float32 in camera axes, metres, of the pixels that have a depth (and are in `mask`), row by row."""
    sub = depth[::stride, ::stride]
    valid = np.isfinite(sub) & (sub > 0)
    if mask is not None:
        valid &= mask[::stride, ::stride]
    v, u = np.nonzero(valid)
    return _rays_times_depth(u * stride, v * stride, sub[v, u], camera)


def velodyne_points(
    depth: NDArray[np.float32], grey: NDArray[np.uint8], camera: RectifiedCamera, max_points: int = 130_000
) -> NDArray[np.float32]:
    """(N, 4) float32: x forward, y left, z up in metres, and reflectance = grey / 255.

    Every n-th row and column is taken, n the smallest that keeps N at or below about `max_points`.
    """
    count = int(np.count_nonzero(np.isfinite(depth)))
    stride = max(1, int(np.ceil(np.sqrt(count / max_points))))
    sub = depth[::stride, ::stride]
    v, u = np.nonzero(np.isfinite(sub) & (sub > 0))
    points = _rays_times_depth(u * stride, v * stride, sub[v, u], camera)
    cloud = np.empty((len(points), 4), dtype=np.float32)
    cloud[:, :3] = camera_to_velodyne(points)
    cloud[:, 3] = grey[v * stride, u * stride].astype(np.float32) / 255
    return cloud


def camera_to_velodyne(points: NDArray[np.floating]) -> NDArray[np.floating]:
    """(..., 3) camera axes → velodyne axes."""
    return np.stack((points[..., 2], -points[..., 0], -points[..., 1]), axis=-1)


def velodyne_to_camera(points: NDArray[np.floating]) -> NDArray[np.floating]:
    """(..., 3) velodyne axes → camera axes."""
    return np.stack((-points[..., 1], -points[..., 2], points[..., 0]), axis=-1)


def _rays_times_depth(
    u: NDArray[np.integer], v: NDArray[np.integer], z: NDArray[np.float32], camera: RectifiedCamera
) -> NDArray[np.float32]:
    points = np.empty((len(z), 3), dtype=np.float32)
    points[:, 0] = (u - camera.cx) / camera.fx * z
    points[:, 1] = (v - camera.cy) / camera.fy * z
    points[:, 2] = z
    return points
