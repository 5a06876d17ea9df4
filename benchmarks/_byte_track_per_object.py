"""ByteTrack written the way its authors wrote it: an object per track, with an 8-state Kalman filter of its own.

The measure of speed for `pipeline.tracking.byte_track`, and a second opinion on its results. Prediction is batched over
the tracks, as in the original; each correction is a Cholesky solve of one track; states pass through lists.
"""

from typing import Any

import numpy as np
import scipy.linalg
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

MOTION = np.eye(8) + np.eye(8, k=4)
OBSERVATION = np.eye(4, 8)


class Track:
    def __init__(self, box_xywh: NDArray[np.float64], score: float) -> None:
        self.box = np.asarray(box_xywh, dtype=np.float64)
        self.score = score
        self.mean: NDArray[np.float64] | None = None
        self.covariance: NDArray[np.float64] | None = None
        self.id = 0
        self.state = "new"
        self.confirmed = False
        self.first = self.last = 0

    @property
    def xywh(self) -> NDArray[np.float64]:
        if self.mean is None:
            return self.box.copy()
        size = np.array([self.mean[2] * self.mean[3], self.mean[3]])
        return np.concatenate([self.mean[:2] - size / 2, size])

    @property
    def xyxy(self) -> NDArray[np.float64]:
        box = self.xywh
        return np.concatenate([box[:2], box[:2] + box[2:]])

    @property
    def xyah(self) -> NDArray[np.float64]:
        box = self.xywh
        return np.concatenate([box[:2] + box[2:] / 2, [box[2] / box[3], box[3]]])

    def activate(self, identity: int, frame: int) -> None:
        xyah = self.xyah
        h = xyah[3]
        self.mean = np.r_[xyah, np.zeros(4)]
        std = [h / 10, h / 10, 1e-2, h / 10, h / 16, h / 16, 1e-5, h / 16]
        self.covariance = np.diag(np.square(std))
        self.id, self.state, self.first, self.last = identity, "tracked", frame, frame
        self.confirmed = frame == 1

    def correct(self, seen: "Track", frame: int) -> None:
        h = self.mean[3]
        noise = np.diag(np.square([h / 20, h / 20, 1e-1, h / 20]))
        projected = np.linalg.multi_dot((OBSERVATION, self.covariance, OBSERVATION.T)) + noise
        factor, lower = scipy.linalg.cho_factor(projected, lower=True, check_finite=False)
        crossed = np.dot(self.covariance, OBSERVATION.T).T
        gain = scipy.linalg.cho_solve((factor, lower), crossed, check_finite=False).T
        innovation = seen.xyah - np.dot(OBSERVATION, self.mean)
        self.mean = self.mean + np.dot(innovation, gain.T)
        self.covariance = self.covariance - np.linalg.multi_dot((gain, projected, gain.T))
        self.state, self.last, self.confirmed, self.score = "tracked", frame, True, seen.score


