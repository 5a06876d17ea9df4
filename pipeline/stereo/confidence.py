"""How far a disparity can be trusted: four signs that cost little, weighed by a logistic regression.

Of the many that Hu & Mordohai compare ("A Quantitative Evaluation of Confidence Measures for Stereo Vision", TPAMI
2012), these need no look at the cost volume, which OpenCV does not hand out.
"""

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.stereo.base import Confidence, Disparity, Grey

_NEIGHBOURHOOD: Final = 11
_WINDOW: Final = 7
_LEVELS: Final = 16
"""Disparities are compared in sixteenths of a pixel: whole numbers, so that no order of adding changes a bit."""

WEIGHTS: Final = (2.35, -2.21, 4.20, -0.95, -0.85)
"""Constant, then one weight per sign. Fitted by `python -m benchmarks.stereo_confidence`, which also prints how well
the probabilities hold on pictures the fit has not seen."""


def confidence_signs(left: Grey, right: Grey, disparity: Disparity, difference: Disparity) -> NDArray[np.float32]:
    """The signs (4, H, W), float32; their values mean nothing where `disparity` is NaN.

    0: pixels the left and the right match differ by. 1: share of the neighbourhood (11x11) that has a disparity.
    2: log(1 + mean absolute grey difference to the right image at the matched place, 7x7). 3: log(1 + 4 range of
    disparities in pixels, 7x7): large at the border of an object.

    left, right: uint8 (H, W). disparity: float32 (H, W), NaN where unknown; difference: see `left_right_difference`.
    """
    known = np.isfinite(disparity)
    mask, filled = known.view(np.uint8), np.where(known, disparity, np.float32(0))
    signs = np.empty((4, *disparity.shape), np.float32)
    signs[0] = np.where(known, difference, 0)
    np.multiply(_box_sum(mask, _NEIGHBOURHOOD), np.float32(1 / _NEIGHBOURHOOD**2), out=signs[1])

    height, width = disparity.shape
    columns = np.arange(width, dtype=np.float32)[None, :] - filled
    rows = np.broadcast_to(np.arange(height, dtype=np.float32)[:, None], (height, width))
    warped = cv2.remap(right, columns, np.ascontiguousarray(rows), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    apart = _box_sum(np.asarray(cv2.absdiff(left, warped), np.uint8) * mask, _WINDOW)
    np.log1p(apart / np.maximum(_box_sum(mask, _WINDOW), np.uint16(1)), out=signs[2])

    fixed = (filled * _LEVELS).astype(np.int16)
    window = np.ones((_WINDOW, _WINDOW), np.uint8)
    highest = np.asarray(cv2.dilate(fixed, window))  # what is unknown is 0 there, and never the highest
    lowest = np.asarray(cv2.erode(np.where(known, fixed, np.int16(32767)), window))
    spread = np.where(known, highest - lowest, np.int16(0)).astype(np.float32)
    np.log1p(spread * np.float32(4 / _LEVELS), out=signs[3])
    return signs


def confidence_of(left: Grey, right: Grey, disparity: Disparity, difference: Disparity) -> Confidence:
    """Probability that each disparity is off by less than one pixel: float32 (H, W) in 0…1, 0 where there is none.

    Arguments as in `confidence_signs`.
    """
    signs = confidence_signs(left, right, disparity, difference)
    score = np.full(disparity.shape, WEIGHTS[0], np.float32)
    for sign, weight in zip(signs, WEIGHTS[1:], strict=True):
        score += np.float32(weight) * sign
    probability: Confidence = (1 / (1 + np.exp(-score))).astype(np.float32, copy=False)
    probability[np.isnan(disparity)] = 0
    return probability


def _box_sum(image: NDArray[np.uint8], size: int) -> NDArray[np.uint16]:
    """Sum over size x size pixels, exact: whole numbers below 2^16."""
    total = cv2.boxFilter(image, cv2.CV_16U, (size, size), normalize=False, borderType=cv2.BORDER_CONSTANT)
    return np.asarray(total, np.uint16)
