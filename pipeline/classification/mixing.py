"""Two opinions on what an instance is, the class head's and the segmenter's, made one.

A product of experts (Hinton, "Training Products of Experts by Minimizing Contrastive Divergence", 2002) with exponent 1
for the head, which is calibrated on labels, and a learned exponent for the segmenter, which is not.

What the segmenter says is taken apart first: the evidence that there is one whole thing at all (its objectness, or
where it gives none, what its class scores sum to), and what that thing would be. The head speaks of the latter only,
so the evidence multiplies the result: a splinter of a wall does not become a crate by having its colours.
"""

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

Floats = NDArray[np.float64]

WEIGHT: Final = 0.3
"""The segmenter's exponent before anything is learned of it."""
_FLOOR: Final = 0.02
"""Added to each of the segmenter's shares: what it holds impossible, a person may have seen."""
_CAUTION: Final = 4.0
"""Labels' worth of trust in WEIGHT."""


def evidence(class_scores: Mapping[int, float], objectness: float | None) -> float:
    """0…1: that there is one whole thing there, whatever it is. 1 where the segmenter says nothing of that."""
    if objectness is not None:
        return float(np.clip(objectness, 0, 1))
    return float(np.clip(sum(class_scores.values()), 0, 1)) if class_scores else 1.0


def shares(class_scores: Mapping[int, float], objectness: float | None, class_ids: Sequence[int]) -> Floats:
    """(C + 1,) the segmenter's probabilities of `class_ids` and none of them, given that there is something.

    Even ones where it says nothing of classes. Where it gives no objectness, a thing of no class and no thing are the
    same to it: then "none" is as likely as the best class, so that mixing leaves that question to the head.
    """
    if not class_scores:
        return np.full(len(class_ids) + 1, 1 / (len(class_ids) + 1))
    found = np.array([*(class_scores.get(each, 0.0) for each in class_ids), 0.0])
    if objectness is None:
        found[-1] = found.max()
    else:
        found[-1] = max(0.0, objectness - float(sum(class_scores.values())))
    total = float(found.sum())
    return np.asarray(found / total) if total > 0 else np.full(found.size, 1 / found.size)


def extended(head: Floats, head_ids: Sequence[int], class_ids: Sequence[int], segmenter: Floats) -> Floats:
    """(C + 1,) the head's probabilities (H + 1,) for the classes of a job, `class_ids`.

    What is none of the classes the head has learned may be one it has no label of: that share is divided as the
    segmenter's `shares` (C + 1,) of those and of "none" are. A class of the head's that the job does not have is
    "none".
    """
    out = np.zeros(len(class_ids) + 1)
    place = {each: column for column, each in enumerate(head_ids)}
    unknown = [column for column, each in enumerate(class_ids) if each not in place]
    for column, each in enumerate(class_ids):
        if each in place:
            out[column] = head[place[each]]
    rest = float(head[-1])
    split = segmenter[[*unknown, -1]]
    if split.sum() > 0:
        out[[*unknown, -1]] = rest * split / split.sum()
    out[-1] = max(0.0, 1 - float(out[:-1].sum()))
    return out


def mixed(head: Floats, segmenter: Floats, weight: float) -> Floats:
    """Probabilities (..., C + 1) ∝ head · (segmenter + floor) ** weight."""
    product = head * (segmenter + _FLOOR) ** weight
    total = product.sum(axis=-1, keepdims=True)
    return np.asarray(np.where(total > 0, product / np.where(total > 0, total, 1), head))


def fit_weight(head: Floats, segmenter: Floats, column: NDArray[np.int64]) -> float:
    """The exponent 0…3 for which `mixed` fits labels best. head, segmenter (N, C + 1); column int (N,)."""
    rows = np.arange(column.size)

    def loss(weight: float) -> float:
        right = mixed(head, segmenter, weight)[rows, column]
        return float(-np.log(np.maximum(right, 1e-9)).sum() + _CAUTION * (weight - WEIGHT) ** 2)

    return float(minimize_scalar(loss, bounds=(0.0, 3.0), method="bounded").x) if column.size else WEIGHT
