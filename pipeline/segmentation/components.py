"""Connected pixels of one surface: neighbours in the image whose depth goes on."""

from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

SLOPE: Final = 0.8
"""How much inverse depth may change from one pixel to the next on one surface, times the focal length, 1/m. What is
steeper falls apart and has to be put together again; with more, things behind one another grow together."""
_LAGS: Final = ((0, 1), (1, 0), (0, 2), (2, 0), (0, 3), (3, 0))
"""Pixels compared: neighbours, and over gaps of one and two pixels (holes of the matcher)."""


def surface_components(
    depth: NDArray[np.float32], mask: NDArray[np.bool_], focal: float, slope: float = SLOPE
) -> tuple[NDArray[np.int32], int]:
    """Label (H, W) from 0, -1 outside `mask`, and the number of labels. `depth` metres, finite where `mask` is set."""
    count = int(np.count_nonzero(mask))
    node = np.full(depth.shape, -1, np.int32)
    node[mask] = np.arange(count)
    inverse = np.where(mask, 1 / np.maximum(np.nan_to_num(depth, nan=1.0), 0.2), 9).astype(np.float32)
    rows, columns = [], []
    limit = slope / focal
    for dv, du in _LAGS:
        a, b = (slice(None, -dv or None), slice(None, -du or None)), (slice(dv, None), slice(du, None))
        joined = (np.abs(inverse[a] - inverse[b]) < limit) & mask[a] & mask[b]
        rows.append(node[a][joined])
        columns.append(node[b][joined])
    i, j = np.concatenate(rows), np.concatenate(columns)
    graph = coo_array((np.ones(i.size, np.int8), (i, j)), shape=(count, count))
    number, labels = connected_components(graph, directed=False) if count else (0, np.empty(0, np.int32))
    out = np.full(depth.shape, -1, np.int32)
    out[mask] = labels
    return out, int(number)
