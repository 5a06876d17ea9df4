"""ByteTrack: associate every detection box, the confident ones first, the doubtful ones with what is left.

Zhang et al., "ByteTrack: Multi-Object Tracking by Associating Every Detection Box", ECCV 2022. Written over arrays: all
tracks of a frame are predicted, compared and corrected together, from one similarity matrix.

Beyond the paper: overlap is weighed by how well the heights agree (Yang et al., "Hybrid-SORT", AAAI 2024), a lost track
is remembered for longer, what is shown lies between filter and detection, and the camera's own motion and the look of
the detections are used where they are known. `AUTHORS` turns all of that off.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipeline.errors import ConfigurationError
from pipeline.tracking import kalman_filter as kalman
from pipeline.tracking.association import Array, assign, grown, height_overlap, iou_xyxy
from pipeline.tracking.camera_motion import moved_boxes

TENTATIVE: Final = 0
"""Seen in one frame only: dropped unless seen in the next."""
TRACKED: Final = 1
"""Confirmed, and seen in the latest frame."""
LOST: Final = 2
"""Confirmed, and not seen for up to `buffer` frames."""

AUTHORS: Final[dict[str, Any]] = {"buffer": 30, "height_power": 0.0, "detection_share": 0.0}
"""Parameters with which `ByteTracker` is the authors' tracker. They scale `buffer` with the frame rate."""

Ids = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Seen:
    """The detections of one frame: boxes (m, 4) x1 y1 x2 y2, scores (m,), classes (m,), cuboids (m, 7), looks (m, d).

    Cuboids are as `CuboidNoise` has them, features of unit length; one that is not known is a row of NaN.
    """

    boxes_xyxy: Array
    scores: Array
    class_ids: Ids | None = None
    cuboids: Array | None = None
    features: Array | None = None


