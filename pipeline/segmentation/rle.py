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
        return _text(coco.frPyObjects({"size": [height, width], "counts": [height * width]}, height, width))
    first, last = int(columns[0]), int(columns[-1]) + 1
    flat = np.concatenate([[False], mask[:, first:last].ravel(order="F"), [False]])
    changes = np.flatnonzero(flat[1:] != flat[:-1])
    edges = np.concatenate([[0], changes + first * height, [height * width]])
    counts = np.diff(edges)
    if counts[-1] == 0:
        counts = counts[:-1]
    return _text(coco.frPyObjects({"size": [height, width], "counts": counts.tolist()}, height, width))


def _text(rle: dict[str, Any]) -> dict[str, Any]:
    return {"size": [int(side) for side in rle["size"]], "counts": rle["counts"].decode("ascii")}


def decode(rle: dict[str, Any]) -> NDArray[np.bool_]:
    """The mask, bool (H, W). Raises PipelineError for anything that is not such an encoding.

    Done here because pycocotools does not check that the runs fill the frame.
    """
    try:
        height, width = (int(side) for side in rle["size"])
        counts = _counts(rle["counts"])
        if height < 1 or width < 1 or min(counts) < 0 or sum(counts) != height * width:
            raise ValueError
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise PipelineError("rle: not a COCO run-length encoding with size and counts.") from error
    values = np.arange(len(counts)) % 2 == 1
    return np.repeat(values, counts).reshape(width, height).T


def _counts(text: str) -> list[int]:
    """Run lengths of a compressed string: groups of five bits, low ones first, bit six says that more follow; from the
    fourth on, differences to the run before the last."""
    counts: list[int] = []
    value = shift = 0
    for byte in text.encode("ascii"):
        group = byte - 48
        if not 0 <= group < 64:
            raise ValueError
        value |= (group & 0x1F) << shift
        shift += 5
        if group & 0x20:
            continue
        if group & 0x10:
            value -= 1 << shift
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
        value = shift = 0
    if shift or not counts:
        raise ValueError
    return counts


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
