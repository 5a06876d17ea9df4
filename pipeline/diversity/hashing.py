"""Perceptual difference hash (dHash): 64 bits that change little when a picture changes little.

After N. Krawetz, "Kind of Like That" (hackerfactor.com, 2013): the picture becomes 9x8 grey pixels, and each bit says
whether a pixel is brighter than its left neighbour. It is right for neighbouring frames and exact copies of a video,
not for pictures that merely show the same thing. Hashes of two implementations differ by several bits for the same
picture: store DHASH_VERSION with each and never compare across versions.
"""

from collections.abc import Sequence
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

DHASH_VERSION: Final = "dhash64-v1"
"""Bilinear to 160x90, grey (BT.601), area average to 9x8; bits row by row, the highest first."""

_CHUNK = 2048


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


def to_integers(hashes: Sequence[str]) -> NDArray[np.uint64]:
    """Hashes as uint64 (n,), the form in which many are compared."""
    return np.fromiter((int(value, 16) for value in hashes), dtype=np.uint64, count=len(hashes))


def pairwise_hamming(a: NDArray[np.uint64], b: NDArray[np.uint64]) -> NDArray[np.uint8]:
    """Bits in which each of `a` (n,) differs from each of `b` (m,): uint8 (n, m)."""
    return np.asarray(np.bitwise_count(a[:, None] ^ b[None, :]), dtype=np.uint8)


def near_duplicates(hashes: NDArray[np.uint64], threshold: int) -> NDArray[np.int64]:
    """All index pairs i < j whose hashes differ by at most `threshold` bits: int64 (pairs, 2), sorted.

    Compares in blocks, so that memory stays at tens of megabytes however many hashes there are.
    """
    found: list[NDArray[Any]] = []
    for start in range(0, len(hashes), _CHUNK):
        rows = hashes[start : start + _CHUNK]
        for other in range(start, len(hashes), _CHUNK):
            i, j = np.nonzero(pairwise_hamming(rows, hashes[other : other + _CHUNK]) <= threshold)
            pairs = np.stack([i + start, j + other], axis=1)
            found.append(pairs[pairs[:, 0] < pairs[:, 1]])
    if not found:
        return np.empty((0, 2), np.int64)
    pairs = np.concatenate(found).astype(np.int64)
    return pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]
