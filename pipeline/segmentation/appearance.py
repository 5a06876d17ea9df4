"""What an object looks like, and where on it: colours counted on a grid that travels with the object.

A colour histogram knows that a girl wears purple and navy; one on a grid knows that the purple is above the navy. The
background has such a grid too, which stays with the scene: what an object uncovers is recognised as what was there
before. All counts are of few colours (`Palette`), so looking up the likelihood of a pixel is one array access.
"""

from dataclasses import dataclass
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.sparse import csr_array

Floats = NDArray[Any]
Indices = NDArray[np.int64]
Colours = NDArray[np.int64]
Window = tuple[slice, slice]

COLOURS: Final = 64
COLOURS_OF_A_NEWCOMER: Final = 16
KINSHIP: Final = 6.0
"""Distance in 8-bit L*a*b* at which two colours are still much alike."""
LEAST_KINSHIP: Final = 0.01
CELLS_ACROSS: Final = 26
"""Of a grid, over the longer side of its object."""
REACH: Final = 1.25
"""How far beyond its outline an object's grid goes: limbs move."""
SPREAD: Final = 0.05
"""How far parts are expected to move about on an object, in its longer sides."""
SHAPE_SPREAD: Final = 0.7
ANYWHERE: Final = 0.2
"""Share of an object's pixels that may have any of its colours, wherever they lie on it."""
BACKGROUND_CELLS: Final = 108
BACKGROUND_SPREAD: Final = 2.0
"""In cells."""
BACKGROUND_ANYWHERE: Final = 0.1
SPECKLE: Final = 1e-5
"""Likelihood of a colour outside an object's grid."""


class Palette:
    """A few colours that stand for all. `of` gives the index of each pixel, `spread` smooths over like colours."""

    def __init__(self, pixels_lab: NDArray[np.uint8], count: int = COLOURS) -> None:
        """From pixels (n, 3)."""
        self._colours = np.zeros((0, 3), np.float32)
        self.add(pixels_lab, count)

    def __len__(self) -> int:
        return len(self._colours)

    def add(self, pixels_lab: NDArray[np.uint8], count: int = COLOURS_OF_A_NEWCOMER) -> None:
        """Take in colours of what was not seen before. Counts made earlier keep their meaning."""
        picture = Image.fromarray(np.ascontiguousarray(pixels_lab[None]), "RGB")
        found = picture.quantize(count, Image.Quantize.MEDIANCUT, kmeans=2).getpalette()
        new = np.unique(np.array(found, np.float32).reshape(-1, 3)[:count], axis=0)
        self._colours = np.concatenate([self._colours, new])
        steps = np.arange(4, 256, 8, dtype=np.float32)
        lattice = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1).reshape(-1, 3)
        nearest = np.zeros(len(lattice), np.int64)
        least = np.full(len(lattice), np.inf, np.float32)
        for index, colour in enumerate(self._colours):
            distance = ((lattice - colour) ** 2).sum(axis=1)
            nearer = distance < least
            nearest[nearer], least[nearer] = index, distance[nearer]
        self._lookup = nearest
        apart = ((self._colours[:, None] - self._colours) ** 2).sum(axis=2)
        kin = np.exp(-apart / (2 * KINSHIP**2))
        kin[kin < LEAST_KINSHIP] = 0
        # Sparse not only for speed: its products do not depend on the number of threads.
        self._kin = csr_array((kin / kin.sum(axis=1, keepdims=True)).astype(np.float32))

    def of(self, image_lab: NDArray[np.uint8]) -> Colours:
        """The index of every pixel's colour, int64 (H, W)."""
        lightness, a, b = (image_lab[..., channel].astype(np.int64) >> 3 for channel in range(3))
        return np.asarray(self._lookup[(lightness * 32 + a) * 32 + b])

    def spread(self, counts: Floats) -> Floats:
        """Counts (..., len(self)), smoothed over like colours."""
        flat = counts.reshape(-1, counts.shape[-1])
        return np.asarray((self._kin.T @ flat.T).T, dtype=np.float32).reshape(counts.shape)

    def widened(self, counts: Floats) -> Floats:
        """Counts made before colours were added, with zeros for the new ones."""
        missing = len(self) - counts.shape[-1]
        return counts if not missing else np.pad(counts, [(0, 0)] * (counts.ndim - 1) + [(0, missing)])


