"""What can be said of an instance without trained weights: colours, edges, outline, and where depth tells, size.

Colours as histograms in CIE Lab, compared as Hellinger would (square roots); edges as histograms of oriented gradients
(Dalal and Triggs, 2005) inside the mask; the outline as an 8x8 occupancy and a few shape numbers; in metres, heights
above the ground and extents. Blocks are scaled so that their usual differences are alike.
"""

from collections.abc import Sequence
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.geometry.boxes3d import level_rotation
from pipeline.geometry.plane import Plane, fit_ground_plane
from pipeline.segmentation.base import View

Mask = NDArray[np.bool_]
Floats = NDArray[np.float32]

KIND: Final = "descriptor/1"
_SIDE: Final = 48
"""Side of the square the crop is drawn to, pixels."""
_CELLS: Final = 4
_TURNS: Final = 8
_LIGHT: Final = 8
_HUES: Final = 6
_GRID: Final = 8
_SHAPES: Final = 7
_METRIC: Final = 12
DIMENSION: Final = _LIGHT + _HUES**2 + _CELLS**2 * _TURNS + _GRID**2 + _SHAPES + _METRIC
_POINTS: Final = 1500
"""Points of an instance looked at, and of a frame when its ground is sought."""
_LEAST_POINTS: Final = 20
_DISPARITY_NOISE: Final = 0.4
"""As a slope of inverse depth over pixels times the focal length, 1/m: what the ground may be off (geometric's too)."""


class Descriptor:
    """Feature extractor "descriptor/1"."""

    kind = KIND
    dimension = DIMENSION

    def of(self, view: View, masks: Sequence[Mask]) -> Floats:
        """(N, DIMENSION) of instances bool (H, W) of one view; NaN for an empty mask."""
        out = np.full((len(masks), DIMENSION), np.nan, np.float32)
        points = _Points(view) if masks and view.depth is not None and view.camera_matrix is not None else None
        for row, mask in enumerate(masks):
            if mask.any():
                out[row] = _described(view.image, mask, points)
        return out


def _described(image: NDArray[np.uint8], mask: Mask, points: "_Points | None") -> Floats:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    window = (slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1))
    inside = mask[window].astype(np.float32)
    square = cv2.resize(inside, (_SIDE, _SIDE), interpolation=_method(inside.shape))
    # Colours are averaged within the mask only: what shines through at its border is not the instance's.
    covered = np.maximum(square, 1e-3)[..., None]
    part = image[window].astype(np.float32) * inside[..., None]
    colours = cv2.resize(part, (_SIDE, _SIDE), interpolation=_method(inside.shape)) / covered
    colours = np.clip(np.rint(colours), 0, 255).astype(np.uint8)
    weight = np.where(square > 0.5, square, 0).astype(np.float64)
    if not weight.any():
        weight = square.astype(np.float64)
    metric = np.zeros(_METRIC) if points is None else points.metric(mask)
    blocks = (
        _colours(colours, weight),
        _edges(colours, square),
        cv2.resize(inside, (_GRID, _GRID), interpolation=_method(inside.shape)).ravel() / 8,
        0.4 * _shape(inside, mask.shape, window),
        metric,
    )
    return np.concatenate(blocks).astype(np.float32)


def _method(shape: tuple[int, ...]) -> int:
    return cv2.INTER_AREA if min(shape) >= _SIDE else cv2.INTER_LINEAR


