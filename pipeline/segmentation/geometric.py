"""Objects from stereo alone: what stands on the ground, is one piece in depth, and has the size of a label class.

No weights, no learning. Steps: the ground plane (gravity-guided) is removed; pixels above it whose inverse depth
changes no faster than a surface can are joined; pieces that stand together in the bird's-eye view are merged; pieces
too tall, too large or floating are background; sizes give class probabilities; outlines are drawn to image edges by a
guided filter (He, Sun, Tang 2010).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.geometry.boxes3d import level_rotation
from pipeline.geometry.plane import fit_ground_plane
from pipeline.segmentation.base import ClassSpec, Instance, View
from pipeline.segmentation.components import SLOPE, surface_components
from pipeline.segmentation.size_prior import log_likelihoods, posterior, typical_size

Floats = NDArray[Any]
Mask = NDArray[np.bool_]

_MAX_WIDTH: Final = 800
"""Wider images are worked on at 1/n size, outlines included."""
_FILL: Final = (0.10, 0.35)
_FREE: Final = (0.55, 0.85)
_VISIBLE: Final = (0.0, 0.5)
"""From where to where support rises from 0 to 1: with the share of the piece's rectangle in the image that it fills,
with the share of its outline behind which it is empty, with the part of its height that is seen. Measured: what is
right on the simulated street has 0.36, 0.79 and 0.63 or more; splinters of the structures of a real hall mostly less.
"""
_AS_WELL: Final = 0.35
"""How much less likely one thing may be than each of two that touch each other, and still be what both are parts of."""
_UNKNOWN: Final = 0.15
_UNKNOWN_FREE: Final = 0.7
"""Of an outline without any depth around it, this share is held to be free; with the weight of such a share."""


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
        image = view.image[::step, ::step]
        matrix = view.camera_matrix / np.array([[step], [step], [1]])
        valid = np.isfinite(depth) & (depth > 0.2)
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
        found = []
        for number, piece in enumerate(pieces, start=1):
            scored = self._scored(piece, taken == number, x, z, height, depth, low)
            if scored is None:
                continue
            scores, support, class_id = scored
            mask = self._outline(number, taken, image, depth, height, x, z, piece)
            if step > 1:
                soft = cv2.resize(mask.astype(np.float32), view.image.shape[1::-1], interpolation=cv2.INTER_LINEAR)
                mask = soft > 0.5
            if mask.any():
                found.append(Instance(mask, class_id, scores[class_id], scores, quality=round(support, 4)))
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
        across, along = _extent(px, pz)
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
        around = _surroundings(mask[window], depth[window], height[window] > low[window])
        if bottom > max(0.35 * top, 0.5) and not around.below and lower < mask.shape[0] - 3:
            return None  # nothing carries it: a tree's crown, a sign
        across, along = _extent(px, pz)
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
        fill = piece.pixels.size / ((right - left + 1) * (lower - upper + 1))
        support = _rising(fill, _FILL) * _rising(around.free, _FREE) * _rising((top - bottom) / top, _VISIBLE)
        support *= float(1 - np.exp(-piece.pixels.size / (0.8 * self.min_pixels)))
        if share[best] * support < 0.02:
            return None
        scores = {
            each.id: round(float(value) * support, 6)
            for each, value in zip(self.classes, share, strict=True)
            if value > 1e-4
        }
        return scores, support, self.classes[best].id

    def _outline(
        self,
        number: int,
        taken: NDArray[np.int32],
        image: NDArray[np.uint8],
        depth: Floats,
        height: Floats,
        x: Floats,
        z: Floats,
        piece: _Piece,
    ) -> Mask:
        """The piece with its feet and without its holes, drawn to the edges of the image."""
        rows, columns = np.divmod(piece.pixels, depth.shape[1])
        pad = 12
        v0, v1 = max(int(rows.min()) - pad, 0), min(int(rows.max()) + 2 * pad, depth.shape[0])
        u0, u1 = max(int(columns.min()) - pad, 0), min(int(columns.max()) + pad, depth.shape[1])
        window = (slice(v0, v1), slice(u0, u1))
        mine = taken[window] == number
        others = (taken[window] > 0) & ~mine
        margin = 0.05 + 0.004 * (piece.z[0] + piece.z[1]) ** 2 / 4
        # Between the clearance and the ground stand the feet, within the outline on the ground.
        feet = (height[window] > np.maximum(0.035, 0.008 * depth[window])) & (height[window] < self.clearance + 0.25)
        feet &= (z[window] > piece.z[0] - margin) & (z[window] < piece.z[1] + margin)
        feet &= (x[window] > piece.x[0] - 0.08) & (x[window] < piece.x[1] + 0.08)
        body = (mine | (feet & ~others)).astype(np.uint8)
        body = cv2.morphologyEx(body, cv2.MORPH_CLOSE, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (7, 7)))
        body = cv2.morphologyEx(body, cv2.MORPH_OPEN, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (3, 3)))
        outlines, _ = cv2.findContours(body, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        kept = [each for each in outlines if cv2.contourArea(each) > 0.04 * piece.pixels.size]
        body = cv2.drawContours(np.zeros_like(body), kept, -1, 1, cv2.FILLED)
        soft = guided_filter(image[window], body.astype(np.float32), radius=5, eps=3e-4)
        whole = np.zeros(depth.shape, bool)
        whole[window] = (soft > 0.5) & ~others
        return whole


def _rising(value: float, limits: tuple[float, float]) -> float:
    """0 below the first limit, 1 above the second."""
    return float(np.clip((value - limits[0]) / (limits[1] - limits[0]), 0, 1))


def _extent(x: Floats, z: Floats) -> tuple[float, float]:
    """Metres across and along the line of sight to the middle of points (n,)."""
    sight_x, sight_z = quantiles(x, (0.5,))[0], quantiles(z, (0.5,))[0]
    distance = float(np.hypot(sight_x, sight_z))
    sight_x, sight_z = sight_x / distance, sight_z / distance
    back, front = quantiles(x * sight_x + z * sight_z, (0.95, 0.05))
    right, left = quantiles(x * sight_z - z * sight_x, (0.985, 0.015))
    return right - left, back - front


def quantiles(values: Floats, shares: Sequence[float]) -> list[float]:
    """As `np.quantile` gives them; a tenth of its time on a thousand values."""
    ordered = np.sort(values)
    found = []
    for share in shares:
        place = share * (ordered.size - 1)
        below = int(place)
        low, high = float(ordered[below]), float(ordered[min(below + 1, ordered.size - 1)])
        found.append(low + (high - low) * (place - below))
    return found


@dataclass(frozen=True, slots=True)
class _Surroundings:
    """aside, below: whether something nearer stands in front of a piece there. free: share of its outline (above the
    ground, where a depth is known) behind which it is empty; the rest goes on at the depth of the piece."""

    aside: bool
    below: bool
    free: float


def _surroundings(mask: Mask, depth: Floats, standing: Mask) -> _Surroundings:
    """Compare the depth a few pixels around (beside: along a fifth of the height) with the mask's."""
    behind = 0.92 * float(np.nanmedian(depth[mask])) - 0.1
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    first = mask.argmax(axis=1)[rows]
    last = mask.shape[1] - 1 - mask[:, ::-1].argmax(axis=1)[rows]
    lowest = mask.shape[0] - 1 - mask[::-1].argmax(axis=0)[columns]
    left, right = depth[rows, np.maximum(first - 6, 0)], depth[rows, np.minimum(last + 6, mask.shape[1] - 1)]
    aside = max(np.count_nonzero(left < behind), np.count_nonzero(right < behind)) > 0.2 * rows.size
    below = False
    for drop in (7, 14):  # right below the rim of what is in front the matcher often has no answer
        under = depth[np.minimum(lowest + drop, mask.shape[0] - 1), columns]
        known = np.count_nonzero(np.isfinite(under))
        below |= bool(known > 0.25 * columns.size and np.count_nonzero(under < behind) > 0.5 * known)
    inside = mask.astype(np.float32)
    count = cv2.boxFilter(inside, -1, (17, 17), normalize=False)
    total = cv2.boxFilter(np.where(mask, depth, 0).astype(np.float32), -1, (17, 17), normalize=False)
    near = np.asarray(total / np.maximum(count, 1), dtype=np.float32)
    ring = (count > 0) & (cv2.dilate(inside, np.ones((5, 5), np.uint8)) == 0)
    margin = 0.25 + 0.006 * near**2
    farther = np.count_nonzero(ring & (depth > near + margin))
    same = np.count_nonzero(ring & standing & (np.abs(depth - near) <= margin))
    free = (farther + _UNKNOWN_FREE * _UNKNOWN * ring.sum()) / (farther + same + _UNKNOWN * ring.sum() + 1e-9)
    return _Surroundings(bool(aside or below), bool(below), float(free))


