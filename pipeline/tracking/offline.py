"""What hindsight does for tracks: pieces of one object linked over gaps, gaps filled, boxes smoothed, flickers dropped.

`refine` is a pure function over the tracks of a whole sequence; nothing in it needs images. A link is judged by how
likely one object in steady motion would be at both ends of the gap, and all links are decided together (an assignment
of ends to beginnings; compare Zhang et al., "Global Data Association for Multi-Object Tracking Using Network Flows",
CVPR 2008). Boxes are smoothed, and gaps filled, by the smoother that belongs to a random walk of the velocity
(Whittaker 1923; the Rauch-Tung-Striebel smoother of that motion gives the same curve).

    refined = refine(Tracks(frames, ids, boxes_xyxy, scores), Refinement())
    refined.boxes_xyxy[~refined.interpolated]
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solveh_banded
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from pipeline.errors import ConfigurationError
from pipeline.tracking import kalman_filter as kalman
from pipeline.tracking.association import Array, assign
from pipeline.tracking.byte_track import Ids, to_xyah, to_xyxy

HISTORY: Final = 40
"""Frames at either end of a track from which its motion there is read."""
TYPICAL_SPEED: Final = 1 / 16
"""Heights per frame: what nothing known of a velocity means, as in `kalman.BoxNoise`."""
PLACE_AND_HEIGHT: Final = (0, 1, 3)
"""Of centre x, centre y, aspect ratio, height, those that say whether two boxes are one object's."""


@dataclass(frozen=True, slots=True)
class Tracks:
    """The tracks of a sequence, a row for each box, in any order; a track has at most one box in a frame.

    frames int64 (n,), ids int64 (n,), boxes_xyxy float64 (n, 4), scores float64 (n,), class_ids int64 (n,) or None,
    features float64 (n, d) of unit length, NaN where unknown, or None. sources int64 (n,), of what `refine` returns:
    the row of its input that a box comes from, -1 where the box was interpolated. Raises ValueError where these do not
    fit together.
    """

    frames: Ids
    ids: Ids
    boxes_xyxy: Array
    scores: Array
    class_ids: Ids | None = None
    features: Array | None = None
    sources: Ids | None = None

    def __post_init__(self) -> None:
        count = len(self.ids)
        if self.boxes_xyxy.shape != (count, 4) or len(self.frames) != count or len(self.scores) != count:
            raise ValueError(
                f"{self.boxes_xyxy.shape} boxes, {len(self.frames)} frames and {len(self.scores)} scores do not go "
                f"with {count} ids"
            )
        for name, column in (("class_ids", self.class_ids), ("features", self.features), ("sources", self.sources)):
            if column is not None and len(column) != count:
                raise ValueError(f"{len(column)} {name} do not go with {count} ids")
        if not (np.isfinite(self.boxes_xyxy).all() and np.isfinite(self.scores).all()):
            raise ValueError("boxes and scores must be finite")
        if len(np.unique(np.stack([self.ids, self.frames]), axis=1).T) != count:
            raise ValueError("a track has two boxes in one frame")

    @property
    def interpolated(self) -> NDArray[np.bool_]:
        """Which boxes no detection stands behind."""
        return np.zeros(len(self.ids), np.bool_) if self.sources is None else self.sources < 0


