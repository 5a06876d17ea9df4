"""From a rough idea of where an object is to its outline, by colours and where they lie: no weights.

The idea is a probability for every pixel. Colours of object and surroundings are counted on a grid, as `appearance`
has it; where a colour is likelier the object's than its surroundings', at that place, the pixel is likelier the
object's; the result is drawn to the edges of the image, and the counts are taken anew. Of a large object, GrabCut
(Rother et al., SIGGRAPH 2004) then has a say: its colours do not know where they lie, and of small things in clutter it
keeps little, but it knows how outlines run.
"""

from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.segmentation.appearance import CELLS_ACROSS, Palette, likelihoods
from pipeline.segmentation.propagation import SURE, EdgeGuide

Floats = NDArray[Any]
Image = NDArray[np.uint8]

ROUNDS: Final = 3
SPREAD: Final = 3.0
"""Cells over which the colours of a place are taken together; of the surroundings, which change less, a fifth more."""
ANYWHERE: Final = 0.4
DOUBT: Final = 1e-4
"""Likelihood of a colour that was seen nowhere."""
EMPHASIS: Final = 20.0
"""What a pixel that a person pointed at counts."""
RADIUS: Final = 3
EDGE_VARIANCE: Final = 1e-4
CUT_FROM: Final = 5000
"""Pixels of a region from which GrabCut is heard."""
CUT_ROUNDS: Final = 2
CUT_ODDS: Final = 1.0
_SAMPLED: Final = 6000


def outlined(image: Image, prior: Floats, finer: Image | None = None, pointed: Floats | None = None) -> Floats:
    """Log-odds float32 within ±SURE, of the size of `finer`, the same image in a higher resolution, where it is given.

    image: uint8 BGR (H, W, 3). prior: 0…1 (H, W); 0 and 1 are beyond doubt, and stay. pointed: (H, W), how much of each
    pixel a person pointed at, of the object or of what is beside it.
    """
    full = image if finer is None else finer
    odds: Floats = np.full(full.shape[:2], -SURE, np.float32)
    rows, columns = _surroundings(prior > 0)
    if rows.stop == 0:
        return odds
    inner, rough = np.ascontiguousarray(image[rows, columns]), prior[rows, columns].astype(np.float32)
    weight = 1 + EMPHASIS * (np.zeros_like(rough) if pointed is None else pointed[rows, columns])
    guide = EdgeGuide(inner, RADIUS, EDGE_VARIANCE)
    posterior = rough
    cells, shape, colours, palette = _counted_on(inner, rough)
    for _ in range(ROUNDS):
        found = np.clip(guide(posterior), 0, 1) * (rough > 0)
        sides = []
        for share, spread in ((found, SPREAD), (1 - found, 1.2 * SPREAD)):
            index = cells * len(palette) + colours
            counts = np.bincount(index.ravel(), (share * weight).ravel(), shape[0] * shape[1] * len(palette))
            grid = counts.reshape(*shape, len(palette)).astype(np.float32)
            sides.append(likelihoods(grid, palette, spread, ANYWHERE, 0.5).reshape(-1)[index] + DOUBT)
        ours, theirs = rough * sides[0], (1 - rough) * sides[1]
        posterior = np.asarray(ours / np.maximum(ours + theirs, 1e-12), dtype=np.float32)
    if (rough > 0).sum() >= CUT_FROM:
        posterior = _heard(inner, rough, posterior)
    height, width = full.shape[0] / image.shape[0], full.shape[1] / image.shape[1]
    place = (
        slice(round(rows.start * height), round(rows.stop * height)),
        slice(round(columns.start * width), round(columns.stop * width)),
    )
    drawn = guide(posterior, None if finer is None else np.ascontiguousarray(finer[place]))
    drawn = np.clip(drawn, np.exp(-SURE), 1 - np.exp(-SURE))
    sure = cv2.resize(_certain(rough), drawn.shape[::-1], interpolation=cv2.INTER_NEAREST)
    odds[place] = np.where(sure != 0, sure, np.clip(np.log(drawn / (1 - drawn)), -SURE, SURE))
    return odds


def _heard(image: Image, prior: Floats, posterior: Floats) -> Floats:
    """The probabilities (H, W) after GrabCut, which starts from them, has spoken for one side of each pixel."""
    labels: Any = np.where(posterior > 0.5, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    labels[prior <= 0], labels[prior >= 1] = cv2.GC_BGD, cv2.GC_FGD
    ours = np.isin(labels, (cv2.GC_FGD, cv2.GC_PR_FGD))
    if not ours.any() or ours.all():  # it needs pixels of both sides
        return posterior
    cv2.setRNGSeed(0)  # its k-means starts at random, from where the last call left off
    cv2.grabCut(image, labels, [0, 0, 0, 0], np.zeros((1, 65)), np.zeros((1, 65)), CUT_ROUNDS, cv2.GC_INIT_WITH_MASK)
    odds = np.where(np.isin(labels, (cv2.GC_FGD, cv2.GC_PR_FGD)), CUT_ODDS, -CUT_ODDS)
    ratio = np.exp(odds) * posterior
    return np.asarray(ratio / np.maximum(ratio + 1 - posterior, 1e-12), dtype=np.float32)


def _certain(prior: Floats) -> Floats:
    """Log-odds where the prior is beyond doubt, else 0."""
    return np.asarray(SURE * ((prior >= 1).astype(np.float32) - (prior <= 0)))


def _surroundings(region: NDArray[np.bool_]) -> tuple[slice, slice]:
    """The rectangle around a region and as much again on every side, within the image; empty if the region is."""
    spans = []
    for axis, size in enumerate(region.shape):
        inside = np.flatnonzero(region.any(axis=1 - axis))
        if not len(inside):
            return slice(0, 0), slice(0, 0)
        first, last = int(inside[0]), int(inside[-1]) + 1
        spans.append(slice(max(first - (last - first), 0), min(last + (last - first), size)))
    return spans[0], spans[1]


def _counted_on(image: Image, prior: Floats) -> tuple[NDArray[np.int64], tuple[int, int], NDArray[np.int64], Palette]:
    """The cell of each pixel, the grid's shape, each pixel's colour, and the palette: half of it from the object."""
    lab = np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2LAB), np.uint8)
    region = prior > 0
    extent = max(region.any(axis=0).sum(), region.any(axis=1).sum())
    cell = max(float(extent) / CELLS_ACROSS, 1.0)
    row, column = (np.floor(np.arange(size) / cell).astype(np.int64) for size in region.shape)
    shape = (int(row[-1]) + 1, int(column[-1]) + 1)
    both = (lab[region], lab.reshape(-1, 3))
    palette = Palette(np.concatenate([pixels[:: max(len(pixels) // _SAMPLED, 1)] for pixels in both]))
    return row[:, None] * shape[1] + column, shape, palette.of(lab), palette
