"""Masks as COCO run-length encodings: cropped to their bounding rectangle, full frame, pixels, polygons."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class CroppedMask:
    """Compressed RLE of a rectangle (`width`, `height`) with its corner at (`left`, `top`) of the frame, in pixels."""

    left: int
    top: int
    width: int
    height: int
    counts: str

    @classmethod
    def from_pixels(cls, mask: NDArray[np.bool_]) -> Self | None:
        """Crop and encode a full-frame mask, bool (H, W); None if it is empty."""
        from pycocotools import mask as coco

        columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
        if not len(columns):
            return None
        left, top = int(columns[0]), int(rows[0])
        crop = mask[top : rows[-1] + 1, left : columns[-1] + 1]
        counts = coco.encode(np.asfortranarray(crop, dtype=np.uint8))["counts"].decode()
        return cls(left, top, crop.shape[1], crop.shape[0], counts)

    @classmethod
    def from_full_frame(cls, rle: dict[str, Any]) -> Self | None:
        """Crop the RLE of a whole frame, {"size": [h, w], "counts": str}; None if it is empty."""
        from pycocotools import mask as coco

        return cls.from_pixels(coco.decode(rle).astype(bool))

    def pixels(self) -> NDArray[np.bool_]:
        """The rectangle, bool (height, width)."""
        from pycocotools import mask as coco

        decoded = coco.decode({"size": [self.height, self.width], "counts": self.counts})
        return np.asarray(decoded, dtype=bool)

    def full_frame_pixels(self, width: int, height: int) -> NDArray[np.bool_]:
        """The mask within a frame, bool (height, width)."""
        frame = np.zeros((height, width), dtype=bool)
        frame[self.top : self.top + self.height, self.left : self.left + self.width] = self.pixels()
        return frame

    def full_frame(self, width: int, height: int) -> dict[str, Any]:
        """The RLE of the whole frame, as COCO files hold it: moves the runs, never touches the frame's pixels."""
        return {"size": [height, width], "counts": full_frame_counts([self], [(width, height)])[0]}

    def png(self, width: int, height: int) -> bytes:
        """A PNG of the whole frame: 255 on the object, 0 elsewhere."""
        import cv2

        pixels = self.full_frame_pixels(width, height).astype(np.uint8) * 255
        return bytes(cv2.imencode(".png", pixels, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1])

    def polygons(self) -> list[list[float]]:
        """Outlines along the pixel edges, one [x1, y1, x2, y2, …] per connected part. COCO polygons know no holes."""
        import cv2

        # In the doubled image pixel i is 2i and 2i + 1; rounding up half of that gives its edges i and i + 1.
        doubled = np.kron(self.pixels(), np.ones((2, 2), dtype=np.uint8)).astype(np.uint8)
        contours, _ = cv2.findContours(doubled, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        outlines = []
        for contour in contours:
            edges = (contour.reshape(-1, 2) + 1) // 2
            before, after = edges - np.roll(edges, 1, axis=0), np.roll(edges, -1, axis=0) - edges
            edges = edges[np.any(before != 0, axis=1)]
            before, after = edges - np.roll(edges, 1, axis=0), np.roll(edges, -1, axis=0) - edges
            turns = edges[before[:, 0] * after[:, 1] != before[:, 1] * after[:, 0]]
            if len(turns) >= 3:
                outlines.append((turns + np.array([self.left, self.top])).astype(float).ravel().tolist())
        return sorted(outlines)


def full_frame_counts(masks: Sequence[CroppedMask], sizes: Sequence[tuple[int, int]]) -> list[str]:
    """The compressed RLE of each mask in a frame of size (width, height).

    Moves the runs of all masks at once and never touches a pixel: done mask by mask, this is what an export waits for.
    """
    if not masks:
        return []
    ends, owner = _foreground([mask.counts for mask in masks])
    starts, ends = ends[0::2], ends[1::2]
    left, top, rows = np.array([(mask.left, mask.top, mask.height) for mask in masks], dtype=np.int64).T
    width, height = np.array(sizes, dtype=np.int64).T
    # Cut the runs where a column of the rectangle ends: in the frame its next column lies further on. Rectangles as
    # high as the frame have no gap between columns, so there the whole is one column.
    column_rows = np.where(rows < height, rows, width * height)[owner]
    first, last = starts // column_rows, (ends - 1) // column_rows
    pieces = last - first + 1
    column = np.arange(pieces.sum()) - np.repeat(np.cumsum(pieces) - pieces - first, pieces)
    owner, column_rows = np.repeat(owner, pieces), np.repeat(column_rows, pieces)
    starts = np.maximum(np.repeat(starts, pieces), column * column_rows)
    ends = np.minimum(np.repeat(ends, pieces), (column + 1) * column_rows)
    shift = (left * height + top)[owner] + column * (height - rows)[owner]

    per_mask = np.bincount(owner, minlength=len(masks))
    places = np.empty(2 * len(owner) + 2 * len(masks), dtype=np.int64)
    at = np.arange(len(owner)) * 2 + 2 * owner + 1
    places[at], places[at + 1] = starts + shift, ends + shift
    mask_end = np.cumsum(2 * per_mask + 2)
    places[mask_end - 1] = width * height
    places[np.concatenate(([0], mask_end[:-1]))] = 0
    runs = np.diff(places, append=0)
    keep = np.ones(len(runs), dtype=bool)
    keep[mask_end - 1] = False  # the step from one mask to the next
    keep[mask_end - 2] = runs[mask_end - 2] > 0  # no run of zeros after an object that ends the frame
    return _compress(runs[keep], 2 * per_mask + keep[mask_end - 2])


def _foreground(counts: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where the runs of ones start and end, alternating, and the place in `counts` of the RLE each pair is from.

    A compressed RLE (rleFrString of the COCO API) is its runs, zeros first: each a little-endian number of 5-bit
    digits, 48 added, bit 5 telling that more follow; from the fourth on the difference to the run before the last.
    """
    digits = np.frombuffer("".join(counts).encode(), dtype=np.uint8).astype(np.int64) - 48
    last = np.flatnonzero(digits & 0x20 == 0)
    first = np.concatenate(([0], last[:-1] + 1))
    places = 5 * (np.arange(len(digits)) - np.repeat(first, last - first + 1))
    values = np.add.reduceat((digits & 0x1F) << places, first)
    values -= np.where(digits[last] & 0x10, np.int64(1) << (places[last] + 5), 0)
    stops = np.searchsorted(last, np.cumsum([len(text) for text in counts]) - 1) + 1
    start, found, pairs = 0, [], []
    for stop in stops.tolist():
        runs = values[start:stop]
        np.cumsum(runs[1::2], out=runs[1::2])
        np.cumsum(runs[2::2], out=runs[2::2])
        pair = len(runs) // 2
        found.append(np.cumsum(runs[: 2 * pair]))
        pairs.append(pair)
        start = stop
    return np.concatenate(found), np.repeat(np.arange(len(counts)), pairs)


def _compress(runs: NDArray[np.int64], per_mask: NDArray[np.int64]) -> list[str]:
    """rleToString of the COCO API for the runs of many masks one after another."""
    mask_end = np.cumsum(per_mask)
    place = np.arange(len(runs)) - np.repeat(mask_end - per_mask, per_mask)
    values = runs.copy()
    values[2:] -= np.where(place[2:] > 2, runs[:-2], 0)
    size = np.where(values < 0, ~values, values)
    lengths = 1 + np.searchsorted(_DIGIT_LIMITS, size, side="right")
    stops = np.cumsum(lengths)
    digit = np.arange(stops[-1]) - np.repeat(stops - lengths, lengths)
    codes = (np.repeat(values, lengths) >> (5 * digit)) & 0x1F
    codes += 48 + 0x20 * (digit < np.repeat(lengths, lengths) - 1)
    text = codes.astype(np.uint8).tobytes().decode()
    edges = [0, *stops[mask_end - 1].tolist()]
    return [text[edges[n] : edges[n + 1]] for n in range(len(per_mask))]


_DIGIT_LIMITS = np.array([16 * 32**n for n in range(8)])
"""Numbers from here on (or their complements) need one digit of 5 bits more, one bit being the sign."""