@dataclass(frozen=True, slots=True)
class Refinement:
    """How `refine` goes about it. Raises ConfigurationError naming a parameter that is out of range.

    link_gap: frames over which two pieces may be linked. link_surprise: greatest negative log-likelihood of a link, in
    nats, lengths in units of the object's height; the higher, the more links. class_mismatch: nats added where the two
    are mostly of different classes; infinity forbids such links. appearance_weight: nats added by a cosine distance of
    1 between the mean features of the two. fill_gap: longest gap that is filled, in frames. stiffness: of the smoother,
    the standard deviation of a measurement over that of a frame's change of velocity. detection_share: how much of a
    smoothed box is the detection. least_length: tracks of fewer detections go, and so do those with a mean score below
    least_confidence.
    """

    link_gap: int = 60
    link_surprise: float = 2.0
    class_mismatch: float = 3.0
    appearance_weight: float = 10.0
    fill_gap: int = 30
    stiffness: float = 16.0
    detection_share: float = 0.1
    least_length: int = 3
    least_confidence: float = 0.0

    def __post_init__(self) -> None:
        for name in ("link_gap", "class_mismatch", "appearance_weight", "fill_gap", "stiffness", "least_length"):
            if not getattr(self, name) >= 0:
                raise ConfigurationError(name, f"{getattr(self, name)!r} is not a number from 0 up.")
        for name in ("detection_share", "least_confidence"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigurationError(name, f"{getattr(self, name)!r} is not a number from 0 to 1.")


def refine(tracks: Tracks, settings: Refinement | None = None) -> Tracks:
    """The tracks as they look with hindsight: ordered by id, then by frame.

    Linked pieces carry the id of the earliest. An interpolated box has source -1, the class of the detection before it,
    a score between those at either side of the gap, and no features. Pure and deterministic.
    """
    settings = settings or Refinement()
    ids = link(tracks, settings)
    pieces = []
    for rows in _groups(tracks.frames, ids):
        if len(rows) < settings.least_length or tracks.scores[rows].mean() < settings.least_confidence:
            continue
        at = tracks.frames[rows] - tracks.frames[rows[0]]
        measured = to_xyah(tracks.boxes_xyxy[rows])
        curve = smoothed(at, measured, settings.stiffness)
        curve[at] += settings.detection_share * (measured - curve[at])
        shown = np.ones(at[-1] + 1, np.bool_)
        for before, after in zip(at[:-1].tolist(), at[1:].tolist(), strict=True):
            shown[before + 1 : after] = after - before - 1 <= settings.fill_gap
        every = np.flatnonzero(shown)
        source = np.full(len(shown), -1)
        source[at] = rows
        latest = rows[np.searchsorted(at, every, side="right") - 1]
        scores = np.interp(every, at, tracks.scores[rows])
        frames = every + tracks.frames[rows[0]]
        pieces.append((frames, ids[latest], to_xyxy(curve[every]), scores, source[every], latest))
    if not pieces:
        pieces = [(*(np.zeros(0, np.int64),) * 2, np.zeros((0, 4)), np.zeros(0), *(np.zeros(0, np.int64),) * 2)]
    frames, ids, boxes, scores, sources, latest = (np.concatenate(column) for column in zip(*pieces, strict=True))
    return Tracks(
        frames,
        ids,
        boxes,
        scores,
        None if tracks.class_ids is None else tracks.class_ids[latest],
        None if tracks.features is None else np.where(sources[:, None] < 0, np.nan, tracks.features[latest]),
        sources,
    )


def smoothed(at: Ids, measured: Array, stiffness: float) -> Array:
    """The smooth curve through measurements (n, d) in the frames `at`, growing from 0: (at[-1] + 1, d).

    It has the least sum of squared distances from what was measured plus stiffness² times the sum of its squared second
    differences; over a gap it is a cubic.
    """
    count = int(at[-1]) + 1
    if count < 3:
        return measured.copy()
    seen = np.zeros(count)
    seen[at] = 1
    target = np.zeros((count, measured.shape[1]))
    target[at] = measured
    # The upper diagonals of the sum of outer products of (1, -2, 1), the main one last, as solveh_banded wants them.
    bending = np.zeros((3, count))
    bending[0, 2:] = 1
    bending[1, 1:-1] -= 2
    bending[1, 2:] -= 2
    bending[2, :-2] += 1
    bending[2, 1:-1] += 4
    bending[2, 2:] += 1
    bending *= stiffness**2
    bending[2] += seen
    curve: Array = solveh_banded(bending, target)
    return curve


def link(tracks: Tracks, settings: Refinement) -> Ids:
    """The ids (n,) after every piece was linked to what continues it, until nothing more fits."""
    ids = tracks.ids
    while len(ids):
        groups = _groups(tracks.frames, ids)
        follower = _followers(tracks, groups, settings)
        if not follower:
            break
        ids = ids.copy()
        # The later pieces first: a chain takes the id of its head.
        for before in sorted(follower, key=lambda row: -int(tracks.frames[groups[row][0]])):
            ids[np.isin(ids, ids[groups[follower[before]][:1]])] = ids[groups[before][0]]
    return ids


def _groups(frames: Ids, ids: Ids) -> list[Ids]:
    """The rows of each track, by frame; tracks by id."""
    if not len(ids):
        return []
    order = np.lexsort((frames, ids))
    return np.split(order, np.flatnonzero(np.diff(ids[order])) + 1)


def _followers(tracks: Tracks, groups: list[Ids], settings: Refinement) -> dict[int, int]:
    """Which piece continues which, by position in `groups`."""
    noise = kalman.BoxNoise()
    measured = to_xyah(tracks.boxes_xyxy)
    ends = _states(tracks.frames, measured, groups, noise, backward=False)
    beginnings = _states(tracks.frames, measured, groups, noise, backward=True)
    first = np.array([tracks.frames[rows[0]] for rows in groups])
    last = np.array([tracks.frames[rows[-1]] for rows in groups])
    by_first = np.argsort(first, kind="stable")
    rows, columns, gains = [], [], []
    for gap in range(1, settings.link_gap + 2):
        ends[kalman.VELOCITY, :, 2:] = 0  # growing or shrinking unseen, it would soon be of another size altogether
        ends = kalman.predict(ends, noise)
        low, high = (np.searchsorted(first[by_first], last + gap, side=side) for side in ("left", "right"))
        before = np.repeat(np.arange(len(groups)), high - low)
        if not len(before):
            continue
        after = by_first[np.concatenate([np.arange(a, b) for a, b in zip(low, high, strict=True)])]
        gain = settings.link_surprise - _surprise(ends[:, before], beginnings[:, after])
        gain -= _unlikeness(tracks, groups, before, after, settings)
        good = gain > 0
        rows.append(before[good])
        columns.append(after[good])
        gains.append(gain[good])
    if not rows:
        return {}
    return _best(np.concatenate(rows), np.concatenate(columns), np.concatenate(gains), len(groups))


def _best(rows: Ids, columns: Ids, gains: Array, count: int) -> dict[int, int]:
    """The pairs (row, column) of greatest summed gain, each row and column once; independent clusters one by one."""
    _, cluster = connected_components(coo_array((np.ones(len(rows)), (rows, columns + count)), shape=(2 * count,) * 2))
    of_pair = cluster[rows]
    chosen = {}
    for each in np.unique(of_pair):
        pairs = np.flatnonzero(of_pair == each)
        some_rows, row = np.unique(rows[pairs], return_inverse=True)
        some_columns, column = np.unique(columns[pairs], return_inverse=True)
        table = np.zeros((len(some_rows), len(some_columns)))
        table[row, column] = gains[pairs]
        chosen.update({int(some_rows[i]): int(some_columns[j]) for i, j in assign(table, 0.0)})
    return chosen


def _states(frames: Ids, measured: Array, groups: list[Ids], noise: kalman.NoiseModel, *, backward: bool) -> Array:
    """The filter's state (5, tracks, 4) in the last frame of each track; in the first one, run backward in time."""
    seen = np.full((HISTORY, len(groups), measured.shape[1]), np.nan)
    for track, rows in enumerate(groups):
        away = frames[rows] - frames[rows[0]] if backward else frames[rows[-1]] - frames[rows]
        near = away < HISTORY
        seen[HISTORY - 1 - away[near], track] = measured[rows[near]]
    state = np.zeros((5, *seen.shape[1:]))
    started = np.zeros(len(groups), np.bool_)
    for now in seen:
        here = np.isfinite(now[:, 0])
        state[:, started] = kalman.predict(state[:, started], noise)
        known, new = here & started, here & ~started
        state[:, known] = kalman.correct(state[:, known], now[known] - state[kalman.POSITION, known], noise)
        state[:, new] = kalman.initiate(now[new], noise)
        started |= new
    if backward:
        state[[kalman.VELOCITY, kalman.PV]] *= -1
    return state


def _surprise(a: Array, b: Array) -> Array:
    """Negative log-likelihood (n,) that states (5, n, 4) are of one object, over places and heights.

    Places count in heights, velocities in `TYPICAL_SPEED`: a likelihood well above 1 is more than a chance meeting.
    """
    unit = np.minimum(a[kalman.POSITION, :, 3], b[kalman.POSITION, :, 3])
    total = np.zeros(a.shape[1])
    for coordinate in PLACE_AND_HEIGHT:
        offset, drift = (a[: kalman.PP, :, coordinate] - b[: kalman.PP, :, coordinate]) / unit
        pp, pv, vv = (a[kalman.PP :, :, coordinate] + b[kalman.PP :, :, coordinate]) / unit**2
        determinant = pp * vv - pv * pv
        distance = (vv * offset**2 - 2 * pv * offset * drift + pp * drift**2) / determinant
        total += (distance + np.log(determinant / TYPICAL_SPEED**2)) / 2 + np.log(2 * np.pi)
    return total


def _unlikeness(tracks: Tracks, groups: list[Ids], before: Ids, after: Ids, settings: Refinement) -> Array:
    """Nats (n,) that class and look of the two pieces of each pair speak against their being one object."""
    against = np.zeros(len(before))
    if tracks.class_ids is not None:
        mostly = np.array([_most_frequent(tracks.class_ids[rows]) for rows in groups])
        against[mostly[before] != mostly[after]] += settings.class_mismatch
    if tracks.features is not None:
        looks = np.array([_mean_look(tracks.features[rows]) for rows in groups])
        distance = 1 - (looks[before] * looks[after]).sum(axis=1)
        against += settings.appearance_weight * np.nan_to_num(distance)
    return against


def _most_frequent(values: Ids) -> int:
    kinds, counts = np.unique(values, return_counts=True)
    return int(kinds[counts.argmax()])


def _mean_look(features: Array) -> Array:
    total = np.nan_to_num(features).sum(axis=0)
    length = float(np.sqrt((total * total).sum()))
    return np.asarray(total / length if length > 0 else np.full(len(total), np.nan))
