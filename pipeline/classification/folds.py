"""Labels dealt into folds for cross-validation: what belongs together stays together, classes are spread evenly."""

from collections.abc import Hashable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

FOLDS: Final = 5
FOLDS_OF_MANY: Final = 3
MANY: Final = 1000
"""Of so many labels three folds tell as much as five, in half the time."""


def deal(
    labels: NDArray[np.int64], groups: Sequence[Hashable] | None = None, folds: int | None = None
) -> NDArray[np.int64]:
    """Fold (N,) of each label, from 0. labels: int (N,). groups: what a label belongs to (a track, a recording): the
    same thing seen twice must not be in training and test.

    Except where a class has hardly anything else: held back whole, it would be tested on a class never seen. A group
    with more than half of the labels of its class is cut into runs, in the order given: other views of the same thing.
    Deterministic; as many folds as there are groups at most.
    """
    folds = folds or (FOLDS_OF_MANY if labels.size > MANY else FOLDS)
    owners = list(range(labels.size)) if groups is None else list(groups)
    members: dict[Hashable, list[int]] = {}
    for index, owner in enumerate(owners):
        members.setdefault(owner, []).append(index)
    kinds, column = np.unique(labels, return_inverse=True)
    totals = np.bincount(column, minlength=kinds.size)
    pieces = [run for group in members.values() for run in _runs(group, column, totals, folds)]
    number = max(1, min(folds, len(pieces)))
    dealt = np.zeros((number, kinds.size), np.int64)
    fold = np.zeros(labels.size, np.int64)
    # Large groups first, else there is nothing left to even them out with.
    for group in sorted(pieces, key=lambda each: (-len(each), each[0])):
        counts = np.bincount(column[group], minlength=kinds.size)
        main = int(np.argmax(counts))
        place = min(range(number), key=lambda k: (int(dealt[k, main]), int(dealt[k].sum()), k))
        dealt[place] += counts
        fold[group] = place
    return fold


def _runs(group: list[int], column: NDArray[np.intp], totals: NDArray[np.intp], folds: int) -> list[list[int]]:
    """The group, or its runs where it is most of what there is of its class."""
    counts = np.bincount(column[group], minlength=totals.size)
    main = int(np.argmax(counts))
    if len(group) < folds or 2 * counts[main] <= totals[main]:
        return [group]
    return [run.tolist() for run in np.array_split(np.array(group), folds)]