def _colours(colours: NDArray[Any], weight: NDArray[np.float64]) -> NDArray[np.float64]:
    """Histograms of lightness (8) and of a with b (6x6), each the square roots of shares."""
    lab = cv2.cvtColor(colours, cv2.COLOR_BGR2LAB).astype(np.int64)
    light = np.bincount((lab[..., 0] * _LIGHT // 256).ravel(), weights=weight.ravel(), minlength=_LIGHT)
    a, b = (np.clip((lab[..., k] - 128 + 45) * _HUES // 90, 0, _HUES - 1) for k in (1, 2))
    hue = np.bincount((a * _HUES + b).ravel(), weights=weight.ravel(), minlength=_HUES**2)
    return np.concatenate([0.5 * np.sqrt(light / light.sum()), 0.7 * np.sqrt(hue / hue.sum())])


def _edges(colours: NDArray[Any], square: NDArray[Any]) -> NDArray[np.float64]:
    """Orientations of gradients (8 over a half turn) in 4x4 cells, of length 1 together; contrast with what is
    outside the mask counts as its outline, which the other blocks tell, and is left out."""
    grey = cv2.cvtColor(colours, cv2.COLOR_BGR2GRAY).astype(np.float32)
    dx = cv2.Sobel(grey, cv2.CV_32F, 1, 0, ksize=3)
    dy = cv2.Sobel(grey, cv2.CV_32F, 0, 1, ksize=3)
    whole = cv2.erode((square > 0.5).astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    strength = np.hypot(dx, dy) * whole
    turn = np.floor(np.arctan2(dy, dx) / np.pi * _TURNS + 0.5).astype(np.int64) % _TURNS
    v, u = np.mgrid[:_SIDE, :_SIDE] * _CELLS // _SIDE
    bins = ((v * _CELLS + u) * _TURNS + turn).ravel()
    found = np.bincount(bins, weights=strength.ravel().astype(np.float64), minlength=_CELLS**2 * _TURNS)
    found = np.sqrt(found)
    return np.asarray(0.8 * found / max(float(np.linalg.norm(found)), 1e-6))


def _shape(inside: Floats, frame: tuple[int, ...], window: tuple[slice, slice]) -> NDArray[np.float64]:
    """Aspect, fill, solidity, roundness, elongation, and which way it is elongated (two numbers)."""
    height, width = inside.shape
    filled = inside.astype(np.uint8)
    area = float(filled.sum())
    outlines, _ = cv2.findContours(filled, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    hull = cv2.convexHull(np.concatenate(outlines))
    around = sum(cv2.arcLength(each, closed=True) for each in outlines)
    solid = area / max(area, float(cv2.contourArea(hull)) + 0.5 * float(cv2.arcLength(hull, closed=True)))
    moments = cv2.moments(filled, binaryImage=True)
    xx, yy, xy = (moments[name] / area + 1 / 12 * (name != "mu11") for name in ("mu20", "mu02", "mu11"))
    spread = float(np.hypot(xx - yy, 2 * xy))
    elongation = spread / (xx + yy)
    turn = 0.5 * np.arctan2(2 * xy, xx - yy)
    return np.array(
        [
            np.log(width / height),
            2 * area / (width * height),
            2 * solid,
            np.log(max(around, 4.0) ** 2 / (4 * np.pi * area)),
            2 * elongation,
            elongation * np.cos(2 * turn),
            elongation * np.sin(2 * turn),
        ]
    )


class _Points:
    """The view in metres: levelled along gravity, over its ground where one is found."""

    def __init__(self, view: View) -> None:
        assert view.depth is not None  # noqa: S101 - asked before
        assert view.camera_matrix is not None  # noqa: S101
        self.depth, self.matrix = view.depth, view.camera_matrix
        self.known = np.isfinite(self.depth) & (self.depth > 0)
        down = np.array([0.0, 1.0, 0.0]) if view.gravity is None else view.gravity
        self.plane = self._ground(view.gravity)
        self.level = level_rotation(down if self.plane is None else -self.plane.normal)

    def _ground(self, gravity: NDArray[np.float64] | None) -> Plane | None:
        v, u = np.nonzero(self.known[::6, ::6])
        step = max(1, v.size // (2 * _POINTS))
        points = self._at(6 * v[::step], 6 * u[::step])
        return fit_ground_plane(points, gravity, inverse_depth_noise=_DISPARITY_NOISE / float(self.matrix[0, 0]))

    def _at(self, v: NDArray[np.intp], u: NDArray[np.intp]) -> NDArray[np.float64]:
        z = self.depth[v, u].astype(np.float64)
        x = (u - self.matrix[0, 2]) / self.matrix[0, 0] * z
        y = (v - self.matrix[1, 2]) / self.matrix[1, 1] * z
        return np.stack([x, y, z], axis=1)

    def metric(self, mask: Mask) -> NDArray[np.float64]:
        """Logarithms of metres, zeros where nothing is known; flags say which, and what the image border cuts."""
        out = np.zeros(_METRIC)
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        out[8:12] = (
            rows[0] <= 1,
            rows[-1] >= mask.shape[0] - 2,
            columns[0] <= 1,
            columns[-1] >= mask.shape[1] - 2,
        )
        out[8:12] *= 0.3
        v, u = np.nonzero(mask & self.known)
        if v.size < _LEAST_POINTS:
            return out
        step = max(1, v.size // _POINTS)
        points = self._at(v[::step], u[::step])
        levelled = points @ self.level.T
        x, y, z = levelled.T
        # Stray points of the matcher lie in front of or behind the instance, not in it.
        solid = np.abs(z - np.median(z)) < 3 * max(float(np.median(np.abs(z - np.median(z)))), 0.15)
        left, right = np.quantile(x[solid], (0.02, 0.98))
        near, far = np.quantile(z[solid], (0.05, 0.95))
        top, bottom = np.quantile(y[solid], (0.02, 0.98))
        distance = float(np.median(points[:, 2]))
        area = np.count_nonzero(mask) * distance**2 / (self.matrix[0, 0] * self.matrix[1, 1])
        out[0] = 0.5
        out[1:4] = np.log(np.maximum([bottom - top, right - left, far - near], 0.05))
        out[3] *= 0.4  # how deep it is is seen of the front only
        out[4] = 0.5 * np.log(max(float(area), 0.0025))
        if self.plane is not None:
            height = self.plane.height(points[solid])
            lowest, highest = np.quantile(height, (0.03, 0.98))
            out[5] = 0.5
            out[6] = np.log(max(float(highest), 0.05))
            out[7] = np.clip(float(lowest), -1, 3)
        return out
