"""COCO run-length encoding of masks (pycocotools), exact for the full frame.

Strings are those of `pycocotools.mask.encode`: runs down the columns, compressed. Encoding works on the columns the
object occupies and adds the empty ones as runs, which is many times faster for small objects in large frames.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco

from pipeline.errors import PipelineError


def encode(mask: NDArray[np.bool_]) -> dict[str, Any]:
    """{"size": [h, w], "counts": str} of a mask (H, W)."""
    height, width = mask.shape
    columns = np.flatnonzero(mask.any(axis=0))
    if not columns.size:
        return _text(coco.frUncompressed({"size": [height, width], "counts": [height * width]}, height, width))
    first, last = int(columns[0]), int(columns[-1]) + 1
    flat = np.concatenate([[False], mask[:, first:last].ravel(order="F"), [False]])
    changes = np.flatnonzero(flat[1:] != flat[:-1])
    edges = np.concatenate([[0], changes + first * height, [height * width]])
    counts = np.diff(edges)
    if counts[-1] == 0:
        counts = counts[:-1]
    return _text(coco.frUncompressed({"size": [height, width], "counts": counts.tolist()}, height, width))


def _text(rle: dict[str, Any]) -> dict[str, Any]:
    return {"size": [int(side) for side in rle["size"]], "counts": rle["counts"].decode("ascii")}


def decode(rle: dict[str, Any]) -> NDArray[np.bool_]:
    """The mask, bool (H, W). Raises PipelineError for anything that is not such an encoding."""
    try:
        height, width = (int(side) for side in rle["size"])
        counts = rle["counts"]
        if area(rle) > height * width:
            raise ValueError
        return np.asarray(coco.decode({"size": [height, width], "counts": counts.encode("ascii")}), dtype=bool)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise PipelineError("rle: not a COCO run-length encoding with size and counts.") from error


def area(rle: dict[str, Any]) -> int:
    """Pixels set."""
    return int(coco.area({"size": rle["size"], "counts": rle["counts"].encode("ascii")}))


def bbox_xywh(mask: NDArray[np.bool_]) -> list[float]:
    """Tight box [x, y, width, height] in pixels of a mask (H, W); zeros for an empty one."""
    columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    if not columns.size:
        return [0.0, 0.0, 0.0, 0.0]
    return [
        float(columns[0]),
        float(rows[0]),
        float(columns[-1] - columns[0] + 1),
        float(rows[-1] - rows[0] + 1),
    ]
