"""From journals to rows. Each function stores the records of some commits; the caller holds the transaction.

A batch is stored together with the cursor that says so: once, or not at all.
"""

import uuid
from collections import Counter, defaultdict
from collections.abc import Sequence as Items
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from labeling.jobs.models import Detection, DetectionMask, Frame, ProcessingJob, Sequence, Track
from pipeline.storage.journal import Commit
from pipeline.storage.records import BoxRecord, DetectionRecord, FrameRecord, TrackRecord

BATCH = 500
BOX_FIELDS = (*Detection.BOX_COLUMNS, "box_sigma", "truncated", "occluded", "points_used")


def frame_id(sequence_id: uuid.UUID, number: int) -> uuid.UUID:
    """The id of a kept frame: the same whenever and however often it is stored."""
    return uuid.uuid5(sequence_id, str(number))


class Ingest:
    """Stores what the stages found in one sequence of a job."""

    def __init__(self, job: ProcessingJob, sequence: Sequence) -> None:
        self.job = job
        self.sequence = sequence
        self._class_ids = {item["number"]: item["id"] for item in job.classes}
        self._store = {
            "extraction": self._frames,
            "segmentation": self._detections,
            "reconstruction": self._boxes,
            "tracking": self._tracks,
        }

    def store(self, stage: str, commits: Items[Commit]) -> int | None:
        """Store the records of `commits`; gives the number of the newest frame they speak of."""
        if stage not in self._store:
            return None
        records = [record for commit in commits for record in commit.records]
        if records:
            self._store[stage](records)
        if stage == "extraction":
            self._frame_facts({record["number"]: commit for commit in commits for record in commit.records})
            numbers = [record["number"] for record in records]
        else:
            numbers = [commit.cursor - 1 for commit in commits]  # their input frames are the kept ones
            self._frame_facts({commit.cursor - 1: commit for commit in commits})
        return max(numbers, default=None)

    def finish(self, stage: str) -> None:
        """What can be said of a sequence only once its stage is done."""
        if stage == "tracking":
            self._settle_tracks()

    def _frames(self, values: Items[dict[str, Any]]) -> None:
        records = [FrameRecord.from_json(value) for value in values]
        Frame.objects.bulk_create(
            (
                Frame(
                    id=frame_id(self.sequence.pk, record.number),
                    job=self.job,
                    sequence=self.sequence,
                    number=record.number,
                    source_index=record.source_index,
                    timestamp_ns=record.timestamp_ns,
                    width=record.width,
                    height=record.height,
                    dhash=record.dhash,
                    motion_score=record.motion_score,
                    image_extension=record.image_extension,
                    has_right=record.has_right,
                    has_depth=record.has_depth,
                    depth_coverage=record.depth_coverage,
                    gravity=record.gravity,
                )
                for record in records
            ),
            batch_size=BATCH,
        )

    def _detections(self, values: Items[dict[str, Any]]) -> None:
        records = [DetectionRecord.from_json(value) for value in values]
        rows = Detection.objects.bulk_create(
            (
                Detection(
                    job=self.job,
                    frame_id=frame_id(self.sequence.pk, record.number),
                    instance=record.instance,
                    label_class_id=self._class_ids[record.class_id],
                    confidence=record.confidence,
                    x=record.bbox_xywh[0],
                    y=record.bbox_xywh[1],
                    width=record.bbox_xywh[2],
                    height=record.bbox_xywh[3],
                    area=record.area,
                    top_predictions=record.top_predictions,
                    quality=record.quality,
                    stability=record.stability,
                    margin=record.margin,
                    agreement=record.agreement,
                )
                for record in records
            ),
            batch_size=BATCH,
        )
        masks = (cropped_mask(record.rle) for record in records)
        DetectionMask.objects.bulk_create(
            (
                DetectionMask(detection_id=row.pk, **mask)
                for row, mask in zip(rows, masks, strict=True)
                if mask is not None
            ),
            batch_size=BATCH,
        )

    def _boxes(self, values: Items[dict[str, Any]]) -> None:
        records = [BoxRecord.from_json(value) for value in values]
        found = self._rows_of({record.number for record in records})
        changed = []
        for record in records:
            row = found.get((record.number, record.instance))
            if row is None or record.location is None:
                continue
            row.location_x, row.location_y, row.location_z = record.location
            row.height_m, row.width_m, row.length_m = record.dimensions_hwl or (None, None, None)
            row.rotation_y, row.box_sigma = record.rotation_y, record.sigma
            row.truncated, row.occluded, row.points_used = record.truncated, record.occluded, record.points_used
            changed.append(row)
        Detection.objects.bulk_update(changed, BOX_FIELDS, batch_size=50)

    def _tracks(self, values: Items[dict[str, Any]]) -> None:
        records = [record for value in values if (record := TrackRecord.from_json(value)).track_id is not None]
        found = self._rows_of({record.number for record in records})
        members = [(record, found[key]) for record in records if (key := (record.number, record.instance)) in found]
        tracks = {
            row.number: row for row in self.sequence.tracks.filter(number__in={item.track_id for item, _ in members})
        }
        for record, row in members:
            track = tracks.get(record.track_id)  # type: ignore[arg-type]
            if track is None:
                track = tracks[record.track_id] = Track(  # type: ignore[index]
                    sequence=self.sequence,
                    number=record.track_id,
                    label_class_id=row.label_class_id,
                    first_number=record.number,
                    last_number=record.number,
                )
            track.first_number = min(track.first_number, record.number)
            track.last_number = max(track.last_number, record.number)
            track.detection_count += 1
        Track.objects.bulk_create((row for row in tracks.values() if row.pk is None), batch_size=BATCH)
        known = [row for row in tracks.values() if row.pk is not None]
        Track.objects.bulk_update(known, ("first_number", "last_number", "detection_count"), batch_size=100)
        by_track: dict[int, list[int]] = defaultdict(list)
        for record, row in members:
            by_track[tracks[record.track_id].pk].append(row.pk)  # type: ignore[index]
        for track_pk, pks in by_track.items():
            Detection.objects.filter(pk__in=pks).update(track=track_pk)
        refined = []
        for record, row in members:
            if record.box is not None:
                for column, value in zip(Detection.BOX_COLUMNS, record.box, strict=True):
                    setattr(row, column, value)
                row.box_sigma = record.sigma
                row.truncated = row.truncated if record.truncated is None else record.truncated
                row.occluded = row.occluded if record.occluded is None else record.occluded
                refined.append(row)
        Detection.objects.bulk_update(refined, BOX_FIELDS, batch_size=50)

    def _settle_tracks(self) -> None:
        """A track's class is the one its detections vote for, each with its confidence."""
        votes: dict[int, Counter[int]] = defaultdict(Counter)
        rows = Detection.objects.filter(track__sequence=self.sequence).values_list("track", "label_class", "confidence")
        for track, label_class, confidence in rows.iterator():
            votes[track][label_class] += confidence
        tracks = list(self.sequence.tracks.all())
        for track in tracks:
            if votes[track.pk]:
                track.label_class_id = max(votes[track.pk].items(), key=lambda item: (item[1], -item[0]))[0]
        Track.objects.bulk_update(tracks, ("label_class",), batch_size=BATCH)

    def _rows_of(self, numbers: set[int]) -> dict[tuple[int, int], Detection]:
        """The stored detections of some frames, by frame number and instance."""
        ids = {frame_id(self.sequence.pk, number): number for number in numbers}
        rows = Detection.objects.filter(frame__in=ids, camera=Detection.Camera.LEFT, source=Detection.Source.MODEL)
        return {
            (ids[row.frame_id], row.instance): row
            for row in rows.only("frame_id", "instance", "label_class_id", *BOX_FIELDS)
        }

    def _frame_facts(self, commits: dict[int, Commit]) -> None:
        """What the commits, by frame number, say of their frame as a whole; processing times add up."""
        rows = Frame.objects.in_bulk([frame_id(self.sequence.pk, number) for number in commits])
        for number, commit in commits.items():
            if (row := rows.get(frame_id(self.sequence.pk, number))) is not None:
                row.processing_time = round(row.processing_time + commit.elapsed_s, 6)
                row.uncertainty = commit.frame.get("uncertainty", row.uncertainty)
        Frame.objects.bulk_update(rows.values(), ("processing_time", "uncertainty"), batch_size=BATCH)


def cropped_mask(rle: dict[str, Any]) -> dict[str, Any] | None:
    """A full-frame COCO RLE as the columns of DetectionMask; None if it is empty."""
    left, top, width, height = (int(value) for value in coco_mask.toBbox(rle))
    if not width or not height:
        return None
    whole = coco_mask.decode(rle)
    part = np.asfortranarray(whole[top : top + height, left : left + width])
    counts = coco_mask.encode(part)["counts"]
    text = counts.decode("ascii") if isinstance(counts, bytes) else counts
    return {"left": left, "top": top, "width": width, "height": height, "counts": text}
