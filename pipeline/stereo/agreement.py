"""Two matches of one pair, left on right and right on left, held against each other."""

import numpy as np

from pipeline.stereo.base import Disparity


def left_right_difference(disparity: Disparity, from_right: Disparity) -> Disparity:
    """Pixels by which each left match and the right image's match at its place differ: float32 (H, W).

    disparity is on the left image's pixels, from_right on the right one's, both positive, NaN where unknown. The
    difference is infinite where either is unknown or the place lies outside the right image.
    """
    width = disparity.shape[1]
    there = np.rint(np.arange(width, dtype=np.float32)[None, :] - np.nan_to_num(disparity, nan=width + 1.0))
    back = np.take_along_axis(from_right, np.clip(there, 0, width - 1).astype(np.intp), axis=1)
    difference: Disparity = np.abs(disparity - back)
    difference[~((there >= 0) & np.isfinite(difference))] = np.inf
    return difference
