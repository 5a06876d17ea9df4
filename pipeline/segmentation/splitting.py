"""One connected mask of a class into the objects of that class it holds."""

from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, maximum

from pipeline.segmentation.components import surface_components

Floats = NDArray[Any]
Mask = NDArray[np.bool_]

_DEPTH_SLOPE: Final = 6.0
"""Looser than for geometry alone: the network has already said that it is one class."""
_KNOWN: Final = 0.3
_LARGE: Final = 0.12
"""Share of a mask that must have a depth to go by; share of those pixels that a piece of its own must have."""
NECK: Final = 0.6
"""Two lobes are two objects where what joins them is narrower than this share of the smaller one's width …"""
LOBE: Final = 0.5
"""… and the smaller one is at least this share of the largest as wide: limbs and mirrors are not."""
_DENT: Final = 0.10
"""Depth of a dent in the outline, as a share of the root of the area, from which a cut may begin there."""
_HALF: Final = 0.08
_OPENING: Final = 0.9
_GAIN: Final = 0.03
_GAIN_SHARE: Final = 0.35
"""What a cut needs: each half that share of the area, a length of at most that share of the lower half's height, and
that much more of the hulls filled, absolutely and of what was empty."""
_OTHER_SIDE: Final = 0.1
"""Share of an outline that lies between two points of different sides, at least, either way round."""
_MOST_DENTS: Final = 8
_MOST_CUTS: Final = 12
"""Bounds on the time that a ragged mask takes."""
_LEVELS: Final = 24
"""Widths at which a mask is cut open to find its lobes."""


def parts(mask: Mask, least: int) -> list[Mask]:
    """The connected parts of `mask` (H, W) of `least` pixels and more."""
    number, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=4)
    return [labels == each for each in range(1, number) if stats[each, cv2.CC_STAT_AREA] >= least]


def by_depth(part: Mask, depth: Floats, focal: float, least: int) -> list[Mask]:
    """`part` (H, W) cut where its depth jumps; depth (H, W) metres, NaN where unknown; focal in pixels of it."""
    known = part & np.isfinite(depth) & (depth > 0)
    if np.count_nonzero(known) < _KNOWN * np.count_nonzero(part):
        return [part]
    labels, number = surface_components(depth, known, focal, _DEPTH_SLOPE)
    sizes = np.bincount(labels[known], minlength=max(number, 1))
    large = np.flatnonzero(sizes >= max(least, _LARGE * sizes.sum()))
    if large.size < 2:
        return [part]
    # Pixels without a depth, and splinters, go to the nearest large piece.
    return _nearest(part, np.where(np.isin(labels, large) & known, labels + 1, 0))


def by_shape(part: Mask, least: int, neck: float = NECK, lobe: float = LOBE) -> list[Mask]:
    """`part` (H, W) cut at its necks: lobes that a much narrower bridge joins, as two cars that touch have it."""
    rows, columns = np.flatnonzero(part.any(axis=1)), np.flatnonzero(part.any(axis=0))
    window = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
    inside = np.pad(part[window], 1)
    width = cv2.distanceTransform(inside.astype(np.uint8), cv2.DIST_L2, 5)
    seeds = _lobes(width, neck, lobe)
    if seeds.max(initial=0) < 2:
        return [part]
    pieces = []
    for piece in _nearest(inside, seeds):
        whole = np.zeros_like(part)
        whole[window] = piece[1:-1, 1:-1]
        pieces.append(whole)
    if any(np.count_nonzero(piece) < least for piece in pieces):
        return [part]
    return pieces


def by_concavity(part: Mask, least: int) -> list[Mask]:
    """`part` (H, W) of convex things (cars, not people) cut between two dents of its outline, again and again.

    A cut is made where both halves are then so much more convex that one thing of this shape is the poorer explanation.
    """
    rows, columns = np.flatnonzero(part.any(axis=1)), np.flatnonzero(part.any(axis=0))
    window = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
    done: list[Mask] = []
    waiting: list[Mask] = [np.pad(part[window], 1)]
    while waiting:
        piece = waiting.pop()
        halves = _cut_between_dents(piece, least) if len(done) + len(waiting) < _MOST_CUTS else None
        if halves:
            waiting += halves
        else:
            done.append(piece)
    if len(done) == 1:
        return [part]
    pieces = []
    for piece in done:
        whole = np.zeros_like(part)
        whole[window] = piece[1:-1, 1:-1]
        pieces.append(whole)
    return pieces


