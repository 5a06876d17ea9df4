"""Which pixels of a mask tell of the object itself: their depth is its own, and not its neighbour's or a guess."""

from collections.abc import Sequence
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]
Depth = NDArray[np.float32]

_RIM_SHARE: Final = 0.008
"""Of the mask's diagonal: the rim is where depth of the background leaks in."""
_FATTENED_PX: Final = 5
"""How far the depth of something near reaches beyond its outline: half of the matcher's block, and smoothing."""
_TRUSTED: Final = 0.3
"""Least confidence of a pixel, as `pipeline.storage.sequence.load_confidence` gives it."""
_IN_FRONT_M: Final = 0.3
_BESIDE_PX: Final = (4, 8, 14, 20)
_HIDDEN_SHARE: Final = 0.3
"""How far beside a mask something nearer is looked for, and along which share of its height it must be found."""
_LEAST_LEFT: Final = 0.3
"""Of the pixels with a depth: where fewer would remain, all are taken rather than none."""


def own_pixels(
    masks: Sequence[Mask], depth: Depth, confidence: NDArray[np.float32] | None = None
) -> list[tuple[Mask, int]]:
    """Of each mask (H, W) of one frame the pixels whose depth is its own, and by how many pixels its rim was cut.

    Left out are the rim, what lies beside a nearer mask (whose depth spills over), and depth that is not trusted.
    """
    windows = [_window(mask) for mask in masks]
    middles = [_middle(mask, window, depth) for mask, window in zip(masks, windows, strict=True)]
    result = []
    for number, mask in enumerate(masks):
        inner, radius = without_rim(mask)
        window = windows[number]
        if window is None:
            result.append((inner, radius))
            continue
        known = inner & np.isfinite(depth)
        kept = known.copy()
        if confidence is not None:
            kept &= confidence >= _TRUSTED
        if np.count_nonzero(kept) < _LEAST_LEFT * np.count_nonzero(known):
            kept = known
        grown = tuple(slice(max(0, each.start - _FATTENED_PX), each.stop + _FATTENED_PX) for each in window)
        for other, theirs in enumerate(windows):
            if other != number and theirs is not None and middles[other] < middles[number] and _meet(grown, theirs):
                part = masks[other][grown].astype(np.uint8)
                kept[grown] &= cv2.dilate(part, np.ones((2 * _FATTENED_PX + 1,) * 2, np.uint8)) == 0
        result.append((kept, radius))
    return result


def _window(mask: Mask) -> tuple[slice, slice] | None:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return None
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def _middle(mask: Mask, window: tuple[slice, slice] | None, depth: Depth) -> float:
    if window is None:
        return np.inf
    inside = depth[window][mask[window]]
    inside = inside[np.isfinite(inside)]
    return float(np.median(inside)) if len(inside) else np.inf


def _meet(a: Sequence[slice], b: Sequence[slice]) -> bool:
    return all(one.start < two.stop and two.start < one.stop for one, two in zip(a, b, strict=True))


def without_rim(mask: Mask) -> tuple[Mask, int]:
    """The mask without its outermost pixels, and how many of them; as it is, and 0, if too little would remain."""
    window = _window(mask)
    if window is None:
        return mask, 0
    inner = np.pad(mask[window].astype(np.uint8), 1)
    radius = max(1, round(_RIM_SHARE * float(np.hypot(*inner.shape))))
    inner = np.asarray(cv2.erode(inner, np.ones((2 * radius + 1,) * 2, np.uint8)), np.uint8)[1:-1, 1:-1]
    if inner.sum() < 0.4 * mask[window].sum():
        return mask, 0
    result = np.zeros_like(mask)
    result[window] = inner > 0
    return result, radius


def cut_sides(mask: Mask, depth: Depth) -> tuple[bool, bool]:
    """Whether an object may go on out of sight to the left, and to the right.

    That is where the mask ends at the image border or at something nearer along a good part of its height. Beside what
    is near the matcher has no answer for some pixels, so the first known depth counts.
    """
    rows = np.flatnonzero(mask.any(axis=1))
    if not rows.size:
        return False, False
    first, last = mask.argmax(axis=1)[rows], mask.shape[1] - 1 - mask[:, ::-1].argmax(axis=1)[rows]
    own = float(np.nanmedian(depth[mask])) if np.isfinite(depth[mask]).any() else np.inf
    shares = []
    for ends, step, border in ((first, -1, 0), (last, 1, mask.shape[1] - 1)):
        beside = np.full(rows.size, np.nan)
        for pixels in _BESIDE_PX:
            columns = np.clip(ends + step * pixels, 0, mask.shape[1] - 1)
            beside = np.where(np.isnan(beside), depth[rows, columns], beside)
        cut = (np.abs(ends - border) <= 2) | (beside < own - _IN_FRONT_M - 0.006 * own**2)
        shares.append(float(np.mean(cut)))
    return shares[0] > _HIDDEN_SHARE, shares[1] > _HIDDEN_SHARE
