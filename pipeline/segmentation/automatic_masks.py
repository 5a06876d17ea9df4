"""From very many masks of one image, proposed point by point, to a few that are good and distinct. NumPy alone.

As in Kirillov et al., "Segment Anything", 2023, section 5: masks are kept that the network expects to be good and that
are stable under a shift of the threshold; of those that mean the same, the best. Overlaps are those of masks, not of
boxes. What is held at once is bounded, however many masks are proposed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

STABILITY_OFFSET: Final = 1.0
"""Log-odds by which the threshold is shifted."""


@dataclass(frozen=True, slots=True)
class Selection:
    """points_per_side: of the grid of prompts. quality and stability: what a mask needs, 0…1. overlap: IoU from which
    two masks mean the same. most: masks of one image; most_candidates: how many are compared. min_share: of the image,
    below which a mask, a hole or an island is noise."""

    points_per_side: int = 32
    quality: float = 0.8
    stability: float = 0.95
    overlap: float = 0.7
    most: int = 100
    most_candidates: int = 1000
    min_share: float = 0.0002


class Candidate(NamedTuple):
    """logits: float16 (h, w), as small as the network gives them."""

    logits: NDArray[np.float16]
    quality: float
    stability: float


def grid(points_per_side: int, side: int) -> NDArray[np.float32]:
    """Prompts (N, 2), x and y in pixels of a square input, in the middles of equal cells."""
    ticks = (np.arange(points_per_side) + 0.5) / points_per_side * side
    columns, rows = np.meshgrid(ticks, ticks)
    return np.stack([columns.ravel(), rows.ravel()], axis=1).astype(np.float32)


def stability(logits: NDArray[Any]) -> NDArray[np.float32]:
    """IoU of the masks (N, h, w) cut at the offset above and below zero; 0 for what is empty."""
    flat = logits.reshape(len(logits), -1)
    inner = np.count_nonzero(flat > STABILITY_OFFSET, axis=1)
    outer = np.count_nonzero(flat > -STABILITY_OFFSET, axis=1)
    return np.asarray(inner / np.maximum(outer, 1), np.float32)


class Candidates:
    """The best masks so far. `seen`: how many were good enough; `dropped`: how many of these there was no room for."""

    def __init__(self, selection: Selection) -> None:
        self._selection = selection
        self._kept: list[Candidate] = []
        self.seen = 0
        self.dropped = 0

    def add(self, logits: NDArray[np.float32], quality: NDArray[np.float32]) -> None:
        """logits (N, h, w); quality (N,) in 0…1."""
        wanted = self._selection
        good = np.flatnonzero(quality >= wanted.quality)
        stable = stability(logits[good])
        for index, how_stable in zip(good, stable, strict=True):
            large = np.count_nonzero(logits[index] > 0) >= wanted.min_share * logits[index].size
            if large and how_stable >= wanted.stability:
                small = np.clip(logits[index], -1000, 1000).astype(np.float16)
                self._kept.append(Candidate(small, min(1.0, float(quality[index])), float(how_stable)))
                self.seen += 1
        if len(self._kept) > 2 * wanted.most_candidates:
            self._shrink()

    def distinct(self) -> list[Candidate]:
        """The best of those that mean the same, best first, `most` at most."""
        self._shrink()
        alike = representatives([each.logits > 0 for each in self._kept], self._selection.overlap)
        chosen = [each for index, each in enumerate(self._kept) if alike[index] == index]
        self.dropped += max(0, len(chosen) - self._selection.most)
        return chosen[: self._selection.most]

    def _shrink(self) -> None:
        # Sorting keeps what came first before what came later: the result does not depend on when it is done.
        self._kept.sort(key=lambda each: (-each.quality, -each.stability))
        self.dropped += max(0, len(self._kept) - self._selection.most_candidates)
        del self._kept[self._selection.most_candidates :]


def representatives(masks: Sequence[NDArray[np.bool_]], overlap: float) -> list[int]:
    """For each mask (h, w), the index of the first that means the same (IoU above `overlap`): its own if none does.

    Masks are compared with representatives alone, so the order decides: give the best first.
    """
    areas: list[int] = []
    bits: list[NDArray[np.uint64]] = []
    own: list[int] = []
    out: list[int] = []
    for index, mask in enumerate(masks):
        packed = _packed(mask)
        area = int(np.bitwise_count(packed).sum())
        if bits:
            shared = np.bitwise_count(np.stack(bits) & packed).sum(axis=1, dtype=np.int64)
            overlaps = shared / np.maximum(1, np.array(areas) + area - shared)
            nearest = int(np.argmax(overlaps))
            if overlaps[nearest] > overlap:
                out.append(own[nearest])
                continue
        out.append(index)
        own.append(index)
        bits.append(packed)
        areas.append(area)
    return out


def _packed(mask: NDArray[np.bool_]) -> NDArray[np.uint64]:
    packed = np.packbits(mask)
    return np.pad(packed, (0, -packed.size % 8)).view(np.uint64)


def enlarged(logits: NDArray[Any], shape: tuple[int, int]) -> NDArray[np.float32]:
    """Logits (h, w) at the size (H, W) of the image, bilinear; the mask is cut after this, never before."""
    out = cv2.resize(logits.astype(np.float32), (shape[1], shape[0]), interpolation=cv2.INTER_LINEAR)
    return np.asarray(out, np.float32)


def cleaned(logits: NDArray[np.float32], min_area: float) -> NDArray[np.float32]:
    """The same logits without islands, and without holes, of fewer than `min_area` pixels: there the sign is turned.

    The largest island stays, however small it is.
    """
    out = logits.copy()
    for inside in (True, False):
        mask = (out > 0) == inside
        number, labels, statistics, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
        areas = statistics[:, cv2.CC_STAT_AREA]
        small = areas < min_area
        small[0] = False
        if inside and number > 1:
            small[1 + int(np.argmax(areas[1:]))] = False
        if small.any():
            turned = small[labels]
            # Never zero, which is outside: a hole that is filled is inside.
            out[turned] = -np.abs(out[turned]) if inside else np.abs(out[turned]) + 1e-3
    return out
