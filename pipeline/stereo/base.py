"""What every stereo matcher gives, whatever it stands on."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Grey = NDArray[np.uint8]
Disparity = NDArray[np.float32]
Depth = NDArray[np.float32]
Confidence = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class StereoMatch:
    """What was measured of a rectified pair, on the left image's pixels.

    disparity: float32 (H, W), pixels, NaN where unknown; x_right = x_left - disparity. confidence: float32 (H, W), the
    estimated probability that the disparity is off by less than one pixel (of the image that was matched, which is a
    smaller one where the matcher works at a lower resolution); 0 where there is none.
    """

    disparity: Disparity
    confidence: Confidence


class StereoMatcher(Protocol):
    def measure(self, left: NDArray[np.uint8], right: NDArray[np.uint8]) -> StereoMatch:
        """Match a rectified pair, uint8 BGR (H, W, 3) or grey (H, W). The same pair gives the same bytes.

        Raises ValueError for two images of different sizes. May be called from several threads at once.
        """
        ...