def guided_filter(image: NDArray[np.uint8], values: Floats, radius: int, eps: float) -> Floats:
    """`values` (H, W) smoothed along the edges of `image` (uint8 BGR): He, Sun, Tang, "Guided Image Filtering", 2010.

    The colour guide of their section 3.4, with its 3x3 systems solved in closed form.
    """
    side = (2 * radius + 1, 2 * radius + 1)

    def mean(value: Floats) -> Floats:
        return np.asarray(cv2.boxFilter(value, -1, side, borderType=cv2.BORDER_REFLECT), dtype=np.float32)

    guide = image.astype(np.float32) / 255
    mean_i, mean_p = mean(guide), mean(values)
    cov_ip = mean(guide * values[..., None]) - mean_i * mean_p[..., None]
    b, g, r = cv2.split(guide)
    mb, mg, mr = cv2.split(mean_i)
    bb, gg, rr = mean(b * b) - mb * mb + eps, mean(g * g) - mg * mg + eps, mean(r * r) - mr * mr + eps
    bg, br, gr = mean(b * g) - mb * mg, mean(b * r) - mb * mr, mean(g * r) - mg * mr
    # Adjugate of the symmetric covariance.
    c00, c01, c02 = gg * rr - gr * gr, br * gr - bg * rr, bg * gr - br * gg
    c11, c12, c22 = bb * rr - br * br, bg * br - bb * gr, bb * gg - bg * bg
    det = bb * c00 + bg * c01 + br * c02
    x, y, z = cv2.split(cov_ip)
    a = np.stack([c00 * x + c01 * y + c02 * z, c01 * x + c11 * y + c12 * z, c02 * x + c12 * y + c22 * z], axis=2)
    a /= det[..., None]
    offset = mean_p - (a * mean_i).sum(axis=2)
    return np.asarray((mean(a) * guide).sum(axis=2) + mean(offset), dtype=np.float32)
