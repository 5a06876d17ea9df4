"""Give the detections of a sequence persistent track ids: ByteTrack in space, in the image where there is no depth.

tracks.json:
    {"version": 1, "tracks": [{"track_id", "class_id", "class_name", "first_frame", "last_frame", "length",
        "detections": [{"frame", "instance", "class_id", "class_name", "confidence", "bbox": [x, y, w, h],
            "location": [x, y, z] | null, "dimensions_hwl": [h, w, l] | null, "rotation_y": float | null}, ...]}, ...]}
Tracks are by id, detections by frame; boxes are in pixels, places and sizes in metres, as in BoxRecord. The class of a
track is that of most of its detections (of several, the one with more confidence in all); a detection keeps its own.
"""

import json
import tempfile
import time
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final, Generic, TypeVar

import numpy as np

from pipeline.stages.base import StageContext
from pipeline.stages.plan import REQUIRES, WEIGHTS
from pipeline.storage.atomic import atomic_open
from pipeline.storage.journal import Commit
from pipeline.storage.layout import SequenceLayout
from pipeline.storage.records import BoxRecord, DetectionRecord, TrackRecord
from pipeline.storage.sequence import read_boxes, read_detections, read_frames, read_tracks
from pipeline.tracking.byte_track_3d import CUBOID, ByteTracker3D

TRACKS_VERSION: Final = 1
NO_BOX: Final = BoxRecord(number=-1, instance=-1)

Numbered = TypeVar("Numbered", DetectionRecord, BoxRecord, TrackRecord)


@dataclass(frozen=True, slots=True)
class Tracking:
    """ByteTrack over the detections of all kept frames.

    confidence_threshold: that of the job; what is less confident is not there any more. ByteTrack wants a second
    threshold above it, from which a detection may start a track: a fifth of the way up to 1, which at the default of
    0.5 is the authors' 0.6. What lies between the two only continues tracks. Detections that belong to no track, those
    seen in a single frame among them, get the track id None.
    buffer: frames a track may stay unseen before its id is given up.
    """

    confidence_threshold: float = 0.5
    buffer: int = 30

    name: ClassVar[str] = "tracking"
    requires: ClassVar[tuple[str, ...]] = REQUIRES["tracking"]
    weight: ClassVar[int] = WEIGHTS["tracking"]

    def total(self, context: StageContext) -> int:
        """Number of kept frames."""
        return sum(1 for _ in read_frames(context.layout))

    def run(self, context: StageContext, cursor: int, state: dict[str, Any]) -> Iterator[Commit]:
        """Yield a commit for every kept frame from `cursor` on.

        The tracker's state is a function of the frames before, so a resumed run goes through these again without
        yielding (thousands of frames a second) instead of carrying its arrays through every commit.
        """
        start = time.perf_counter()
        for done, records in enumerate(self._tracked(context.layout), start=1):
            if done > cursor:
                now = time.perf_counter()
                yield Commit(cursor=done, records=[record.to_json() for record in records], elapsed_s=now - start)
                start = time.perf_counter()

    def finish(self, context: StageContext) -> None:
        """Write tracks.json from the journals."""
        layout = context.layout
        boxes = _ByFrame(read_boxes(layout))
        tracks: dict[int, _Summary] = {}
        # What belongs to one track is scattered over the frames: it goes through a file, so that memory holds offsets.
        with tempfile.TemporaryFile() as spool, atomic_open(layout.tracks) as out:
            for detection, track in zip(read_detections(layout), read_tracks(layout), strict=True):
                if track.track_id is not None:
                    box = boxes.of(detection.number).get(detection.instance, NO_BOX)
                    tracks.setdefault(track.track_id, _Summary()).add(detection, spool.tell())
                    spool.write(_dump(_entry(detection, box)) + b"\n")
            out.write(b'{"version":%d,"tracks":[' % TRACKS_VERSION)
            for number, track_id in enumerate(sorted(tracks)):
                summary = tracks[track_id]
                head = _dump({"track_id": track_id, **summary.to_json()})
                out.write((b",\n" if number else b"\n") + head[:-1] + b',"detections":[')
                for place, offset in enumerate(summary.offsets):
                    spool.seek(offset)
                    out.write((b",\n " if place else b"\n ") + spool.readline().rstrip(b"\n"))
                out.write(b"]}")
            out.write(b"\n]}\n")

    def _tracked(self, layout: SequenceLayout) -> Iterator[list[TrackRecord]]:
        """The records of one frame after the other. Each waits for the next frame, which confirms its new tracks."""
        start_threshold = self.confidence_threshold + (1 - self.confidence_threshold) / 5
        tracker = ByteTracker3D(
            start_threshold, buffer=self.buffer, new_track_threshold=start_threshold, class_mismatch_factor=0.7
        )
        detections, boxes = _ByFrame(read_detections(layout)), _ByFrame(read_boxes(layout))
        published: dict[int, int] = {}

        def publish(frame: list[DetectionRecord], ids: list[int], stands: list[bool]) -> list[TrackRecord]:
            return [
                TrackRecord(seen.number, seen.instance, published.setdefault(track, len(published) + 1) if ok else None)
                for seen, track, ok in zip(frame, ids, stands, strict=True)
            ]

        before: tuple[list[DetectionRecord], list[int], list[bool]] | None = None
        for frame in read_frames(layout):
            seen = list(detections.of(frame.number).values())
            places = boxes.of(frame.number)
            corners = np.array([detection.bbox_xywh for detection in seen], np.float64).reshape(-1, 4)
            corners[:, 2:] += corners[:, :2]
            ids = tracker.update(
                corners,
                [detection.confidence for detection in seen],
                [detection.class_id for detection in seen],
                np.array([_cuboid(places.get(one.instance, NO_BOX)) for one in seen]).reshape(-1, len(CUBOID)),
            ).tolist()
            if before is not None:
                shown, known, stood = before
                again = tracker.is_confirmed(known)
                yield publish(shown, known, [a or b for a, b in zip(stood, again, strict=True)])
            before = seen, ids, tracker.is_confirmed(ids)
        if before is not None:
            yield publish(*before)


