"""Perceptual difference hash (dHash): 64 bits that change little when a picture changes little.

After N. Krawetz, "Kind of Like That" (hackerfactor.com, 2013): the picture becomes 9x8 grey pixels, and each bit says
whether a pixel is brighter than its left neighbour. It is right for neighbouring frames and exact copies of a video,
not for pictures that merely show the same thing. Hashes of two implementations differ by several bits for the same
picture: store DHASH_VERSION with each and never compare across versions.
"""

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

DHASH_VERSION: Final = "dhash64-v1"
"""Bilinear to 160x90, grey (BT.601), area average to 9x8; bits row by row, the highest first."""


def dhash(image_bgr: NDArray[np.uint8]) -> str:
    """Hash a uint8 BGR (H, W, 3) image into 16 hexadecimal digits.

    The bilinear step samples a large frame instead of averaging it: ten times as fast, about one bit off.
    """
    small = cv2.resize(image_bgr, (160, 90), interpolation=cv2.INTER_LINEAR)
    grey = cv2.resize(cv2.cvtColor(small, cv2.COLOR_BGR2GRAY), (9, 8), interpolation=cv2.INTER_AREA)
    return np.packbits(grey[:, 1:] > grey[:, :-1]).tobytes().hex()


def hamming(a: str, b: str) -> int:
    """Number of the 64 bits in which two hashes differ."""
    return (int(a, 16) ^ int(b, 16)).bit_count()
