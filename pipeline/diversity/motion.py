"""How much two frames differ, pixel by pixel, on thumbnails small enough to keep."""

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

THUMBNAIL_SHAPE: Final = (36, 64)
"""Rows, columns."""


def thumbnail(image_bgr: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The image (uint8 BGR (H, W, 3)) as a grey thumbnail, uint8 (36, 64); the aspect ratio is not kept."""
    rows, columns = THUMBNAIL_SHAPE
    # Sampling at twice the size and averaging 2x2 costs a tenth of averaging the full frame and quietens sensor noise.
    small = cv2.resize(image_bgr, (2 * columns, 2 * rows), interpolation=cv2.INTER_LINEAR)
    grey = cv2.cvtColor(small, cv2.COLOR_BGR2GRAY)
    return np.asarray(cv2.resize(grey, (columns, rows), interpolation=cv2.INTER_AREA), dtype=np.uint8)


def motion_score(thumb_a: NDArray[np.uint8], thumb_b: NDArray[np.uint8]) -> float:
    """Mean absolute grey difference of two thumbnails, from 0 (equal) to 1 (black against white)."""
    if thumb_a.shape != thumb_b.shape:
        raise ValueError(f"thumbnails of {thumb_a.shape} and {thumb_b.shape} cannot be compared")
    return float(cv2.norm(thumb_a, thumb_b, cv2.NORM_L1)) / (thumb_a.size * 255)
