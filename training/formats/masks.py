"""Masks as COCO run-length encodings: cropped to their bounding rectangle, full frame, pixels, polygons."""

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
        from pycocotools import mask as coco

        ends = np.cumsum(_run_lengths(self.counts))
        starts, ends = ends[0:-1:2], ends[1::2]
        if self.height < height and len(starts):
            # Cut the runs where a column of the rectangle ends: in the frame its next column lies further on.
            first, last = starts // self.height, (ends - 1) // self.height
            pieces = last - first + 1
            column = np.arange(pieces.sum()) - np.repeat(np.cumsum(pieces) - pieces - first, pieces)
            starts = np.maximum(np.repeat(starts, pieces), column * self.height)
            ends = np.minimum(np.repeat(ends, pieces), (column + 1) * self.height)
        else:
            column = starts // self.height
        shift = self.left * height + self.top + column * (height - self.height)
        places = np.stack([starts + shift, ends + shift], axis=1).ravel()
        runs = np.diff(places, prepend=0, append=width * height)
        if not runs[-1]:
            runs = runs[:-1]
        encoded = coco.frPyObjects({"size": [height, width], "counts": runs.tolist()}, height, width)
        return {"size": [height, width], "counts": encoded["counts"].decode()}

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


def _run_lengths(counts: str) -> NDArray[np.int64]:
    """The runs of a compressed RLE, zeros first (rleFrString of the COCO API).

    Each is a little-endian number of 5-bit digits, 48 added, bit 5 telling that more follow; from the fourth on it is
    the difference to the run before the last.
    """
    digits = np.frombuffer(counts.encode(), dtype=np.uint8).astype(np.int64) - 48
    last = np.flatnonzero(digits & 0x20 == 0)
    first = np.concatenate(([0], last[:-1] + 1))
    places = 5 * (np.arange(len(digits)) - np.repeat(first, last - first + 1))
    values = np.add.reduceat((digits & 0x1F) << places, first)
    values -= np.where(digits[last] & 0x10, np.int64(1) << (places[last] + 5), 0)
    values[1::2] = np.cumsum(values[1::2])
    values[2::2] = np.cumsum(values[2::2])
    return values
