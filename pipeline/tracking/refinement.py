"""Boxes refined over a whole track: a thing does not change its size, and moves smoothly, mostly the way it faces.

Offline, one track at a time, on levelled ground and in a world that stands still (the camera's own motion taken out):

1. The heading is that of the motion where there is one; what stands or crawls keeps one heading, the one its outlines
   fit best, told from its opposite by the motion or by most frames.
2. The size is the one that fits all outlines best, with the class's typical size as a prior. A side that is cut off by
   the image border or by something nearer says "at least", no more.
3. Given size and heading, each outline says where the box stands: its seen faces the distance, its ends the direction.
4. These places, each as uncertain as stereo is along and across the ray, are smoothed over time.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pipeline.geometry.outline import Outline, Outlines, is_rounded, place
from pipeline.tracking.smoothing import Path, smooth

Array = NDArray[np.float64]
Size = tuple[float, float, float]

_PASSES: Final = 2
_SIZE_FRAMES: Final = 24
"""Frames, evenly taken, from which size and heading are worked out."""
_INDEPENDENT: Final = 3
"""Frames whose errors are as many independent ones: neighbours see the same side with the same error."""
_TYPICAL_SPREAD: Final = 0.10
_LIMBS_SPREAD: Final = 0.16
_UNKNOWN_SPREAD: Final = 0.30
"""Standard deviation of a size's logarithm: of an instance of its class, of one with limbs, and of what has no typical
size."""
_END_PIXELS: Final = 2.0
_SURFACE_SHARE: Final = 0.75
"""Of the surface noise of one bearing: the error of the whole outline's distance."""
_CORRELATED: Final = np.array([3.0, 8.0])
"""Frames over which the error of a place across and along the ray stays about the same."""
_END_BIAS: Final = 0.6
"""Of the error of the ends: what is the same in all frames, because masks err alike."""
_FIXED_M: Final = 0.02
_GUESSED: Final = 0.3
"""Radians by which the axes of a box of one view are off."""
_MOVES: Final = 0.5
"""m/s from which what moves is held to face where it goes."""
_LEAST_WAY: Final = 0.4
"""Of its length (and in metres): how far it must have come for the motion to tell front from back."""
_WINDOW_S: Final = 0.5
_TURNS_WITHIN: Final = 0.5
"""Of its length: the way before and after a place over which the direction of the motion is read, at least."""


_MISSING, _LIMBS_MISSING = 0.7, 0.3
"""What it counts, against sticking out, that a box reaches farther than what is seen: parts of a thing are missed more
often than invented, of what has limbs still more."""


_STEPS: Final = (0.16, 0.08, 0.04, 0.02)
_AROUND: Final = np.array([[0, 0], [0, 1], [0, -1], [1, 0], [-1, 0], [1, 1], [-1, -1], [1, -1], [-1, 1]], float)
"""Of the search for a size: steps of its logarithm, and where each looks."""


@dataclass(frozen=True, slots=True)
class Sight:
    """One frame of a track. box: (7,) in the levelled camera of its frame, or None where there is none; outline: in the
    same frame of reference; whole: whether it is seen in full, neither truncated nor hidden."""

    frame: int
    box: Array | None
    outline: Outline | None
    whole: bool


@dataclass(frozen=True, slots=True)
class Standpoint:
    """Where the levelled camera of a frame is in the world: world = turn about +Y by `yaw`, then `shift` (x, z).

    slack: variance, m², by which it may have slipped against the frame before. time: seconds. floor: y of the ground,
    if it is known.
    """

    time: float
    yaw: float
    shift: tuple[float, float]
    slack: float
    floor: float | None


@dataclass(frozen=True, slots=True)
class Refined:
    """box: (7,) levelled camera of the frame; sigma: (7,), of x and z in the axes of that camera."""

    box: Array
    sigma: Array


def refine(
    sights: Sequence[Sight],
    standpoints: Sequence[Standpoint],
    typical_size_hwl: Size | None,
    end_sigma: float,
) -> list[Refined | None]:
    """The refined box of each sight; None for all where no sight has a box.

    sights and standpoints go together, in the order of time. end_sigma: radians, the error of an outline's end.
    """
    placed = [number for number, sight in enumerate(sights) if sight.box is not None]
    if not placed:
        return [None] * len(sights)
    return _Track(sights, standpoints, typical_size_hwl, end_sigma).refined()