def likelihoods(counts: Floats, palette: Palette, sigma: float, anywhere: float, faint: float) -> Floats:
    """Probability of each colour in each cell of a grid (h, w, colours), from counts; cells know of their neighbours.

    anywhere: share that goes by the colours of the whole grid. faint: count at which a cell half trusts itself.
    """
    blurred = cv2.GaussianBlur(counts, (0, 0), sigma, borderType=cv2.BORDER_CONSTANT)
    local = palette.spread(blurred.reshape(counts.shape))  # OpenCV drops an axis of length 1
    every = palette.spread(counts.sum(axis=(0, 1))[None])[0]
    every /= max(float(every.sum()), 1e-9)
    seen = local.sum(axis=2, keepdims=True)
    trust = seen / (seen + faint + 1e-12) * (1 - anywhere)
    return np.asarray(trust * (local / np.maximum(seen, 1e-12)) + (1 - trust) * every, dtype=np.float32)


@dataclass(slots=True)
class Grid:
    """The cells around an object: `centre` (x, y) in pixels moves with it, everything else stays."""

    centre: NDArray[np.float64]
    cell: float
    side: int

    @classmethod
    def around(cls, mask: NDArray[np.bool_]) -> "Grid":
        """For an object with at least one pixel."""
        rows, columns = np.nonzero(mask)
        centre = np.array([columns.mean(), rows.mean()])
        extent = float(max(np.ptp(rows), np.ptp(columns)) + 1)
        cell = max(extent / CELLS_ACROSS, 2.0)
        reach = REACH * max(np.abs(rows - centre[1]).max(), np.abs(columns - centre[0]).max()) + 2 * cell
        return cls(centre, cell, 2 * int(np.ceil(reach / cell)) + 1)

    def window(self, shape: tuple[int, int]) -> tuple[Window, Indices] | None:
        """The part of an image (H, W) under the grid, and the cell of each of its pixels; None if it lies outside."""
        spans = []
        for middle, size in ((self.centre[1], shape[0]), (self.centre[0], shape[1])):
            start = middle - self.side * self.cell / 2
            first, last = max(int(np.ceil(start)), 0), min(int(np.ceil(start + self.side * self.cell)), size)
            if first >= last:
                return None
            index = np.minimum(((np.arange(first, last) - start) / self.cell).astype(np.int64), self.side - 1)
            spans.append((slice(first, last), index))
        (rows, row), (columns, column) = spans
        return (rows, columns), row[:, None] * self.side + column