class ByteTracker:
    """Tracks boxes from frame to frame. Raises ConfigurationError naming a parameter that is out of range.

    track_threshold: scores above take part in the first association. low_threshold: scores above, up to
    track_threshold, in the second. new_track_threshold: an unmatched detection from here on starts a track (by default
    0.1 above track_threshold). match_threshold, low_match_threshold, tentative_match_threshold: greatest cost, 1 -
    similarity, of a match in the first association (similarity times score), in the second (similarity), and with a
    track seen once (similarity times score). buffer: frames a track may stay unseen before its id is given up.
    duplicate_threshold: of a seen and an unseen track nearer than this cost, the younger is dropped.
    class_mismatch_factor: what the similarity is multiplied by where classes differ; 0 forbids it, 1 ignores classes.
    height_power: the similarity of two boxes is their overlap times the overlap of their heights to this power.
    detection_share: how much of a box that `tracks` gives is the detection; the rest is the filter's.
    appearance_weight: how much of the similarity is lost where two do not look alike at all, and is given where they do
    and stand near one another without overlap; used where detections have features. appearance_least: cosine at which
    two do not look alike. appearance_memory: how much of a track's look is kept when it is seen again.
    """

    def __init__(
        self,
        track_threshold: float = 0.6,
        match_threshold: float = 0.9,
        buffer: int = 60,
        *,
        low_threshold: float = 0.1,
        new_track_threshold: float | None = None,
        low_match_threshold: float = 0.5,
        tentative_match_threshold: float = 0.7,
        duplicate_threshold: float = 0.15,
        class_mismatch_factor: float = 1.0,
        height_power: float = 1.0,
        detection_share: float = 0.5,
        appearance_weight: float = 0.5,
        appearance_least: float = 0.3,
        appearance_memory: float = 0.9,
    ) -> None:
        for name, value in (
            ("track_threshold", track_threshold),
            ("match_threshold", match_threshold),
            ("low_threshold", low_threshold),
            ("low_match_threshold", low_match_threshold),
            ("tentative_match_threshold", tentative_match_threshold),
            ("duplicate_threshold", duplicate_threshold),
            ("class_mismatch_factor", class_mismatch_factor),
            ("detection_share", detection_share),
            ("appearance_weight", appearance_weight),
            ("appearance_memory", appearance_memory),
        ):
            if not 0 <= value <= 1:
                raise ConfigurationError(name, f"{value!r} is not a number from 0 to 1.")
        if buffer < 0:
            raise ConfigurationError("buffer", f"{buffer!r} is not a number of frames.")
        if not height_power >= 0:
            raise ConfigurationError("height_power", f"{height_power!r} is not a number from 0 up.")
        if not -1 <= appearance_least < 1:
            raise ConfigurationError("appearance_least", f"{appearance_least!r} is not a cosine below 1.")
        self.track_threshold = track_threshold
        self.low_threshold = low_threshold
        self.new_track_threshold = track_threshold + 0.1 if new_track_threshold is None else new_track_threshold
        self.buffer = buffer
        self.class_mismatch_factor = class_mismatch_factor
        self.height_power, self.detection_share = height_power, detection_share
        self.appearance_weight, self.appearance_least = appearance_weight, appearance_least
        self.appearance_memory = appearance_memory
        self._least_similarity = (1 - match_threshold, 1 - low_match_threshold, 1 - tentative_match_threshold)
        self._duplicate_similarity = 1 - duplicate_threshold
        self._noise = kalman.BoxNoise()
        self._frame = 0
        self._next_id = 1
        # One row per live track, in all of these; the tentative ones come last.
        self._motion: Array = np.empty((5, 0, 4))
        self._shown: Array = np.empty((0, 4))  # boxes x1 y1 x2 y2 as last detected
        self._looks: Array | None = None  # (n, d), NaN where unknown; None until a detection has features
        self._ids: list[int] = []
        self._status: list[int] = []
        self._first: list[int] = []
        self._last: list[int] = []
        self._classes: list[int] = []

    def update(
        self,
        boxes_xyxy: ArrayLike,
        scores: ArrayLike,
        class_ids: ArrayLike | None = None,
        *,
        features: ArrayLike | None = None,
        camera_motion: ArrayLike | None = None,
    ) -> Ids:
        """Take the next frame's detections (m, 4), (m,), (m,): the track id of each, int64 (m,), 0 where it has none.

        features: (m, d), what each looks like, of any length and compared by cosine; a row of NaN where unknown.
        camera_motion: (3, 3), the homography that takes pixels of the frame before to where the still world is now.

        Ids count from 1. That of a new track is tentative (except in the first frame): it stands once the track is
        seen again in the next frame, see `is_confirmed`; otherwise the id is never used again. Call it for frames
        without detections too. Raises ValueError where shapes do not fit or a number is not finite.
        """
        seen = checked(boxes_xyxy, scores, class_ids, features)
        if camera_motion is not None:
            self.move_with_camera(camera_motion)
        return self._step(seen)

    def move_with_camera(self, homography: ArrayLike) -> None:
        """Carry what is known of all tracks to the next frame's pixels, by the camera's motion alone, before `update`.

        Raises ValueError where the homography is not (3, 3) and finite.
        """
        self._motion = moved_boxes(self._motion, homography)

    def is_confirmed(self, ids: Iterable[int]) -> list[bool]:
        """Which ids are those of live tracks that have been seen more than once (or in the very first frame)."""
        confirmed = {track for track, status in zip(self._ids, self._status, strict=True) if status != TENTATIVE}
        return [int(track) in confirmed for track in ids]

    def tracks(self) -> tuple[Ids, Array]:
        """Ids (n,) and boxes (n, 4) x1 y1 x2 y2 of the confirmed tracks seen in the latest frame."""
        rows = [row for row, status in enumerate(self._status) if status == TRACKED]
        ids = np.array([self._ids[row] for row in rows], np.int64)
        filtered = to_xyxy(self._motion[kalman.POSITION][rows])
        return ids, filtered + self.detection_share * (self._shown[rows] - filtered)

    def _step(self, seen: Seen) -> Ids:
        if seen.features is not None and self._looks is not None and seen.features.shape[1] != self._looks.shape[1]:
            raise ValueError(f"features have {seen.features.shape[1]} columns, those before had {self._looks.shape[1]}")
        scores = seen.scores.tolist()
        self._frame += 1
        count, settled = len(self._ids), sum(status != TENTATIVE for status in self._status)
        high = [column for column, score in enumerate(scores) if score > self.track_threshold]
        if settled:
            self._predict(settled)

        matched: dict[int, int] = {}  # row to column
        if count and scores:
            similarity = self._similarity(seen)
            weighted = similarity * seen.scores
            first, second, once = self._least_similarity
            _match(weighted, range(settled), high, first, matched)
            if len(high) < len(scores):
                low = [c for c, score in enumerate(scores) if self.low_threshold < score <= self.track_threshold]
                left = [row for row in range(settled) if self._status[row] == TRACKED and row not in matched]
                _match(similarity, left, low, second, matched)
            if settled < count:
                taken = set(matched.values())
                _match(weighted, range(settled, count), [c for c in high if c not in taken], once, matched)

        ids = [0] * len(scores)
        if matched:
            rows, columns = list(matched), list(matched.values())
            self._correct(rows, columns, seen)
            for row, column in matched.items():
                ids[column] = self._ids[row]
        for row, status in enumerate(self._status):
            if row in matched:
                self._status[row], self._last[row] = TRACKED, self._frame
            elif status == TRACKED:
                self._status[row] = LOST
        if len(matched) < count:
            self._drop_stale()
        born = [column for column in high if not ids[column] and scores[column] >= self.new_track_threshold]
        if born:
            for column in born:
                ids[column] = self._next_id
                self._next_id += 1
            self._append(born, [ids[column] for column in born], seen)
        return np.array(ids, np.int64)

    def _drop_stale(self) -> None:
        """Forget tracks unseen for too long, tentative ones not seen again, and the younger of two on one object."""
        stale, lost = set(), []
        for row, status in enumerate(self._status):
            if status == TENTATIVE or self._frame - self._last[row] > self.buffer:
                stale.add(row)
            elif status == LOST:
                lost.append(row)
        if lost and TRACKED in self._status:
            for seen, column in np.argwhere(self._overlap(lost) > self._duplicate_similarity).tolist():
                other = lost[column]
                if self._status[seen] == TRACKED:
                    older = self._last[seen] - self._first[seen] > self._last[other] - self._first[other]
                    stale.add(other if older else seen)
        if stale:
            self._select([row for row in range(len(self._ids)) if row not in stale])

    # What follows knows what a track looks like; `byte_track_3d` adds a dimension to each.

    def _predict(self, settled: int) -> None:
        """Move the first `settled` tracks one frame on; a track seen once has no velocity yet and stays."""
        # A lost track keeps its height: growing or shrinking unseen, it would soon overlap nothing.
        lost = [row for row, status in enumerate(self._status) if status == LOST]
        if lost:
            self._motion[kalman.VELOCITY, lost, 3] = 0
        if settled == len(self._ids):
            self._motion = kalman.predict(self._motion, self._noise)
        else:
            self._motion[:, :settled] = kalman.predict(self._motion[:, :settled], self._noise)

    def _similarity(self, seen: Seen) -> Array:
        """Of all tracks with all detections (n, m), from 0 to 1."""
        ours, theirs = self._pixels(), seen.boxes_xyxy + _FAR_PIXEL
        similarity = self._box_similarity(ours, theirs)
        if self._looks is not None and seen.features is not None:
            likeness = self._likeness(self._looks, seen.features)
            near = iou_xyxy(grown(ours), grown(theirs))
            weight, known = self.appearance_weight, np.isfinite(likeness)
            judged = np.maximum(similarity * (1 - weight * (1 - likeness)), weight * likeness * near)
            similarity[known] = judged[known]
        if seen.class_ids is not None and self.class_mismatch_factor < 1:
            similarity[np.array(self._classes)[:, None] != seen.class_ids] *= self.class_mismatch_factor
        return similarity

    def _overlap(self, others: list[int]) -> Array:
        """Similarity of all tracks with the tracks `others`."""
        boxes = self._pixels()
        return iou_xyxy(boxes, boxes[others])

    def _box_similarity(self, ours: Array, theirs: Array) -> Array:
        similarity = iou_xyxy(ours, theirs)
        if self.height_power:
            heights = height_overlap(ours, theirs)
            similarity *= heights if self.height_power == 1 else heights**self.height_power
        return similarity

    def _likeness(self, ours: Array, theirs: Array) -> Array:
        """Of looks (n, d) and (m, d): (n, m), from 0 for unlike to 1 for the same; NaN where either is unknown."""
        cosine = np.einsum("nd,md->nm", ours, theirs)  # not a BLAS product: the same bits on any number of threads
        return np.asarray(np.clip((cosine - self.appearance_least) / (1 - self.appearance_least), 0, 1))

    def _pixels(self) -> Array:
        pixels: Array = to_xyxy(self._motion[kalman.POSITION]) + _FAR_PIXEL
        return pixels

    def _correct(self, rows: list[int], columns: list[int], seen: Seen) -> None:
        everyone = len(rows) == len(self._ids) and rows == sorted(rows)  # most frames: nothing to pick and put back
        predicted = self._motion if everyone else self._motion[:, rows]
        corrected = kalman.correct(
            predicted, to_xyah(seen.boxes_xyxy[columns]) - predicted[kalman.POSITION], self._noise
        )
        if everyone:
            self._motion = corrected
        else:
            self._motion[:, rows] = corrected
        self._shown[rows] = seen.boxes_xyxy[columns]
        if seen.features is not None:
            self._remember_looks(rows, seen.features[columns])
        if seen.class_ids is not None:
            for row, class_id in zip(rows, seen.class_ids[columns].tolist(), strict=True):
                self._classes[row] = class_id

    def _remember_looks(self, rows: list[int], features: Array) -> None:
        if self._looks is None:
            self._looks = np.full((len(self._ids), features.shape[1]), np.nan)
        old, known = self._looks[rows], np.isfinite(features[:, :1])
        mixed = self.appearance_memory * old + (1 - self.appearance_memory) * features
        self._looks[rows] = np.where(known, _unit(np.where(np.isfinite(old), mixed, features)), old)

    def _select(self, rows: list[int]) -> None:
        self._motion, self._shown = self._motion[:, rows], self._shown[rows]
        if self._looks is not None:
            self._looks = self._looks[rows]
        self._ids = [self._ids[row] for row in rows]
        self._status = [self._status[row] for row in rows]
        self._first = [self._first[row] for row in rows]
        self._last = [self._last[row] for row in rows]
        self._classes = [self._classes[row] for row in rows]

    def _append(self, columns: list[int], ids: list[int], seen: Seen) -> None:
        born = kalman.initiate(to_xyah(seen.boxes_xyxy[columns]), self._noise)
        self._motion = np.concatenate([self._motion, born], axis=1)
        self._shown = np.concatenate([self._shown, seen.boxes_xyxy[columns]])
        if seen.features is not None and self._looks is None:
            self._looks = np.full((len(self._ids), seen.features.shape[1]), np.nan)
        if self._looks is not None:
            unknown = np.full((len(ids), self._looks.shape[1]), np.nan)
            looks = unknown if seen.features is None else seen.features[columns]
            self._looks = np.concatenate([self._looks, looks])
        self._ids += ids
        self._status += [TRACKED if self._frame == 1 else TENTATIVE] * len(ids)
        self._first += [self._frame] * len(ids)
        self._last += [self._frame] * len(ids)
        self._classes += [0] * len(ids) if seen.class_ids is None else seen.class_ids[columns].tolist()


