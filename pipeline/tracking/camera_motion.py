"""How the camera moved between two frames, as a homography of the picture, and what that does to tracked boxes.

From images: corners followed by sparse optical flow, away from the tracked objects, and the similarity transform that
most of them agree on (RANSAC; compare Aharon et al., "BoT-SORT", 2022). From an IMU: a rotation alone moves every pixel
by K R K^-1, however far away it is.
"""

from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipeline.tracking import kalman_filter as kalman

Array = NDArray[np.float64]

LONGEST_SIDE: Final = 640
"""Images are made this small first: the motion of a camera shows in coarse structures."""
MOST_CORNERS: Final = 400
FEWEST_AGREEING: Final = 12
"""With fewer corners that agree nothing is known, and the camera is taken to have stood still."""
AGREEMENT_PX: Final = 1.5


class CameraMotion:
    """Follows the camera through the frames of a video; remembers one small grey image. Deterministic."""

    def __init__(self) -> None:
        self._before: NDArray[np.uint8] | None = None

    def update(self, image: NDArray[np.uint8], boxes_xyxy: ArrayLike | None = None) -> Array:
        """The homography (3, 3) from the frame before to this one, uint8 BGR (H, W, 3) or grey (H, W).

        boxes_xyxy: (n, 4), objects of the frame before, which may move on their own. The identity for the first frame,
        where the size of the image changes, and where too little is seen to tell.
        """
        grey = image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
        scale = min(1.0, LONGEST_SIDE / max(grey.shape[:2]))
        if scale < 1:
            grey = cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        before, self._before = self._before, np.asarray(grey, np.uint8)
        if before is None or before.shape != grey.shape:
            return np.eye(3)
        return _rescaled(_between(before, self._before, _free(before, boxes_xyxy, scale)), scale)


def _free(grey: NDArray[np.uint8], boxes_xyxy: ArrayLike | None, scale: float) -> NDArray[np.uint8]:
    """Where corners may be: 255, and 0 inside the boxes."""
    free: NDArray[np.uint8] = np.full(grey.shape, 255, np.uint8)
    if boxes_xyxy is not None:
        boxes = np.asarray(boxes_xyxy, np.float64).reshape(-1, 4) * scale
        limits = [free.shape[1], free.shape[0]] * 2
        for left, top, right, bottom in np.clip(np.round(boxes), 0, limits).astype(int).tolist():
            free[slice(top, bottom), slice(left, right)] = 0
    return free


def _between(before: NDArray[np.uint8], after: NDArray[np.uint8], free: NDArray[np.uint8]) -> Array:
    corners = cv2.goodFeaturesToTrack(before, MOST_CORNERS, 0.01, 7, mask=free)
    if corners is None or len(corners) < FEWEST_AGREEING:
        return np.eye(3)
    there, found = _followed(before, after, corners)
    back, found_back = _followed(after, before, there)
    kept = found & found_back & (np.abs(back - corners).max(axis=(1, 2)) < 1)
    if kept.sum() < FEWEST_AGREEING:
        return np.eye(3)
    affine, agree = cv2.estimateAffinePartial2D(
        corners[kept], there[kept], method=cv2.RANSAC, ransacReprojThreshold=AGREEMENT_PX, confidence=0.999
    )
    if affine is None or agree.sum() < FEWEST_AGREEING or not np.isfinite(affine).all():
        return np.eye(3)
    return np.vstack([affine, [0.0, 0.0, 1.0]])


def _followed(before: Any, after: Any, corners: Any) -> tuple[Any, NDArray[np.bool_]]:
    there, found, _ = cv2.calcOpticalFlowPyrLK(
        before, after, corners, np.empty_like(corners), winSize=(15, 15), maxLevel=4
    )
    return there, found.ravel() == 1


def _rescaled(homography: Array, scale: float) -> Array:
    """The same motion in pixels of the image before it was made smaller by `scale`."""
    # A pixel of the small image covers several: their centres do not start at the same corner.
    small = np.array([[scale, 0, (scale - 1) / 2], [0, scale, (scale - 1) / 2], [0, 0, 1]])
    return np.asarray(np.linalg.inv(small) @ homography @ small)


def from_rotation(rotation: ArrayLike, camera_matrix: ArrayLike) -> Array:
    """The homography (3, 3) of a camera (3, 3) that only turned.

    rotation: (3, 3), takes directions in the axes of the camera before to its axes now, as integrated from a gyroscope.
    """
    matrix = np.asarray(camera_matrix, np.float64)
    return np.asarray(matrix @ np.asarray(rotation, np.float64) @ np.linalg.inv(matrix))


def moved_boxes(motion: Array, homography: ArrayLike) -> Array:
    """States (5, n, 4) of boxes (centre x, centre y, aspect, height) as `kalman_filter` has them, in the new pixels.

    Near each centre the homography is its derivative there: that turns and scales velocity and height. Raises
    ValueError where the homography is not (3, 3) and finite. The input is left alone.
    """
    matrix = np.asarray(homography, np.float64)
    if matrix.shape != (3, 3) or not np.isfinite(matrix).all():
        raise ValueError(f"a camera motion is a finite (3, 3) homography, not one of shape {matrix.shape}")
    moved = motion.copy()
    x, y = motion[kalman.POSITION, :, 0], motion[kalman.POSITION, :, 1]
    u, v, w = (row[0] * x + row[1] * y + row[2] for row in matrix)
    w = np.where(np.abs(w) > 1e-9, w, 1e-9)
    u, v = u / w, v / w
    # d(u, v) / d(x, y), elementwise for all boxes.
    xx, xy = (matrix[0, 0] - u * matrix[2, 0]) / w, (matrix[0, 1] - u * matrix[2, 1]) / w
    yx, yy = (matrix[1, 0] - v * matrix[2, 0]) / w, (matrix[1, 1] - v * matrix[2, 1]) / w
    scale = np.sqrt(np.abs(xx * yy - xy * yx))
    moved[kalman.POSITION, :, 0], moved[kalman.POSITION, :, 1] = u, v
    across, down = motion[kalman.VELOCITY, :, 0], motion[kalman.VELOCITY, :, 1]
    moved[kalman.VELOCITY, :, 0], moved[kalman.VELOCITY, :, 1] = xx * across + xy * down, yx * across + yy * down
    moved[: kalman.PP, :, 3] *= scale
    for coordinate in (0, 1, 3):
        moved[kalman.PP :, :, coordinate] *= scale * scale
    return moved
