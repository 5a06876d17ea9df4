"""Objects from stereo alone: what stands on the ground, is one piece in depth, and has the size of a label class.

No weights, no learning. Steps: the ground plane (gravity-guided) is removed; pixels above it whose inverse depth
changes no faster than a surface can are joined; pieces that stand together in the bird's-eye view are merged; pieces
too tall, too large or floating are background; sizes give class probabilities, solidity and free outlines the support
that scales them; colours and image edges move the outlines (`refinement`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.geometry.boxes3d import level_rotation
from pipeline.geometry.plane import fit_ground_plane
from pipeline.segmentation.base import ClassSpec, Instance, View
from pipeline.segmentation.components import SLOPE, surface_components
from pipeline.segmentation.evidence import extent, quantiles, rising, solidity, surroundings
from pipeline.segmentation.refinement import PAD, SURE, contested, outlined, refined
from pipeline.segmentation.size_prior import log_likelihoods, posterior, typical_size

Floats = NDArray[Any]
Mask = NDArray[np.bool_]

_MAX_WIDTH: Final = 800
"""Wider images are worked on at 1/n size, outlines included."""
_FARTHEST: Final = 1000.0
"""Metres: no stereo rig measures farther."""
_FILL: Final = (0.10, 0.35)
_FREE: Final = (0.55, 0.85)
_VISIBLE: Final = (0.0, 0.5)
_SOLID: Final = (0.72, 0.92)
_KNOWN: Final = (0.75, 0.95)
"""From where to where support rises from 0 to 1: with the share of the piece's rectangle in the image that it fills,
with the share of its outline behind which it is empty, with the part of its height that is seen, with how little is
missing from it once its gaps are closed, with the share of its pixels that have a depth. Measured: what is right on
the simulated street has 0.36, 0.79, 0.63, 0.90 and 0.95 or more; splinters of the structures of a real hall and of
real trees mostly less in one or the other, most of all in the fourth.
"""
_SMALL: Final = 2.0
"""Times min_pixels: what is much smaller finds little support."""
_BEHIND: Final = -2.0
_GROUND: Final = -2.0
_WITHIN: Final = 0.5
"""Log-odds of a pixel being part of an object behind whose far side, on the ground, or within which the matcher puts
it; the last says little, because near an outline it puts what is behind there too."""
_AS_WELL: Final = 0.35
"""How much less likely one thing may be than each of two that touch each other, and still be what both are parts of."""


@dataclass(frozen=True)
class _Piece:
    """A candidate: its pixels (indices into the flat image), their rectangle in the image (u0, v0, u1, v1), and where
    they are in the levelled frame (low, high; metres)."""

    pixels: NDArray[np.intp]
    window: tuple[int, int, int, int]
    x: tuple[float, float]
    z: tuple[float, float]
    fit: float
    """Log-likelihood of the label class it fits best."""

    def touches(self, other: "_Piece", gap: float) -> bool:
        """Within `gap` metres of each other in the bird's-eye view (in depth: and the depth's own error)."""
        slack = gap + 0.006 * (self.z[0] + self.z[1]) ** 2 / 4
        return (
            self.x[0] - gap <= other.x[1]
            and other.x[0] - gap <= self.x[1]
            and self.z[0] - slack <= other.z[1]
            and other.z[0] - slack <= self.z[1]
        )


@dataclass(frozen=True)
class Geometric:
    """Segmenter "geometric".

    max_range: metres beyond which depth is not trusted. min_pixels: at work size. clearance: height above the ground
    where objects begin, at least; clearance_per_metre: … and per metre of distance, because depth errors lift far
    ground. gap: metres of free ground between two objects.
    """

    classes: tuple[ClassSpec, ...]
    models_folders: tuple[Path, ...] = ()
    name: str = "geometric"
    max_range: float = 16.0
    min_pixels: int = 90
    clearance: float = 0.12
    clearance_per_metre: float = 0.034
    gap: float = 0.10

    def segment(self, views: Sequence[View]) -> list[list[Instance]]:
        """Instances of each view, most confident first; none where there is no metric depth."""
        return [self._segment(view) for view in views]

    def _segment(self, view: View) -> list[Instance]:
        if view.depth is None or view.camera_matrix is None or not self.classes:
            return []
        step = -(-view.image.shape[1] // _MAX_WIDTH)
        depth = view.depth[::step, ::step]
        image = view.image
        if step > 1:
            image = np.asarray(cv2.resize(image, depth.shape[::-1], interpolation=cv2.INTER_AREA), np.uint8)
        matrix = view.camera_matrix / np.array([[step], [step], [1]])
        valid = (depth > 0.2) & (depth < _FARTHEST)
        placed = self._place(depth, valid, matrix, view.gravity)
        if placed is None:
            return []
        x, z, height = placed
        tallest = max((size[0] for each in self.classes if (size := typical_size(each))), default=2.0)
        low = np.maximum(self.clearance, self.clearance_per_metre * depth)
        standing = valid & (height > low) & (depth < self.max_range)
        standing &= ~self._structures(x, z, height, standing, 1.45 * tallest)
        standing &= height < 1.45 * tallest
        pieces = self._merged(self._pieces(depth, standing, x, z, height, float(matrix[0, 0])), x, z, height, depth)
        taken = np.zeros(depth.shape, np.int32)
        for number, piece in enumerate(pieces, start=1):
            taken.reshape(-1)[piece.pixels] = number
        scored = {
            number: scores
            for number, piece in enumerate(pieces, start=1)
            if (scores := self._scored(piece, taken == number, x, z, height, depth, low)) is not None
        }
        taken[~np.isin(taken, list(scored))] = 0
        odds = contested(
            [self._odds(each, taken, standing, image, depth, height, x, z, pieces[each - 1]) for each in scored]
        )
        found = [
            replace(instance, objectness=support)
            for each, (scores, support, class_id) in zip(odds, scored.values(), strict=True)
            if (instance := outlined(each, view.image.shape[1::-1], class_id, scores.get(class_id, 0.0), scores))
            is not None
        ]
        return sorted(found, key=lambda each: -each.confidence)

    def _place(
        self, depth: Floats, valid: Mask, matrix: NDArray[np.float64], gravity: NDArray[np.float64] | None
    ) -> tuple[Floats, Floats, Floats] | None:
        """Levelled x (right), z (ahead) and height above the ground of every pixel (H, W), or None without a ground."""
        h, w = depth.shape
        ray_x = ((np.arange(w) - matrix[0, 2]) / matrix[0, 0]).astype(np.float32)[None]
        ray_y = ((np.arange(h) - matrix[1, 2]) / matrix[1, 1]).astype(np.float32)[:, None]
        z = np.where(valid, depth, 0).astype(np.float32)
        points = np.stack([ray_x * z, ray_y * z, z], axis=2)
        sample = points[::5, ::5][valid[::5, ::5] & (depth[::5, ::5] < self.max_range)]
        plane = fit_ground_plane(sample, gravity, inverse_depth_noise=0.5 * SLOPE / float(matrix[0, 0]))
        if plane is None:
            return None
        level = level_rotation(-plane.normal).astype(np.float32)
        across = points[..., 0] * level[0, 0] + points[..., 1] * level[0, 1] + points[..., 2] * level[0, 2]
        ahead = points[..., 0] * level[2, 0] + points[..., 1] * level[2, 1] + points[..., 2] * level[2, 2]
        up = plane.normal.astype(np.float32)
        height = points[..., 0] * up[0] + points[..., 1] * up[1] + points[..., 2] * up[2] + np.float32(plane.offset)
        return across, ahead, height

    def _structures(self, x: Floats, z: Floats, height: Floats, standing: Mask, limit: float) -> Mask:
        """Pixels (H, W) over ground cells that hold mostly things taller than `limit`: walls, trunks, poles."""
        cell = 0.25
        i = np.clip((z / cell).astype(np.int32), 0, 255)
        j = np.clip((x / cell + 256).astype(np.int32), 0, 511)
        flat = i * 512 + j
        tall = np.bincount(flat[standing & (height > limit)], minlength=256 * 512)
        some = np.bincount(flat[standing], minlength=256 * 512)
        blurred = [cv2.blur(each.reshape(256, 512).astype(np.float32), (3, 3)).ravel() for each in (tall, some)]
        high = (blurred[0] > 3) & (blurred[0] > 0.25 * blurred[1])
        return np.asarray(high[flat] & standing, dtype=bool)

    def _pieces(
        self, depth: Floats, standing: Mask, x: Floats, z: Floats, height: Floats, focal: float
    ) -> list[_Piece]:
        """Connected components over pixels whose inverse depth goes on."""
        components, _ = surface_components(depth, standing, focal)
        labels = components[standing]
        sizes = np.bincount(labels, minlength=1)
        flat = np.flatnonzero(standing)
        order = np.argsort(labels, kind="stable")
        starts = np.concatenate([[0], np.cumsum(sizes)])
        pieces = []
        for label in np.flatnonzero(sizes >= max(12, self.min_pixels // 5)):
            pixels = flat[order[starts[label] : starts[label + 1]]]
            pieces.append(self._piece(pixels, x, z, height))
        return pieces

    def _piece(self, pixels: NDArray[np.intp], x: Floats, z: Floats, height: Floats) -> _Piece:
        some = pixels[:: max(1, pixels.size // 1500)]
        px, pz, ph = x.ravel()[some], z.ravel()[some], height.ravel()[some]
        (x_low, x_high), (z_low, z_high) = quantiles(px, (0.03, 0.97)), quantiles(pz, (0.05, 0.95))
        rows, columns = np.divmod(pixels, x.shape[1])
        window = int(columns.min()), int(rows.min()), int(columns.max()), int(rows.max())
        across, along = extent(px, pz)
        border = window[0] <= 2 or window[2] >= x.shape[1] - 3
        fit = log_likelihoods(
            self.classes,
            height=quantiles(ph, (0.985,))[0],
            across=across,
            along=along,
            cut_above=window[1] <= 1,
            cut_aside=border,
        )
        return _Piece(pixels, window, (x_low, x_high), (z_low, z_high), float(fit.max()))

    def _merged(self, pieces: list[_Piece], x: Floats, z: Floats, height: Floats, depth: Floats) -> list[_Piece]:
        """Put together what fell apart: a neighbour joins where the whole fits a class as well as the parts.

        Splinters join what they stand at unless that spoils it. What stays too small is dropped.
        """
        waiting = sorted(pieces, key=lambda piece: -piece.pixels.size)
        whole: list[_Piece] = []
        while waiting:
            piece = waiting.pop(0)
            rest: list[_Piece] = []
            grown = True
            while grown:
                grown = False
                for other in waiting:
                    if not self._neighbours(piece, other, depth):
                        rest.append(other)
                        continue
                    both = self._piece(np.concatenate([piece.pixels, other.pixels]), x, z, height)
                    splinter = other.pixels.size < 0.25 * piece.pixels.size
                    better = both.fit > max(piece.fit, other.fit) + 0.05
                    if better or both.fit > (piece.fit if splinter else max(piece.fit, other.fit)) - _AS_WELL:
                        piece, grown = both, True
                    else:
                        rest.append(other)
                waiting, rest = rest, []
            whole.append(piece)
        return [piece for piece in whole if piece.pixels.size >= self.min_pixels]

    def _neighbours(self, piece: _Piece, other: _Piece, depth: Floats) -> bool:
        """Side by side in the image and on the ground; or only something nearer is between them."""
        a, b = piece.window, other.window
        across = max(a[0], b[0]) - min(a[2], b[2])
        down = max(a[1], b[1]) - min(a[3], b[3])
        if down > 8:
            return False
        if across <= 8:
            return piece.touches(other, self.gap)
        width = max(a[2] - a[0], b[2] - b[0])
        if across > 2 * width or not piece.touches(other, 2.0):
            return False
        far = min(piece.z[0], other.z[0])
        if abs(piece.z[0] - other.z[0]) > 0.1 * far + 0.2:
            return False
        row = (max(a[1], b[1]) + min(a[3], b[3])) // 2
        between = depth[row, min(a[2], b[2]) + 1 : max(a[0], b[0])]
        known = between[np.isfinite(between)]
        return known.size > 0.4 * between.size and bool(np.count_nonzero(known < 0.93 * far) > 0.85 * known.size)

    def _scored(
        self, piece: _Piece, mask: Mask, x: Floats, z: Floats, height: Floats, depth: Floats, low: Floats
    ) -> tuple[dict[int, float], float, int] | None:
        """Class probabilities, support and class of a piece; None for background.

        Support is the evidence that this is all of one thing that stands free, apart from its size: a splinter of a
        wall may have any size. The probabilities are multiplied by it.
        """
        px, pz, ph = (each.ravel()[piece.pixels].astype(np.float64) for each in (x, z, height))
        top, bottom = quantiles(ph, (0.985, 0.03))
        left, upper, right, lower = piece.window
        pad = 16
        window = (slice(max(upper - pad, 0), lower + pad + 1), slice(max(left - pad, 0), right + pad + 1))
        around = surroundings(mask[window], depth[window], height[window] > low[window])
        if bottom > max(0.35 * top, 0.5) and not around.below and lower < mask.shape[0] - 3:
            return None  # nothing carries it: a tree's crown, a sign
        across, along = extent(px, pz)
        cut_above = upper <= 1
        cut_aside = left <= 2 or right >= mask.shape[1] - 3 or around.aside
        values = log_likelihoods(
            self.classes,
            height=float(top),
            across=float(across),
            along=float(along),
            cut_above=cut_above,
            cut_aside=cut_aside,
        )
        share = posterior(values)
        best = int(np.argmax(share))
        # Of nearly all of it: a few stray pixels may lie far off.
        spans = [quantiles(each, (0.015, 0.985)) for each in np.divmod(piece.pixels, x.shape[1])]
        fill = piece.pixels.size / ((spans[0][1] - spans[0][0] + 1) * (spans[1][1] - spans[1][0] + 1))
        support = rising(fill, _FILL) * rising(around.free, _FREE) * rising((top - bottom) / top, _VISIBLE)
        solid, known = solidity(mask[window], depth[window])
        support *= rising(solid, _SOLID) * rising(known, _KNOWN)
        support *= float(1 - np.exp(-piece.pixels.size / (_SMALL * self.min_pixels)))
        # Where the size of a class is not known, only its name can be: something else may have to tell it.
        sized = [bool(typical_size(each)) for each in self.classes]
        likely = 1.0 if any(sized) and not all(sized) else share[best]
        if likely * support < 0.02:
            return None
        scores = {
            each.id: round(float(value) * support, 6)
            for each, value in zip(self.classes, share, strict=True)
            if value > 1e-4
        }
        return scores, round(support, 4), self.classes[best].id

    def _odds(
        self,
        number: int,
        taken: NDArray[np.int32],
        standing: Mask,
        image: NDArray[np.uint8],
        depth: Floats,
        height: Floats,
        x: Floats,
        z: Floats,
        piece: _Piece,
    ) -> Floats:
        """Log-odds (H, W) of being the piece, which gets its feet, loses its holes, and is drawn to image edges."""
        rows, columns = np.divmod(piece.pixels, depth.shape[1])
        v0, v1 = max(int(rows.min()) - PAD, 0), min(int(rows.max()) + PAD, depth.shape[0])
        u0, u1 = max(int(columns.min()) - PAD, 0), min(int(columns.max()) + PAD, depth.shape[1])
        window = (slice(v0, v1), slice(u0, u1))
        mine = taken[window] == number
        others = (taken[window] > 0) & ~mine
        margin = 0.05 + 0.004 * (piece.z[0] + piece.z[1]) ** 2 / 4
        # Between the clearance and the ground stand the feet, within the outline on the ground.
        feet = (height[window] > np.maximum(0.035, 0.008 * depth[window])) & (height[window] < self.clearance + 0.25)
        feet &= (z[window] > piece.z[0] - margin) & (z[window] < piece.z[1] + margin)
        feet &= (x[window] > piece.x[0] - 0.08) & (x[window] < piece.x[1] + 0.08)
        # Splinters too small to be pieces: a head of which the matcher is not sure.
        loose = standing[window] & (z[window] > piece.z[0] - 3 * margin) & (z[window] < piece.z[1] + 3 * margin)
        loose &= (x[window] > piece.x[0] - 0.15) & (x[window] < piece.x[1] + 0.15) & ~others
        body = (mine | loose | (feet & ~others)).astype(np.uint8)
        body = cv2.morphologyEx(body, cv2.MORPH_CLOSE, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (7, 7)))
        body = cv2.morphologyEx(body, cv2.MORPH_OPEN, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (3, 3)))
        outlines, _ = cv2.findContours(body, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        kept = [each for each in outlines if cv2.contourArea(each) > 0.04 * piece.pixels.size]
        body = cv2.drawContours(np.zeros_like(body), kept, -1, 1, cv2.FILLED)
        known = np.isfinite(depth[window])
        ground = known & (np.abs(height[window]) < 0.03 + 0.004 * depth[window])
        evidence = np.float32(_BEHIND) * (depth[window] > piece.z[1] + 3 * margin) + np.float32(_GROUND) * ground
        evidence += np.float32(_WITHIN) * (mine | loose)
        odds = np.full(depth.shape, -SURE, np.float32)
        odds[window] = refined(image[window], (body > 0) & ~others, evidence, known)
        return odds