class _Track:
    """The numbers of one track as arrays over its F sights."""

    def __init__(
        self,
        sights: Sequence[Sight],
        standpoints: Sequence[Standpoint],
        typical_size_hwl: Size | None,
        end_sigma: float,
    ) -> None:
        self.times = np.array([each.time for each in standpoints])
        self.turns = np.array([each.yaw for each in standpoints])
        self.shifts = np.array([each.shift for each in standpoints])
        self.slack = np.array([each.slack for each in standpoints])[1:]
        self.floors = np.array([np.nan if each.floor is None else each.floor for each in standpoints])
        self.boxes = np.array([np.full(7, np.nan) if each.box is None else each.box for each in sights])
        self.boxed = np.isfinite(self.boxes).all(axis=1)
        self.whole = np.array([each.whole for each in sights]) & self.boxed
        self.viewed = np.array(
            [n for n, each in enumerate(sights) if each.outline is not None and each.box is not None]
        )
        self.views = (
            Outlines.of([o for n in self.viewed if (o := sights[n].outline) is not None]) if len(self.viewed) else None
        )
        self.end_sigma = end_sigma
        self.height, self.height_sigma = self._height(typical_size_hwl)
        width, length = np.median(self.boxes[self.boxed][:, 4:6], axis=0)
        self.slender = is_rounded(self.height, width, length)
        self.missing = _LIMBS_MISSING if self.slender else _MISSING
        best = self.boxes[self.whole if self.whole.any() else self.boxed]
        usual = np.median(best[:, 4:6], axis=0) if typical_size_hwl is None else np.array(typical_size_hwl[1:])
        self.usual = np.log(usual)
        known = _LIMBS_SPREAD if self.slender else _TYPICAL_SPREAD
        self.spread = _UNKNOWN_SPREAD if typical_size_hwl is None else known
        picked = np.unique(np.linspace(0, max(len(self.viewed) - 1, 0), _SIZE_FRAMES).astype(np.intp))
        self.picked = picked if len(self.viewed) else np.zeros(0, np.intp)

    def refined(self) -> list[Refined | None]:
        size, size_sigma = self.usual.copy(), np.full(2, self.spread)
        measured, precisions = self._from_boxes()
        path = smooth(self.times, measured, precisions, self.slack)
        yaws, yaw_sigma = self._headings(path, size)
        for _ in range(_PASSES if self.views is not None else 0):
            size, size_sigma = self._sized(yaws)
            measured, precisions = self._from_outlines(size, yaws)
            path = smooth(self.times, measured, precisions, self.slack)
            yaws, yaw_sigma = self._headings(path, size)
        if self.views is None:
            size = np.log(np.median(self.boxes[self.boxed][:, 4:6], axis=0))
        return self._results(path, yaws, yaw_sigma, np.exp(size), np.exp(size) * size_sigma)

    def _height(self, typical: Size | None) -> tuple[float, float]:
        seen = self.boxes[self.boxed, 3]
        if self.whole.any():
            these = self.boxes[self.whole, 3]
            number = min(len(these), _INDEPENDENT)
            middle = float(np.median(these))
            sigma = 0.03 + 1.5 * float(np.median(np.abs(these - middle))) / np.sqrt(number)
            if typical is None:
                return middle, sigma
            usual = self.spread_of(typical[0])
            weight = usual**2 / (usual**2 + sigma**2)
            return weight * middle + (1 - weight) * typical[0], float(np.hypot(sigma * weight, usual * (1 - weight)))
        if typical is None:
            return float(np.quantile(seen, 0.8)), 0.2 * float(np.quantile(seen, 0.8))
        return max(typical[0], min(float(np.quantile(seen, 0.8)), 1.35 * typical[0])), self.spread_of(typical[0])

    @staticmethod
    def spread_of(usual: float) -> float:
        return _TYPICAL_SPREAD * usual

    def _to_world(self, rows: NDArray[np.intp], places: Array) -> Array:
        cosine, sine = np.cos(self.turns[rows]), np.sin(self.turns[rows])
        x, z = places.T
        return np.asarray(np.stack([cosine * x + sine * z, -sine * x + cosine * z], axis=1) + self.shifts[rows])

    def _from_boxes(self) -> tuple[Array, Array]:
        """Places in the world (F, 2) of the boxes frame by frame, and their precisions (F, 2, 2)."""
        rows = np.flatnonzero(self.boxed)
        places = self.boxes[rows][:, (0, 2)]
        distance = np.hypot(*places.T)
        sigma = np.stack([0.05 + 0.01 * distance, 0.05 + 0.005 * distance**2], axis=1)
        return self._measured(rows, places, sigma)

    def _from_outlines(self, size: Array, yaws: Array) -> tuple[Array, Array]:
        assert self.views is not None  # noqa: S101 - the caller has seen to it
        width, length = np.exp(size)
        rows, views = self.viewed, self.views
        many = np.ones(len(rows))
        placed = place(
            views,
            width * many,
            length * many,
            yaws[rows] - self.turns[rows],
            self.end_sigma,
            self.missing,
            rounded=self.slender,
        )
        distance = np.hypot(*placed.centres.T)
        along = _FIXED_M + _SURFACE_SHARE * views.per_metre * distance**2
        across = (
            _FIXED_M
            + self.end_sigma * distance
            + np.where(views.cut.all(axis=1), 0.3, 0.1 * views.cut.any(axis=1)) * length
        )
        worse = np.sqrt(np.maximum(1, placed.cost / 6))
        return self._measured(rows, placed.centres, np.stack([across * worse, along * worse], axis=1))

    def _measured(self, rows: NDArray[np.intp], places: Array, sigma: Array) -> tuple[Array, Array]:
        """places (n, 2) in the cameras of `rows`, sigma (n, 2) across and along the ray; as places and precisions in
        the world of all sights."""
        bearing = np.arctan2(*places.T) + self.turns[rows]
        axes = np.stack(
            [np.stack([np.cos(bearing), -np.sin(bearing)], 1), np.stack([np.sin(bearing), np.cos(bearing)], 1)], axis=1
        )
        everywhere, precisions = np.zeros((len(self.times), 2)), np.zeros((len(self.times), 2, 2))
        everywhere[rows] = self._to_world(rows, places)
        precisions[rows] = np.einsum("nai,na,naj->nij", axes, 1 / (_CORRELATED * sigma**2), axes)
        return everywhere, precisions

    def _headings(self, path: Path, size: Array) -> tuple[Array, Array]:
        """World yaws (F,) and their sigma (F,)."""
        ahead, behind = self._around(path, _TURNS_WITHIN * float(np.exp(size[1])))
        way = path.places[ahead] - path.places[behind]
        span = np.maximum(self.times[ahead] - self.times[behind], 1e-3)
        speed = np.hypot(*way.T) / span
        come = path.places.max(axis=0) - path.places.min(axis=0)
        far = float(np.hypot(*come)) > _LEAST_WAY * max(1.0, float(np.exp(size[1])))
        moving = (speed > _MOVES) & far & (not path.still)
        if moving.any():
            rows = np.flatnonzero(moving)
            nearest = rows[np.argmin(np.abs(np.arange(len(self.times))[:, None] - rows), axis=1)]
            spread = np.sqrt(np.trace(path.covariances, axis1=1, axis2=2) / 2) / np.maximum(np.hypot(*way.T), 1e-6)
            yaws = np.arctan2(-way[:, 1], way[:, 0])
            return yaws[nearest], np.maximum(np.minimum(spread[nearest], 1.0), np.radians(4))
        constant, sigma = self._constant_heading(path, size, far and not path.still)
        return np.full(len(self.times), constant), np.full(len(self.times), sigma)

    def _around(self, path: Path, least: float) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """For each sight, the one after and the one before it between which the heading is read: at least `_WINDOW_S`
        away and `least` metres of way."""
        way = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(path.places, axis=0).T))])
        last = len(self.times) - 1
        ahead = np.maximum(
            np.searchsorted(self.times, self.times + _WINDOW_S), np.searchsorted(way, way + least, side="left")
        )
        behind = np.minimum(
            np.searchsorted(self.times, self.times - _WINDOW_S, side="right") - 1,
            np.searchsorted(way, way - least, side="right") - 1,
        )
        return np.minimum(ahead, last), np.maximum(behind, 0)

    def _constant_heading(self, path: Path, size: Array, moved: bool) -> tuple[float, float]:
        """The world yaw that fits all outlines best, and its sigma."""
        way = path.places[-1] - path.places[0]
        course = float(np.arctan2(-way[1], way[0]))
        guess = self.boxes[self.boxed, 6] + self.turns[self.boxed]
        if self.views is None:
            doubled = np.arctan2(np.sin(2 * guess).sum(), np.cos(2 * guess).sum())
            best, sigma = float(doubled) / 2, 0.2
        else:
            candidates = np.radians(np.arange(0, 180, 4.0))
            costs = self._turned(size, candidates, course if moved else None)
            share = np.exp(-0.5 * (costs - costs.min()))
            best = float(candidates[np.argmin(costs)])
            fine = best + np.radians(np.arange(-3, 3.1, 1.0))
            best = float(fine[np.argmin(self._turned(size, fine, course if moved else None))])
            off = (candidates - best + np.pi / 2) % np.pi - np.pi / 2
            # A surface whose depth is off at one end by as much as it may be is turned, in all frames alike.
            nearest = np.nanmin(self.views.ranges, axis=1)
            tilt = _SURFACE_SHARE * float(np.median(self.views.per_metre * nearest**2)) / float(np.exp(size.max()))
            sigma = float(np.sqrt((share * off**2).sum() / share.sum() + np.radians(2) ** 2 + tilt**2))
        votes = np.cos(course - best) if moved else np.cos(guess - best).sum()
        return (best if votes >= 0 else best + np.pi), sigma

    def _turned(self, size: Array, candidates: Array, course: float | None) -> Array:
        """What each candidate (C,) for a heading that never changes costs."""
        headings = np.repeat(candidates[:, None], len(self.picked), axis=1)
        cost = self._misfits(np.repeat(size[None], len(candidates), axis=0), headings)
        # Each view's own fit is another witness, of the axes at least.
        guess = (self.boxes[:, 6] + self.turns)[self.boxed]
        apart = (guess - candidates[:, None] + np.pi / 4) % (np.pi / 2) - np.pi / 4
        cost = cost + _INDEPENDENT * np.minimum((apart / _GUESSED) ** 2, 4).mean(axis=1)
        if course is not None:
            off = (course - candidates + np.pi / 2) % np.pi - np.pi / 2
            cost = cost + (off / np.radians(30)) ** 2
        return np.asarray(cost)

    def _misfits(self, sizes: Array, headings: Array) -> Array:
        """How badly sizes (C, 2), logarithms of width and length, and headings (C, picked) go with the outlines.

        (C,) twice a negative log-likelihood, of as many independent views as there are.
        """
        assert self.views is not None  # noqa: S101 - the caller has seen to it
        candidates, number = len(sizes), len(self.picked)
        widths, lengths = np.repeat(np.exp(sizes), number, axis=0).T
        yaws = (headings - self.turns[self.viewed[self.picked]]).ravel()
        views = self.views.rows(np.tile(self.picked, candidates))
        placed = place(views, widths, lengths, yaws, self.end_sigma, self.missing, rounded=self.slender)
        return np.asarray(placed.cost.reshape(candidates, number).sum(axis=1) * min(1.0, _INDEPENDENT / number))

    def _sized(self, yaws: Array) -> tuple[Array, Array]:
        """Logarithms of width and length that fit best, and their sigmas."""
        headings = yaws[self.viewed[self.picked]]

        def costs(sizes: Array) -> Array:
            off = ((sizes - self.usual) / self.spread) ** 2
            return np.asarray(self._misfits(sizes, np.repeat(headings[None], len(sizes), axis=0)) + off.sum(axis=1))

        size = self.usual
        for step in _STEPS:
            for _ in range(2):
                around = size + step * _AROUND
                best = int(np.argmin(costs(around)))
                size = around[best]
                if not _AROUND[best].any():
                    break
        low, *sides = costs(size + 0.06 * np.array([[0, 0], [1, 0], [-1, 0], [0, 1], [0, -1]]))
        bend = np.array([sides[0] + sides[1], sides[2] + sides[3]]) / 2 - low
        sigma = 0.06 / np.sqrt(np.maximum(bend, 1e-6))
        return size, np.clip(sigma, 0.5 * self.spread if self.slender else 0.02, self.spread)

    def _results(
        self, path: Path, yaws: Array, yaw_sigma: Array, size_wl: Array, size_sigma: Array
    ) -> list[Refined | None]:
        bottoms = self._bottoms()
        first, last = np.flatnonzero(self.boxed)[[0, -1]]
        results: list[Refined | None] = []
        for row in range(len(self.times)):
            if not first <= row <= last:
                results.append(None)
                continue
            cosine, sine = np.cos(self.turns[row]), np.sin(self.turns[row])
            back = np.array([[cosine, -sine], [sine, cosine]])
            x, z = back @ (path.places[row] - self.shifts[row])
            distance = float(np.hypot(x, z))
            covariance = back @ path.covariances[row] @ back.T
            ray = np.array([x, z]) / max(distance, 1e-6)
            hidden = float(np.mean(size_sigma)) / 2
            across = np.array([ray[1], -ray[0]]) * _END_BIAS * self.end_sigma * distance
            covariance = (
                covariance + np.outer(ray, ray) * hidden**2 + np.outer(across, across) + np.eye(2) * _FIXED_M**2
            )
            yaw = (yaws[row] - self.turns[row] + np.pi) % (2 * np.pi) - np.pi
            box = np.array([x, bottoms[row], z, self.height, size_wl[0], size_wl[1], yaw])
            sigma = np.array(
                [
                    np.sqrt(covariance[0, 0]),
                    np.hypot(0.02, 0.004 * distance),
                    np.sqrt(covariance[1, 1]),
                    self.height_sigma,
                    size_sigma[0],
                    size_sigma[1],
                    yaw_sigma[row],
                ]
            )
            results.append(Refined(box, sigma))
        return results

    def _bottoms(self) -> Array:
        """y of the bottom faces (F,): as far above the ground as in most sights; where there is no ground, as seen."""
        seen = np.interp(self.times, self.times[self.boxed], self.boxes[self.boxed, 1])
        above = (self.boxes[:, 1] - self.floors)[self.boxed & np.isfinite(self.floors)]
        if not len(above):
            return np.asarray(seen)
        return np.asarray(np.where(np.isfinite(self.floors), self.floors + np.median(above), seen))