def to_xywh(box_xyxy: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.concatenate([box_xyxy[:2], box_xyxy[2:] - box_xyxy[:2]])


def predict(tracks: list[Track]) -> None:
    if not tracks:
        return
    mean = np.asarray([track.mean.copy() for track in tracks])
    covariance = np.asarray([track.covariance for track in tracks])
    for row, track in enumerate(tracks):
        if track.state != "tracked":
            mean[row][7] = 0
    h = mean[:, 3]
    small, smaller = np.full_like(h, 1e-2), np.full_like(h, 1e-5)
    std = np.array([h / 20, h / 20, small, h / 20, h / 160, h / 160, smaller, h / 160]).T
    noise = np.asarray([np.diag(row) for row in np.square(std)])
    mean = np.dot(mean, MOTION.T)
    covariance = np.dot(np.dot(MOTION, covariance).transpose((1, 0, 2)), MOTION.T) + noise
    for row, track in enumerate(tracks):
        track.mean, track.covariance = mean[row], covariance[row]


def pairwise_iou(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    overlap = np.minimum(a[:, None, 2:], b[None, :, 2:]) - np.maximum(a[:, None, :2], b[None, :, :2]) + 1
    overlap = np.maximum(overlap, 0)
    shared = overlap[..., 0] * overlap[..., 1]
    area_a = (a[:, 2] - a[:, 0] + 1) * (a[:, 3] - a[:, 1] + 1)
    area_b = (b[:, 2] - b[:, 0] + 1) * (b[:, 3] - b[:, 1] + 1)
    return shared / (area_a[:, None] + area_b - shared)


def solve(cost: NDArray[np.float64], limit: float) -> list[tuple[int, int]]:
    """Pairs that cost less than `limit`, at the least sum."""
    rows, columns = linear_sum_assignment(np.minimum(cost - limit, 0))
    return [(int(row), int(column)) for row, column in zip(rows, columns, strict=True) if cost[row, column] < limit]


def iou_cost(tracks: list[Track], others: list[Track]) -> NDArray[np.float64]:
    if not tracks or not others:
        return np.zeros((len(tracks), len(others)))
    return 1 - pairwise_iou(np.array([track.xyxy for track in tracks]), np.array([track.xyxy for track in others]))


def with_scores(cost: NDArray[np.float64], seen: list[Track]) -> NDArray[np.float64]:
    return 1 - (1 - cost) * np.array([track.score for track in seen]) if cost.size else cost


def associate(cost: NDArray[np.float64], limit: float) -> tuple[list[tuple[int, int]], list[int], list[int]]:
    pairs = solve(cost, limit) if cost.size else []
    rows, columns = {row for row, _ in pairs}, {column for _, column in pairs}
    return (
        pairs,
        [row for row in range(cost.shape[0]) if row not in rows],
        [column for column in range(cost.shape[1]) if column not in columns],
    )


class PerObjectByteTracker:
    def __init__(self, track_threshold: float = 0.6, match_threshold: float = 0.9, buffer: int = 30) -> None:
        self.track_threshold, self.match_threshold, self.buffer = track_threshold, match_threshold, buffer
        self.tracked: list[Track] = []
        self.lost: list[Track] = []
        self.frame = 0
        self.count = 0

    def update(self, boxes_xyxy: NDArray[np.float64], scores: NDArray[np.float64], *_: Any) -> None:
        self.frame += 1
        high = scores > self.track_threshold
        low = (scores > 0.1) & (scores < self.track_threshold)
        seen = [Track(to_xywh(box), score) for box, score in zip(boxes_xyxy[high], scores[high], strict=True)]
        doubtful = [Track(to_xywh(box), score) for box, score in zip(boxes_xyxy[low], scores[low], strict=True)]

        unconfirmed = [track for track in self.tracked if not track.confirmed]
        pool = [track for track in self.tracked if track.confirmed] + self.lost
        predict(pool)
        pairs, left, free = associate(with_scores(iou_cost(pool, seen), seen), self.match_threshold)
        for row, column in pairs:
            pool[row].correct(seen[column], self.frame)

        still = [pool[row] for row in left if pool[row].state == "tracked"]
        pairs, left, _ = associate(iou_cost(still, doubtful), 0.5)
        for row, column in pairs:
            still[row].correct(doubtful[column], self.frame)
        for row in left:
            still[row].state = "lost"

        remaining = [seen[column] for column in free]
        pairs, left, free = associate(with_scores(iou_cost(unconfirmed, remaining), remaining), 0.7)
        for row, column in pairs:
            unconfirmed[row].correct(remaining[column], self.frame)
        for row in left:
            unconfirmed[row].state = "removed"

        fresh = [remaining[column] for column in free if remaining[column].score >= self.track_threshold + 0.1]
        for track in fresh:
            self.count += 1
            track.activate(self.count, self.frame)
        everyone = [*pool, *unconfirmed, *fresh]
        self.tracked = [track for track in everyone if track.state == "tracked"]
        self.lost = [t for t in everyone if t.state == "lost" and self.frame - t.last <= self.buffer]
        self._drop_duplicates()

    def _drop_duplicates(self) -> None:
        worse: set[int] = set()
        for row, column in zip(*np.nonzero(iou_cost(self.tracked, self.lost) < 0.15), strict=True):
            a, b = self.tracked[row], self.lost[column]
            worse.add(id(b) if a.last - a.first > b.last - b.first else id(a))
        self.tracked = [track for track in self.tracked if id(track) not in worse]
        self.lost = [track for track in self.lost if id(track) not in worse]

    def tracks(self) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        shown = [track for track in self.tracked if track.confirmed]
        boxes = np.array([track.xyxy for track in shown]).reshape(-1, 4)
        return np.array([track.id for track in shown], np.int64), boxes