def checked(
    boxes_xyxy: ArrayLike, scores: ArrayLike, class_ids: ArrayLike | None, features: ArrayLike | None = None
) -> Seen:
    """One frame's detections as arrays. Raises ValueError where shapes do not fit or a number is not finite."""
    boxes = np.asarray(boxes_xyxy, np.float64).reshape(-1, 4)
    confidence = np.asarray(scores, np.float64).reshape(-1)
    classes = None if class_ids is None else np.asarray(class_ids, np.int64).reshape(-1)
    if len(boxes) != len(confidence) or (classes is not None and len(classes) != len(boxes)):
        raise ValueError(f"{len(boxes)} boxes do not go with {len(confidence)} scores")
    if not (isfinite(boxes.sum()) and isfinite(confidence.sum())):
        raise ValueError("boxes and scores must be finite")
    looks = None if features is None else np.asarray(features, np.float64)
    if looks is not None:
        if looks.ndim != 2 or len(looks) != len(boxes):
            raise ValueError(f"features of shape {looks.shape} do not go with {len(boxes)} boxes")
        looks = _unit(looks)
    return Seen(boxes, confidence, classes, features=looks)


def _match(
    similarity: Array, rows: Sequence[int], columns: Sequence[int], least: float, matched: dict[int, int]
) -> None:
    """Assign `columns` to `rows` and note the column of each row in `matched`."""
    if not rows or not columns:
        return
    if len(rows) < similarity.shape[0]:
        similarity = similarity[rows.start : rows.stop] if isinstance(rows, range) else similarity[rows]
    if len(columns) < similarity.shape[1]:
        similarity = similarity[:, columns]
    for row, column in assign(similarity, least):
        matched[rows[row]] = columns[column]