class Template:
    """One object's colours and shape, on its grid: as first seen, and as seen of late."""

    def __init__(self, mask: NDArray[np.bool_], colours: Colours, palette: Palette) -> None:
        """From a mask (H, W) with at least one pixel."""
        self.grid = Grid.around(mask)
        self.velocity = np.zeros(2)
        self.area = float(mask.sum())
        extent = self.grid.cell * CELLS_ACROSS
        self._sigma = max(SPREAD * extent / self.grid.cell, 0.8)
        weight = mask.astype(np.float32)
        self._counts = self._count(weight, colours, len(palette))
        self._first = self._counts.copy()
        self.shape = self._cover(weight)

    def widen(self, palette: Palette) -> None:
        """Make room for colours that were added to the palette."""
        self._counts, self._first = palette.widened(self._counts), palette.widened(self._first)

    def table(self, palette: Palette, anchor: float) -> Floats:
        """Probability of colours in cells (side², colours): `anchor` of it as first seen, the rest as of late."""
        both = [
            likelihoods(counts, palette, self._sigma, ANYWHERE, 0.02 * self.grid.cell**2)
            for counts in (self._first, self._counts)
        ]
        mixed = anchor * both[0] + (1 - anchor) * both[1]
        return np.asarray(mixed.reshape(-1, len(palette)))

    def learn(self, weight: Floats, cover: Floats, colours: Colours, share: float, palette: Palette) -> None:
        """Forget `share` of what was seen of late for what is seen now: sure pixels (H, W), and all of it (H, W)."""
        self._counts += share * (self._count(weight, colours, len(palette)) - self._counts)
        self.shape += share * (self._cover(cover) - self.shape)

    def _count(self, weight: Floats, colours: Colours, size: int) -> Floats:
        found = self.grid.window(weight.shape)
        side = self.grid.side
        if found is None:
            return np.zeros((side, side, size), np.float32)
        window, cells = found
        counts = np.bincount((cells * size + colours[window]).ravel(), weight[window].ravel(), side * side * size)
        return counts.reshape(side, side, size).astype(np.float32)

    def _cover(self, weight: Floats) -> Floats:
        """How much of each cell the object covers, 0…1, blurred: (side, side)."""
        found = self.grid.window(weight.shape)
        side = self.grid.side
        if found is None:
            return np.zeros((side, side), np.float32)
        window, cells = found
        cover = np.bincount(cells.ravel(), weight[window].ravel(), side * side).reshape(side, side)
        cover = (cover / self.grid.cell**2).astype(np.float32)
        return np.asarray(cv2.GaussianBlur(cover, (0, 0), SHAPE_SPREAD * self._sigma, borderType=cv2.BORDER_CONSTANT))


class Background:
    """The colours of the scene behind the objects, on a grid that follows the camera's panning."""

    def __init__(self, weight: Floats, colours: Colours, palette: Palette) -> None:
        """From how much each pixel (H, W) is background, 0…1."""
        self._cell = max(max(weight.shape) / BACKGROUND_CELLS, 2.0)
        self._size = tuple(int(side / self._cell) + 3 for side in weight.shape)
        self._shift = np.zeros(2)
        self._counts = self._count(weight, colours, len(palette))

    def widen(self, palette: Palette) -> None:
        self._counts = palette.widened(self._counts)

    def pan(self, motion: NDArray[np.float64]) -> None:
        """The scene moved by (x, y) pixels. What comes in at the border is not known yet."""
        self._shift += motion
        for axis, along in ((1, 0), (0, 1)):
            cells = int(np.round(self._shift[along] / self._cell))
            if cells:
                self._shift[along] -= cells * self._cell
                self._counts = np.roll(self._counts, cells, axis=axis)
                edge: list[Any] = [slice(None)] * 3
                edge[axis] = slice(0, cells) if cells > 0 else slice(cells, None)
                self._counts[tuple(edge)] = 0

    def likelihood(self, colours: Colours, palette: Palette) -> Floats:
        """Of every pixel (H, W)."""
        table = likelihoods(self._counts, palette, BACKGROUND_SPREAD, BACKGROUND_ANYWHERE, 0.5)
        return np.asarray(table.reshape(-1)[self._cells(colours.shape) * len(palette) + colours])

    def learn(self, weight: Floats, colours: Colours, share: float, palette: Palette) -> None:
        """As `Template.learn`; what is covered now is remembered as it was."""
        now = self._count(weight, colours, len(palette))
        seen = np.minimum(now.sum(axis=2, keepdims=True) / self._cell**2, 1)
        self._counts += share * (now - seen * self._counts)

    def _count(self, weight: Floats, colours: Colours, size: int) -> Floats:
        cells = self._cells(weight.shape) * size + colours
        counts = np.bincount(cells.ravel(), weight.ravel(), self._size[0] * self._size[1] * size)
        return counts.reshape(*self._size, size).astype(np.float32)

    def _cells(self, shape: tuple[int, ...]) -> Indices:
        row, column = (
            np.floor((np.arange(side) - shift) / self._cell).astype(np.int64) + 1
            for side, shift in zip(shape, self._shift[::-1], strict=True)
        )
        return np.asarray(row[:, None] * self._size[1] + column)