class _ByFrame(Generic[Numbered]):
    """Records that come ordered by frame, a frame at a time: asked for with growing frame numbers."""

    def __init__(self, records: Iterable[Numbered]) -> None:
        self._records: Iterator[Numbered] = iter(records)
        self._next: Numbered | None = next(self._records, None)
        self._number = -1
        self._current: dict[int, Numbered] = {}

    def of(self, number: int) -> dict[int, Numbered]:
        """By instance; empty where the frame has none."""
        if number != self._number:
            self._number, self._current = number, {}
            while self._next is not None and self._next.number <= number:
                if self._next.number == number:
                    self._current[self._next.instance] = self._next
                self._next = next(self._records, None)
        return self._current


@dataclass(slots=True)
class _Summary:
    """What is remembered of a track while its detections lie in the spool."""

    first: int = -1
    last: int = -1
    offsets: "array[int]" = field(default_factory=lambda: array("q"))
    names: dict[int, str] = field(default_factory=dict)
    votes: Counter[int] = field(default_factory=Counter)
    confidence: dict[int, float] = field(default_factory=dict)

    def add(self, detection: DetectionRecord, offset: int) -> None:
        if not self.offsets:
            self.first = detection.number
        self.last = detection.number
        self.offsets.append(offset)
        self.names[detection.class_id] = detection.class_name
        self.votes[detection.class_id] += 1
        self.confidence[detection.class_id] = self.confidence.get(detection.class_id, 0.0) + detection.confidence

    def to_json(self) -> dict[str, Any]:
        class_id = max(
            self.votes, key=lambda candidate: (self.votes[candidate], self.confidence[candidate], -candidate)
        )
        return {
            "class_id": class_id,
            "class_name": self.names[class_id],
            "first_frame": self.first,
            "last_frame": self.last,
            "length": len(self.offsets),
        }


def _entry(detection: DetectionRecord, box: BoxRecord) -> dict[str, Any]:
    return {
        "frame": detection.number,
        "instance": detection.instance,
        "class_id": detection.class_id,
        "class_name": detection.class_name,
        "confidence": detection.confidence,
        "bbox": detection.bbox_xywh,
        "location": box.location,
        "dimensions_hwl": box.dimensions_hwl,
        "rotation_y": box.rotation_y,
    }


def _cuboid(box: BoxRecord) -> list[float]:
    if box.location is None or box.dimensions_hwl is None or box.rotation_y is None:
        return [np.nan] * len(CUBOID)
    return [*box.location, *box.dimensions_hwl, box.rotation_y]


def _dump(value: dict[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":"), allow_nan=False).encode()
