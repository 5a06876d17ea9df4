"""Does a segmenter see the same in the mirrored image? What it sees only from one side it cannot be sure of."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pipeline.segmentation.base import Instance, View


def mirrored(view: View) -> View:
    """The view as a mirrored camera would have it: left is right, depth and gravity with it."""
    matrix, gravity = view.camera_matrix, view.gravity
    if matrix is not None:
        matrix = matrix.copy()
        matrix[0, 2] = view.image.shape[1] - 1 - matrix[0, 2]
    return View(
        np.ascontiguousarray(view.image[:, ::-1]),
        None if view.depth is None else np.ascontiguousarray(view.depth[:, ::-1]),
        matrix,
        None if gravity is None else gravity * np.array([-1.0, 1.0, 1.0]),
    )


def with_agreement(instances: Sequence[Instance], others: Sequence[Instance]) -> list[Instance]:
    """`instances` with the IoU (0…1) of the best of `others`, found in the mirrored view; 0 where there is none."""
    masks = [each.mask[:, ::-1] for each in others]
    boxes = [_box(each) for each in masks]
    found = []
    for each in instances:
        own = _box(each.mask)
        ious = [_iou(each.mask, mask) for mask, box in zip(masks, boxes, strict=True) if _meet(own, box)]
        found.append(replace(each, agreement=round(max(ious, default=0.0), 4)))
    return found


def _box(mask: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return (int(columns[0]), int(rows[0]), int(columns[-1]), int(rows[-1])) if rows.size else (1, 1, 0, 0)


def _meet(a: tuple[int, int, int, int], b: tuple[int, int, int, int]) -> bool:
    return a[0] <= b[2] and b[0] <= a[2] and a[1] <= b[3] and b[1] <= a[3]


def _iou(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    both = int(np.count_nonzero(a & b))
    union = int(np.count_nonzero(a)) + int(np.count_nonzero(b)) - both
    return both / union if union else 0.0
