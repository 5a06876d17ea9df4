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
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from pipeline.geometry.kitti import format_labels
from pipeline.segmentation.rle import decode
from pipeline.stages.base import StageContext
from pipeline.stages.by_frame import ByFrame
from pipeline.stages.labels import how_seen, kitti_label, settled
from pipeline.stages.ordered import ordered_map
from pipeline.stages.plan import REQUIRES, WEIGHTS
from pipeline.stages.track_refinement import Pose, read_poses, with_hindsight
from pipeline.storage.atomic import atomic_open, write_text
from pipeline.storage.journal import Commit
from pipeline.storage.layout import SequenceLayout
from pipeline.storage.records import BoxRecord, DetectionRecord, TrackRecord
from pipeline.storage.sequence import (
    SequenceFileError,
    load_depth,
    read_boxes,
    read_camera,
    read_detections,
    read_frames,
    read_tracks,
)
from pipeline.tracking.byte_track_3d import CUBOID, ByteTracker3D

TRACKS_VERSION: Final = 1
NO_BOX: Final = BoxRecord(number=-1, instance=-1)


@dataclass(frozen=True, slots=True)
class Tracking:
    """ByteTrack over the detections of all kept frames; then, with hindsight, pieces are linked and boxes refined.

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

        Boxes are refined over whole tracks, so all frames are gone through before the first commit (hundreds of frames
        a second). A resumed run does that again instead of carrying its arrays through every commit.
        """
        start = time.perf_counter()
        poses = list(read_poses(context.layout))
        tracked = list(self._tracked(context.layout, poses))
        tracked, refined = with_hindsight(context, poses, tracked)
        worker = _Looking(context, refined)
        detections = ByFrame(read_detections(context.layout))
        inputs = (
            (pose, detections.of(pose.frame.number), records)
            for done, (pose, records) in enumerate(zip(poses, tracked, strict=True), start=1)
            if done > cursor
        )
        with (
            ThreadPoolExecutor(max(1, context.workers), thread_name_prefix="tracking") as pool,
            closing(ordered_map(pool, worker.look, inputs, max(1, context.workers) + 1)) as results,
        ):
            for done, records in enumerate(results, start=cursor + 1):
                now = time.perf_counter()
                yield Commit(cursor=done, records=[record.to_json() for record in records], elapsed_s=now - start)
                start = time.perf_counter()

    def finish(self, context: StageContext) -> None:
        """Write tracks.json, and label_2 anew with the boxes as they stand in the end, from the journals."""
        layout = context.layout
        boxes, detections, records = (
            ByFrame(read_boxes(layout)), ByFrame(read_detections(layout)), ByFrame(read_tracks(layout))
        )  # fmt: skip
        tracks: dict[int, _Summary] = {}
        # What belongs to one track is scattered over the frames: it goes through a file, so that memory holds offsets.
        with tempfile.TemporaryFile() as spool, atomic_open(layout.tracks) as out:
            for frame in read_frames(layout):
                labels = []
                of_frame, places = records.of(frame.number), boxes.of(frame.number)
                for instance, detection in detections.of(frame.number).items():
                    track = of_frame.get(instance)
                    box = settled(places[instance], track) if instance in places else NO_BOX
                    labels.append(kitti_label(detection, box))
                    if track is not None and track.track_id is not None:
                        tracks.setdefault(track.track_id, _Summary()).add(detection, spool.tell())
                        spool.write(_dump(_entry(detection, box)) + b"\n")
                if places or not labels:  # a frame that reconstruction had to leave out has no labels
                    write_text(layout.label(frame.number), format_labels(labels))
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

    def _tracked(self, layout: SequenceLayout, poses: Sequence[Pose]) -> Iterator[list[TrackRecord]]:
        """The records of one frame after the other. Each waits for the next frame, which confirms its new tracks."""
        start_threshold = self.confidence_threshold + (1 - self.confidence_threshold) / 5
        tracker = ByteTracker3D(
            start_threshold, buffer=self.buffer, new_track_threshold=start_threshold, class_mismatch_factor=0.7
        )
        detections, boxes = ByFrame(read_detections(layout)), ByFrame(read_boxes(layout))
        published: dict[int, int] = {}

        def publish(frame: list[DetectionRecord], ids: list[int], stands: list[bool]) -> list[TrackRecord]:
            return [
                TrackRecord(seen.number, seen.instance, published.setdefault(track, len(published) + 1) if ok else None)
                for seen, track, ok in zip(frame, ids, stands, strict=True)
            ]

        before: tuple[list[DetectionRecord], list[int], list[bool]] | None = None
        for pose in poses:
            seen = list(detections.of(pose.frame.number).values())
            places = boxes.of(pose.frame.number)
            corners = np.array([detection.bbox_xywh for detection in seen], np.float64).reshape(-1, 4)
            corners[:, 2:] += corners[:, :2]
            ids = tracker.update(
                corners,
                [detection.confidence for detection in seen],
                [detection.class_id for detection in seen],
                np.array([_cuboid(pose, places.get(one.instance, NO_BOX)) for one in seen]).reshape(-1, len(CUBOID)),
                viewpoint=pose.stand.shift,
            ).tolist()
            if before is not None:
                shown, known, stood = before
                again = tracker.is_confirmed(known)
                yield publish(shown, known, [a or b for a, b in zip(stood, again, strict=True)])
            before = seen, ids, tracker.is_confirmed(ids)
        if before is not None:
            yield publish(*before)


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


def _cuboid(pose: Pose, box: BoxRecord) -> "NDArray[np.float64]":
    row = pose.row(box)
    return np.full(len(CUBOID), np.nan) if row is None else pose.in_world(row)


class _Looking:
    """Says of refined boxes how far they are truncated and occluded, which only the images tell."""

    def __init__(self, context: StageContext, refined: Mapping[tuple[int, int], TrackRecord]) -> None:
        self._layout, self._refined = context.layout, refined
        self._camera = read_camera(context.layout) if refined else None

    def look(self, item: tuple[Pose, dict[int, DetectionRecord], list[TrackRecord]]) -> list[TrackRecord]:
        """The frame's records, refined where they can be."""
        pose, detections, records = item
        found = [self._refined.get((record.number, record.instance), record) for record in records]
        if self._camera is None or all(record.box is None for record in found):
            return found
        try:
            depth = load_depth(self._layout, pose.frame.number)
        except SequenceFileError:
            depth = None
        result = []
        for record in found:
            if record.box is not None:
                mask = None if depth is None else decode(detections[record.instance].rle)
                if mask is not None and depth is not None and mask.shape != depth.shape:
                    mask = None
                seen = how_seen(np.array(record.box), self._camera.matrix, pose.frame, mask, depth)
                record = replace(record, truncated=seen[0], occluded=seen[1])
            result.append(record)
        return result


def _dump(value: dict[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":"), allow_nan=False).encode()