def _cut_between_dents(piece: Mask, least: int) -> list[Mask] | None:
    outlines, _ = cv2.findContours(piece.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    outline = np.asarray(max(outlines, key=cv2.contourArea), np.int32).reshape(-1, 2)
    if len(outline) < 8:
        return None
    # The hull of an outline that touches itself may come out of order, which would be refused.
    hull = np.sort(cv2.convexHull(outline, returnPoints=False).reshape(-1))[::-1].copy()
    defects = cv2.convexityDefects(outline, hull) if len(hull) > 3 else None
    if defects is None:
        return None
    area = float(np.count_nonzero(piece))
    dents = sorted(defects.reshape(-1, 4).tolist(), key=lambda each: (-each[3], each[2]))[:_MOST_DENTS]
    deep = [int(far) for _, _, far, depth in dents if depth / 256 > _DENT * np.sqrt(area)]
    before = _solidity(piece)
    best: tuple[float, list[Mask]] | None = None
    for a, b in _cuts(outline, deep):
        cut = piece.astype(np.uint8)
        cv2.line(cut, outline[a].tolist(), outline[b].tolist(), 0, 2)
        count, labels, stats, _ = cv2.connectedComponentsWithStats(cut, connectivity=4)
        if count < 3:
            continue
        order = np.argsort(-stats[1:, cv2.CC_STAT_AREA])[:2] + 1
        if stats[order[1], cv2.CC_STAT_AREA] < max(least, _HALF * area):
            continue
        length = float(np.linalg.norm(outline[a] - outline[b]))
        if length > _OPENING * min(stats[each, cv2.CC_STAT_HEIGHT] for each in order):
            continue
        seeds = np.where(np.isin(labels, order), np.where(labels == order[0], 1, 2), 0)
        halves = _nearest(piece, seeds)
        after = sum(_solidity(each) * np.count_nonzero(each) for each in halves) / area
        gain = (after - before) / (1 - before + 1e-6)
        if after - before > _GAIN and gain > _GAIN_SHARE and (best is None or after > best[0]):
            best = after, halves
    return best and best[1]


def _cuts(outline: NDArray[np.int32], deep: list[int]) -> list[tuple[int, int]]:
    """From each dent (indices into `outline` (n, 2)) to every other, and to the nearest point of the other side."""
    cuts = [(a, b) for number, a in enumerate(deep) for b in deep[number + 1 :]]
    order = np.arange(len(outline))
    for a in deep:
        along = np.abs(order - a)
        across = np.linalg.norm(outline - outline[a], axis=1)
        across[np.minimum(along, len(outline) - along) < _OTHER_SIDE * len(outline)] = np.inf
        cuts.append((a, int(across.argmin())))
    return cuts


def _solidity(piece: Mask) -> float:
    """Share of its convex hull that a mask fills."""
    points = np.argwhere(piece)[:, ::-1].astype(np.int32)
    hull = np.zeros(piece.shape, np.uint8)
    cv2.fillConvexPoly(hull, cv2.convexHull(points), 1)
    return float(np.count_nonzero(piece)) / max(1.0, float(np.count_nonzero(hull)))


def _lobes(width: Floats, neck: float, lobe: float) -> NDArray[np.int32]:
    """Labels (H, W) from 1 of the lobes: what stays apart when everything narrower than `neck` of it is cut away."""
    widest = float(width.max())
    for level in np.linspace(0, widest, _LEVELS, endpoint=False)[1:]:
        number, labels = cv2.connectedComponents((width > level).astype(np.uint8), connectivity=8)
        peaks = np.asarray(maximum(width, labels, np.arange(1, number)))
        wide = np.flatnonzero((peaks >= lobe * widest) & (level <= neck * peaks)) + 1
        if wide.size >= 2:
            return np.asarray(np.searchsorted(wide, labels) + 1, np.int32) * np.isin(labels, wide)
    return np.zeros(width.shape, np.int32)


def _nearest(part: Mask, seeds: NDArray[np.integer[Any]]) -> list[Mask]:
    """Each pixel of `part` to the nearest seed: labels from 1, 0 where there is none."""
    rows, columns = distance_transform_edt(seeds == 0, return_distances=False, return_indices=True)
    nearest = seeds[rows, columns]
    return [part & (nearest == each) for each in np.unique(seeds[seeds > 0])]