def _unit(features: Array) -> Array:
    """Rows of length 1; NaN where a row has no direction."""
    length = np.sqrt((features * features).sum(axis=1, keepdims=True))
    return np.asarray(features / np.where(length > 0, length, np.nan))


def to_xyah(boxes_xyxy: Array) -> Array:
    """Centre x, centre y, width / height, height; a box without area gets a thousandth of a pixel."""
    xyah: Array = boxes_xyxy @ _TO_CENTRE
    size = xyah[:, 2:]
    np.maximum(size, 1e-3, out=size)
    size[:, 0] /= size[:, 1]
    return xyah


def to_xyxy(xyah: Array) -> Array:
    box = xyah.copy()
    box[:, 2] *= box[:, 3]
    corners: Array = box @ _TO_CORNERS
    return corners


_TO_CENTRE: Final = np.array([[0.5, 0, -1, 0], [0, 0.5, 0, -1], [0.5, 0, 1, 0], [0, 0.5, 0, 1]])
"""From x1 y1 x2 y2 to centre x, centre y, width, height."""
_TO_CORNERS: Final = np.array([[1.0, 0, 1, 0], [0, 1, 0, 1], [-0.5, 0, 0.5, 0], [0, -0.5, 0, 0.5]])
_FAR_PIXEL: Final = np.array([0.0, 0, 1, 1])
"""The authors' overlap counts pixels, x2 and y2 included; for small boxes that matters."""
