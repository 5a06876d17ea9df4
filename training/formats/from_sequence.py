"""The frames of a finished sequence folder, ready for export, without any database."""

from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Generic, TypeVar

from pipeline.stages.labels import settled
from pipeline.storage.layout import SequenceLayout
from pipeline.storage.records import BoxRecord, DetectionRecord, FrameRecord, TrackRecord
from pipeline.storage.sequence import image_path, read_boxes, read_detections, read_frames, read_tracks
from training.formats.base import Box3D, ExportAnnotation, ExportFrame
from training.formats.masks import CroppedMask

RecordOfFrame = TypeVar("RecordOfFrame", BoxRecord, DetectionRecord, TrackRecord)


def read_export_frames(layout: SequenceLayout) -> Iterator[ExportFrame]:
    """Every kept frame with its annotations, in order. Streams: one frame at a time is in memory."""
    boxes = _Ahead(read_boxes(layout))
    tracks = _Ahead(read_tracks(layout))
    detections = _Ahead(read_detections(layout))
    for frame in read_frames(layout):
        track_of = {track.instance: track for track in tracks.of(frame.number)}
        by_instance = {box.instance: settled(box, track_of.get(box.instance)) for box in boxes.of(frame.number)}
        yield _export_frame(layout, frame, detections.of(frame.number), by_instance, track_of)


class _Ahead(Generic[RecordOfFrame]):
    """Records ordered by frame, handed out frame by frame."""

    def __init__(self, records: Iterable[RecordOfFrame]) -> None:
        self._groups: Iterator[tuple[int, Iterator[RecordOfFrame]]] = groupby(records, key=lambda each: each.number)
        self._next: tuple[int, list[RecordOfFrame]] | None = self._advance()

    def _advance(self) -> tuple[int, list[RecordOfFrame]] | None:
        number, group = next(self._groups, (None, None))
        return None if number is None or group is None else (number, list(group))

    def of(self, number: int) -> list[RecordOfFrame]:
        while self._next is not None and self._next[0] < number:
            self._next = self._advance()
        return self._next[1] if self._next is not None and self._next[0] == number else []


def _export_frame(
    layout: SequenceLayout,
    frame: FrameRecord,
    detections: list[DetectionRecord],
    boxes: dict[int, BoxRecord],
    tracks: dict[int, TrackRecord],
) -> ExportFrame:
    return ExportFrame(
        sequence=layout.root.name,
        number=frame.number,
        timestamp_ns=frame.timestamp_ns,
        width=frame.width,
        height=frame.height,
        image=str(image_path(layout, frame)),
        gravity=frame.gravity,
        depth=_existing(layout.depth(frame.number)) if frame.has_depth else None,
        calib=_existing(layout.calib(frame.number)),
        velodyne=_existing(layout.velodyne(frame.number)),
        annotations=[
            _annotation(layout, each, boxes.get(each.instance), tracks.get(each.instance)) for each in detections
        ],
    )


def _annotation(
    layout: SequenceLayout, detection: DetectionRecord, box: BoxRecord | None, track: TrackRecord | None
) -> ExportAnnotation:
    x, y, width, height = detection.bbox_xywh
    return ExportAnnotation(
        class_id=detection.class_id,
        class_name=detection.class_name,
        bbox_xywh=(x, y, width, height),
        confidence=detection.confidence,
        area=detection.area,
        mask=CroppedMask.from_full_frame(detection.rle),
        mask_path=_existing(layout.mask(detection.number, detection.instance)),
        box=_box(box),
        truncated=box.truncated if box else 0.0,
        occluded=box.occluded if box else 0,
        track_id=track.track_id if track else None,
    )


def _box(box: BoxRecord | None) -> Box3D | None:
    if box is None or box.location is None or box.dimensions_hwl is None or box.rotation_y is None:
        return None
    (x, y, z), (height, width, length) = box.location, box.dimensions_hwl
    return Box3D((x, y, z), (height, width, length), box.rotation_y)


def _existing(path: Path) -> str | None:
    return str(path) if path.exists() else None
