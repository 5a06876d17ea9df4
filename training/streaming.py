"""A job's frames out of the database as formats take them: a chunk of frames at a time, in two queries."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

from django.conf import settings

from labeling.datasets.models import LabelClass
from labeling.jobs.models import Detection, Frame, ProcessingJob
from labeling.review.filters import AnnotationFilter
from pipeline.storage.layout import SequenceLayout
from training.formats.base import Box3D, ExportAnnotation, ExportClass, ExportFrame
from training.formats.masks import CroppedMask

FRAME_COLUMNS = (
    "id",
    "sequence_id",
    "number",
    "timestamp_ns",
    "width",
    "height",
    "image_extension",
    "has_depth",
    "gravity",
)
DETECTION_COLUMNS = (
    "id",
    "frame_id",
    "instance",
    "label_class_id",
    "track__number",
    "confidence",
    "x",
    "y",
    "width",
    "height",
    "area",
    *Detection.BOX_COLUMNS,
    "truncated",
    "occluded",
    "source",
    "version",
    "mask__left",
    "mask__top",
    "mask__width",
    "mask__height",
    "mask__counts",
)


def label_classes(job: ProcessingJob, filters: AnnotationFilter) -> dict[int, ExportClass]:
    """By primary key: the classes the job looked for or found, without those the filter leaves out."""
    used = Detection.objects.filter(job=job).values("label_class")
    rows = LabelClass.objects.filter(pk__in=used)
    wanted = [item["number"] for item in job.classes if "number" in item]
    rows = rows | LabelClass.objects.filter(dataset=job.dataset_id, number__in=wanted)
    rows = rows.exclude(number__in=filters.excluded_class_ids).order_by("number", "pk")
    return {row.pk: ExportClass(row.number, row.name) for row in rows}


class _Places:
    """The folders of a sequence as strings: making a Path for every file would double the cost of reading a frame."""

    def __init__(self, root: Path) -> None:
        layout = SequenceLayout(root)
        self.name = root.name
        self.image_left = str(layout.image_left(0).parent)
        self.depth = str(layout.depth(0).parent)
        self.calib = str(layout.calib(0).parent)
        self.velodyne = str(layout.velodyne(0).parent)
        self.masks = str(layout.masks)


class FrameReader:
    """Reads what chunks of frames hold. Memory does not depend on how many there are."""

    def __init__(self, job: ProcessingJob, filters: AnnotationFilter) -> None:
        self.classes = label_classes(job, filters)
        root = Path(settings.JOBS_ROOT) / str(job.pk)
        self._places = {pk: _Places(root / name) for pk, name in job.sequences.values_list("pk", "name")}
        self._filters = AnnotationFilter(filters.excluded_class_ids, (), (), filters.min_confidence)
        self._excluded = set(filters.excluded_annotation_ids)

    def read(self, frame_ids: Sequence[UUID]) -> Iterator[ExportFrame]:
        """The frames in the order of their ids as given, each with its annotations by instance."""
        frames = {row[0]: row for row in Frame.objects.filter(pk__in=frame_ids).values_list(*FRAME_COLUMNS)}
        rows = Detection.objects.filter(frame__in=frame_ids, camera=Detection.Camera.LEFT)
        found: dict[UUID, list[Any]] = {pk: [] for pk in frame_ids}
        for row in self._filters.detections(rows).values_list(*DETECTION_COLUMNS).order_by("instance", "id").iterator():
            if row[0] not in self._excluded:
                found[row[1]].append(row)
        for pk in frame_ids:
            yield self._frame(frames[pk], found.pop(pk))

    def _frame(self, row: tuple[Any, ...], detections: list[Any]) -> ExportFrame:
        _, sequence, number, timestamp_ns, width, height, extension, has_depth, gravity = row
        places, stem = self._places[sequence], f"{number:06d}"
        calib, velodyne = f"{places.calib}/{stem}.txt", f"{places.velodyne}/{stem}.bin"
        return ExportFrame(
            sequence=places.name,
            number=number,
            timestamp_ns=timestamp_ns,
            width=width,
            height=height,
            gravity=gravity,
            image=f"{places.image_left}/{stem}.{extension}",
            depth=f"{places.depth}/{stem}.npy" if has_depth else None,
            calib=calib if os.path.exists(calib) else None,  # noqa: PTH110 - three times as fast
            velodyne=velodyne if os.path.exists(velodyne) else None,  # noqa: PTH110
            annotations=[self._annotation(item, f"{places.masks}/{stem}") for item in detections],
        )

    def _annotation(self, row: tuple[Any, ...], masks: str) -> ExportAnnotation:
        _, _, instance, class_pk, track, confidence, x, y, width, height, area, *box, source, version = row[:22]
        left, top, mask_width, mask_height, counts = row[22:]
        x_m, y_m, z_m, height_m, width_m, length_m, rotation_y, truncated, occluded = box
        label_class = self.classes[class_pk]
        # The file of a mask that a person has drawn or changed is not the segmenter's any more.
        untouched = source == Detection.Source.MODEL and version == 1 and counts is not None
        return ExportAnnotation(
            class_id=label_class.id,
            class_name=label_class.name,
            bbox_xywh=(x, y, width, height),
            confidence=confidence,
            area=area,
            mask=None if counts is None else CroppedMask(left, top, mask_width, mask_height, counts),
            mask_path=f"{masks}_{instance}.png" if untouched else None,
            box=None if x_m is None else Box3D((x_m, y_m, z_m), (height_m, width_m, length_m), rotation_y),
            truncated=truncated,
            occluded=occluded,
            track_id=track,
        )
