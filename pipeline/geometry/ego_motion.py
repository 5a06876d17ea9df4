"""How the camera moved from one frame to the next, from what stands still in the image.

Corners of the earlier image are followed into the later one (pyramidal Lucas-Kanade, there and back again); those with
a depth give the pose by RANSAC over perspective-n-point, refined by least squares of the reprojection.
"""

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.stereo.camera import RectifiedCamera

Grey = NDArray[np.uint8]

_CORNERS: Final = 400
_APART_PX: Final = 9
_WINDOW_PX: Final = 15
_RETURN_PX: Final = 0.5
"""A corner that does not come back within this when followed in reverse was lost."""
_REPROJECTION_PX: Final = 1.2
MIN_INLIERS: Final = 25
MIN_SHARE: Final = 0.4
"""Of the corners followed, at least this many and this share must agree; else the motion is not known."""


@dataclass(frozen=True, slots=True)
class Motion:
    """X_after = rotation @ X_before + translation, for points that stand still; camera axes, metres.

    rotation: (3, 3); translation: (3,); inliers: how many corners agree.
    """

    rotation: NDArray[np.float64]
    translation: NDArray[np.float64]
    inliers: int


def camera_motion(
    before: Grey,
    after: Grey,
    depth_before: NDArray[np.float32],
    camera: RectifiedCamera,
    moving: NDArray[np.bool_] | None = None,
) -> Motion | None:
    """The motion between two grey images (H, W) of the left camera, or None where too little agrees.

    depth_before: metres (H, W), NaN where unknown. moving: bool (H, W), pixels of `before` that may move of themselves.
    Deterministic.
    """
    usable = np.isfinite(depth_before) & (depth_before > 0)
    if moving is not None:
        usable &= ~moving
    corners = cv2.goodFeaturesToTrack(before, _CORNERS, 0.005, _APART_PX, mask=usable.astype(np.uint8) * 255)
    if corners is None or len(corners) < MIN_INLIERS:
        return None
    window = (_WINDOW_PX, _WINDOW_PX)
    corners, nowhere = np.asarray(corners, np.float32), np.empty(0, np.float32)
    there, found, _ = cv2.calcOpticalFlowPyrLK(before, after, corners, nowhere, winSize=window, maxLevel=3)
    back, returned, _ = cv2.calcOpticalFlowPyrLK(after, before, there, nowhere, winSize=window, maxLevel=3)
    off = np.linalg.norm((back - corners).reshape(-1, 2), axis=1)
    kept = (found.ravel() > 0) & (returned.ravel() > 0) & (off < _RETURN_PX)
    start, end = corners.reshape(-1, 2)[kept].astype(np.float64), there.reshape(-1, 2)[kept].astype(np.float64)
    if len(start) < MIN_INLIERS:
        return None
    columns, rows = np.rint(start).astype(np.intp).T
    z = depth_before[rows, columns].astype(np.float64)
    points = np.stack(
        [(start[:, 0] - camera.cx) / camera.fx, (start[:, 1] - camera.cy) / camera.fy, np.ones(len(z))], 1
    )
    points *= z[:, None]
    ok, turn, shift, inliers = cv2.solvePnPRansac(
        points, end, camera.matrix, None, iterationsCount=200, reprojectionError=_REPROJECTION_PX, confidence=0.999
    )
    if not ok or inliers is None or len(inliers) < max(MIN_INLIERS, MIN_SHARE * len(points)):
        return None
    chosen = inliers.ravel()
    turn, shift = cv2.solvePnPRefineLM(points[chosen], end[chosen], camera.matrix, None, turn, shift)
    rotation = np.asarray(cv2.Rodrigues(turn)[0], np.float64)
    if not (np.isfinite(rotation).all() and np.isfinite(shift).all()):
        return None
    return Motion(rotation, np.asarray(shift, np.float64).ravel(), len(chosen))
