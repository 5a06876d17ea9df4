"""Objects from stereo alone: what stands on the ground, is one piece in depth, and has the size of a label class.

No weights, no learning. Steps: the ground plane (gravity-guided) is removed; pixels above it whose inverse depth
changes no faster than a surface can are joined; pieces that stand together in the bird's-eye view are merged; pieces
too tall, too large or floating are background; sizes give class probabilities; outlines are drawn to image edges by a
guided filter (He, Sun, Tang 2010).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from pipeline.geometry.boxes3d import level_rotation
from pipeline.geometry.plane import fit_ground_plane
from pipeline.segmentation.base import ClassSpec, Instance, View
from pipeline.segmentation.size_prior import log_likelihoods, posterior, typical_size

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]

_MAX_WIDTH: Final = 800
"""Wider images are worked on at 1/n size, outlines included."""
_SLOPE: Final = 2.0
"""How much inverse depth may change from one pixel to the next on one surface, times the focal length, 1/m: a plane
that passes the camera at half a metre."""
_LAGS: Final = ((0, 1), (1, 0), (0, 2), (2, 0), (0, 3), (3, 0))
"""Pixels compared: neighbours, and over gaps of one and two pixels (holes of the matcher)."""


@dataclass(frozen=True)
class _Piece:
    """A candidate: pixels (indices into the flat image) and where they are in the levelled frame."""

    pixels: NDArray[np.intp]
    x: tuple[float, float]
    z: tuple[float, float]

    def touches(self, other: "_Piece", gap: float) -> bool:
        """The bird's-eye rectangles are within `gap` metres of each other (in depth: and the depth's own error)."""
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
    where objects begin. gap: metres of free ground between two objects.
    """

    classes: tuple[ClassSpec, ...]
    models_folders: tuple[Path, ...] = ()
    name: str = "geometric"
    max_range: float = 16.0
    min_pixels: int = 90
    clearance: float = 0.12
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
        low = np.maximum(self.clearance, 0.022 * depth)
        standing = valid & (height > low) & (depth < self.max_range)
        standing &= ~self._structures(x, z, height, standing, 1.45 * tallest)
        standing &= height < 1.45 * tallest
        pieces = self._merged(self._pieces(depth, standing, x, z, float(matrix[0, 0])))
        taken = np.zeros(depth.shape, np.int32)
        for number, piece in enumerate(pieces, start=1):
            taken.reshape(-1)[piece.pixels] = number
        found = []
        for number, piece in enumerate(pieces, start=1):
            scored = self._scored(piece, taken == number, x, z, height, depth)
            if scored is None:
                continue
            scores, confidence, class_id = scored
            mask = self._outline(number, taken, image, depth, height, x, z, piece)
            if step > 1:
                soft = cv2.resize(mask.astype(np.float32), view.image.shape[1::-1], interpolation=cv2.INTER_LINEAR)
                mask = soft > 0.5
            if mask.any():
                found.append(Instance(mask, class_id, confidence, scores))
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
        sample = points[::3, ::3][valid[::3, ::3] & (depth[::3, ::3] < self.max_range)]
        plane = fit_ground_plane(sample, gravity, inverse_depth_noise=0.5 * _SLOPE / float(matrix[0, 0]))
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

    def _pieces(self, depth: Floats, standing: Mask, x: Floats, z: Floats, focal: float) -> list[_Piece]:
        """Connected components over pixels whose inverse depth goes on."""
        node = np.full(depth.shape, -1, np.int32)
        count = int(standing.sum())
        node[standing] = np.arange(count)
        inverse = np.where(standing, 1 / np.maximum(depth, 0.2), 9).astype(np.float32)
        rows, columns = [], []
        for dv, du in _LAGS:
            lag = max(dv, du)
            a, b = (slice(None, -dv or None), slice(None, -du or None)), (slice(dv, None), slice(du, None))
            jump = np.abs(inverse[a] - inverse[b])
            joined = (jump < _SLOPE / focal * (0.5 + 0.5 * lag)) & standing[a] & standing[b]
            rows.append(node[a][joined])
            columns.append(node[b][joined])
        i, j = np.concatenate(rows), np.concatenate(columns)
        graph = coo_array((np.ones(i.size, np.int8), (i, j)), shape=(count, count))
        _, labels = connected_components(graph, directed=False)
        sizes = np.bincount(labels, minlength=1)
        flat = np.flatnonzero(standing)
        order = np.argsort(labels, kind="stable")
        starts = np.concatenate([[0], np.cumsum(sizes)])
        pieces = []
        for label in np.flatnonzero(sizes >= max(12, self.min_pixels // 5)):
            pixels = flat[order[starts[label] : starts[label + 1]]]
            pieces.append(self._piece(pixels, x, z))
        return pieces

    def _piece(self, pixels: NDArray[np.intp], x: Floats, z: Floats) -> _Piece:
        x_low, x_high = np.percentile(x.ravel()[pixels], (3, 97))
        z_low, z_high = np.percentile(z.ravel()[pixels], (5, 95))
        return _Piece(pixels, (float(x_low), float(x_high)), (float(z_low), float(z_high)))

    def _merged(self, pieces: list[_Piece]) -> list[_Piece]:
        """Small pieces join the piece they stand with (a head cut off by a hole); then the too small are dropped."""
        pieces = sorted(pieces, key=lambda piece: -piece.pixels.size)
        whole: list[_Piece] = []
        for piece in pieces:
            host = next((i for i, other in enumerate(whole) if self._belongs(piece, other)), None)
            if host is None:
                whole.append(piece)
                continue
            other = whole[host]
            x = min(piece.x[0], other.x[0]), max(piece.x[1], other.x[1])
            z = min(piece.z[0], other.z[0]), max(piece.z[1], other.z[1])
            whole[host] = _Piece(np.concatenate([other.pixels, piece.pixels]), x, z)
        return [piece for piece in whole if piece.pixels.size >= self.min_pixels]

    def _belongs(self, piece: _Piece, other: _Piece) -> bool:
        middle = (piece.x[0] + piece.x[1]) / 2
        above = other.x[0] - self.gap < middle < other.x[1] + self.gap
        return above and piece.pixels.size < 0.6 * other.pixels.size and piece.touches(other, self.gap)

    def _scored(
        self, piece: _Piece, mask: Mask, x: Floats, z: Floats, height: Floats, depth: Floats
    ) -> tuple[dict[int, float], float, int] | None:
        """Class probabilities, confidence and class of a piece; None for background."""
        px, pz, ph = (each.ravel()[piece.pixels].astype(np.float64) for each in (x, z, height))
        top, bottom = np.percentile(ph, 98.5), np.percentile(ph, 3)
        middle = np.array([np.median(px), np.median(pz)])
        if bottom > 0.45 * top and bottom > 0.6:
            return None  # nothing carries it: a tree's crown, a sign
        sight = middle / np.linalg.norm(middle)
        along = np.subtract(*np.percentile(px * sight[0] + pz * sight[1], (95, 5)))
        across = np.subtract(*np.percentile(px * sight[1] - pz * sight[0], (98.5, 1.5)))
        rows, columns = np.nonzero(mask)
        cut_above = bool(rows.min() <= 1)
        cut_aside = bool(columns.min() <= 2 or columns.max() >= mask.shape[1] - 3) or _hidden(mask, depth)
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
        confidence = float(share[best]) * float(1 - np.exp(-piece.pixels.size / (0.8 * self.min_pixels)))
        if confidence < 0.02:
            return None
        scores = {
            each.id: round(float(value), 6) for each, value in zip(self.classes, share, strict=True) if value > 1e-4
        }
        return scores, round(confidence, 6), self.classes[best].id

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
        body = ((mine | (feet & ~others))).astype(np.uint8)
        body = cv2.morphologyEx(body, cv2.MORPH_CLOSE, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (7, 7)))
        body = cv2.morphologyEx(body, cv2.MORPH_OPEN, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (3, 3)))
        outlines, _ = cv2.findContours(body, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        kept = [each for each in outlines if cv2.contourArea(each) > 0.04 * piece.pixels.size]
        body = cv2.drawContours(np.zeros_like(body), kept, -1, 1, cv2.FILLED)
        soft = guided_filter(image[window], body.astype(np.float32), radius=5, eps=3e-4)
        whole = np.zeros(depth.shape, bool)
        whole[window] = (soft > 0.5) & ~others
        return whole


def _hidden(mask: Mask, depth: Floats) -> bool:
    """Something nearer stands at the left or the right of the mask along a fifth of its height."""
    rows = np.flatnonzero(mask.any(axis=1))
    behind = float(np.nanmedian(depth[mask]))
    first = mask.argmax(axis=1)[rows]
    last = mask.shape[1] - 1 - mask[:, ::-1].argmax(axis=1)[rows]
    for columns in (np.maximum(first - 5, 0), np.minimum(last + 5, mask.shape[1] - 1)):
        beside = depth[rows, columns]
        if np.count_nonzero(beside < 0.9 * behind - 0.1) > 0.2 * rows.size:
            return True
    return False


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
