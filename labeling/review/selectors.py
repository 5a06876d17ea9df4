"""What review reads: statistics per class, frames with what was found in them."""

import uuid
from collections.abc import Iterable, Sequence
from typing import Any

from django.db.models import Avg, Count, Max, Min, OuterRef, QuerySet, Subquery
from django.db.models.functions import Coalesce
from django.urls import reverse

from accounts.models import User
from labeling.datasets.models import LabelClass
from labeling.jobs.models import Detection, Frame, ProcessingJob
from labeling.jobs.models import Sequence as JobSequence
from labeling.review.filters import AnnotationFilter

DETECTION_COLUMNS = (
    "id",
    "frame_id",
    "camera",
    "instance",
    "label_class_id",
    "label_class__number",
    "label_class__name",
    "label_class__color",
    "track__number",
    "confidence",
    "x",
    "y",
    "width",
    "height",
    "area",
    "top_predictions",
    "quality",
    "stability",
    "margin",
    "agreement",
    *Detection.BOX_COLUMNS,
    "box_sigma",
    "truncated",
    "occluded",
    "points_used",
    "source",
    "prompted_segmenter",
    "confirmed_at",
    "version",
)
MASK_COLUMNS = ("mask__left", "mask__top", "mask__width", "mask__height", "mask__counts")


def class_statistics(job: ProcessingJob, filters: AnnotationFilter | None = None) -> list[dict[str, Any]]:
    """Per class: detections, frames they are in, average, least and greatest confidence. One aggregate."""
    rows = (filters or AnnotationFilter()).detections(Detection.objects.filter(job=job).order_by())
    grouped = rows.values("label_class__number", "label_class__name", "label_class__color").annotate(
        total_count=Count("pk"),
        frame_count=Count("frame", distinct=True),
        average_confidence=Avg("confidence"),
        min_confidence=Min("confidence"),
        max_confidence=Max("confidence"),
    )
    return [
        {
            "class_id": row.pop("label_class__number"),
            "class_name": row.pop("label_class__name"),
            "color": row.pop("label_class__color"),
            **row,
        }
        for row in grouped.order_by("label_class__number")
    ]


def totals(statistics: Iterable[dict[str, Any]], job: ProcessingJob, filters: AnnotationFilter) -> dict[str, int]:
    """Detections counted, and frames that the filter leaves."""
    return {
        "total_annotations": sum(row["total_count"] for row in statistics),
        "total_frames": filters.frames(job.frames.order_by()).count(),
    }


def frames(user: User) -> QuerySet[Frame]:
    """Frames of the jobs `user` may see, with their sequence."""
    return Frame.objects.filter(job__in=ProcessingJob.objects.for_user(user)).select_related("sequence", "job")


def frames_of(job: ProcessingJob) -> QuerySet[Frame]:
    return Frame.objects.filter(job=job).select_related("sequence", "job")


def frame_entries(job: ProcessingJob) -> QuerySet[Frame]:
    """The frames of `job` with `detection_count` and `confirmed_count`, for lists."""
    found = Detection.objects.filter(frame=OuterRef("pk")).order_by().values("frame").annotate(count=Count("pk"))
    confirmed = found.filter(confirmed_at__isnull=False)
    return frames_of(job).annotate(
        detection_count=Coalesce(Subquery(found.values("count")), 0),
        confirmed_count=Coalesce(Subquery(confirmed.values("count")), 0),
    )


def frame_batch(rows: Sequence[Frame], *, masks: bool = True) -> list[dict[str, Any]]:
    """`rows` as JSON values, each with its detections; two queries however many rows."""
    columns = DETECTION_COLUMNS + (MASK_COLUMNS if masks else ())
    found: dict[uuid.UUID, list[dict[str, Any]]] = {row.pk: [] for row in rows}
    down = {row.pk: row.gravity for row in rows}
    detections = Detection.objects.filter(frame__in=list(found)).order_by("camera", "instance", "pk")
    for row in detections.values_list(*columns):
        values = dict(zip(columns, row, strict=True))
        found[values["frame_id"]].append(detection_json(values, down[values["frame_id"]]))
    return [frame_json(row) | {"detections": found[row.pk]} for row in rows]


def detections(user: User) -> QuerySet[Detection]:
    """Detections of the jobs `user` may see, with what is asked of them when one is changed."""
    rows = Detection.objects.filter(job__in=ProcessingJob.objects.for_user(user))
    return rows.select_related("job", "frame", "label_class")


def detection_values(rows: QuerySet[Detection]) -> dict[int, dict[str, Any]]:
    """`rows` as JSON values by id, as the frames hold them. One query."""
    columns = (*DETECTION_COLUMNS, *MASK_COLUMNS, "frame__gravity")
    values = (dict(zip(columns, row, strict=True)) for row in rows.values_list(*columns))
    return {row["id"]: detection_json(row, row["frame__gravity"]) for row in values}


def label_classes(job: ProcessingJob) -> QuerySet[LabelClass]:
    """What a detection of `job` may be: the classes of its dataset, or the catalogue's."""
    return LabelClass.objects.filter(dataset=job.dataset_id).order_by("number")


def frame_json(frame: Frame) -> dict[str, Any]:
    """A frame without its detections. Addresses of media change when their content may have."""
    revision = media_revision(frame)

    def media(kind: str) -> str:
        return f"{reverse('frame-media', args=[frame.pk, kind])}?v={revision}"

    return {
        "id": str(frame.pk),
        "job": str(frame.job_id),
        "sequence": str(frame.sequence_id),
        "sequence_name": frame.sequence.name,
        "number": frame.number,
        "source_index": frame.source_index,
        "timestamp_ns": frame.timestamp_ns,
        "width": frame.width,
        "height": frame.height,
        "dhash": frame.dhash,
        "motion_score": frame.motion_score,
        "depth_coverage": frame.depth_coverage,
        "uncertainty": frame.uncertainty,
        "processing_time": frame.processing_time,
        "version": frame.version,
        "media": {
            "left": media("left"),
            "right": media("right") if frame.has_right else None,
            "depth": media("depth") if frame.has_depth else None,
            "uncertainty": media("uncertainty") if frame.uncertainty is not None else None,
            "thumbnail": media("thumbnail"),
        },
    }


def media_revision(frame: Frame) -> str:
    """Part of every media address: a job that is restarted makes its images anew."""
    started = frame.job.started_at
    return f"{int(started.timestamp()) if started else 0:x}-{frame.version}"


def detection_json(row: dict[str, Any], down: list[float] | None) -> dict[str, Any]:
    """`down` is the frame's gravity, along which its 3D boxes stand; None: along the camera's y."""
    has_box = row["location_x"] is not None
    mask = None
    if row.get("mask__counts") is not None:
        mask = {
            "left": row["mask__left"],
            "top": row["mask__top"],
            "size": [row["mask__height"], row["mask__width"]],
            "counts": row["mask__counts"],
        }
    return {
        "id": row["id"],
        "camera": row["camera"],
        "instance": row["instance"],
        "class_id": row["label_class__number"],
        "class_name": row["label_class__name"],
        "color": row["label_class__color"],
        "confidence": row["confidence"],
        "bbox": [row["x"], row["y"], row["width"], row["height"]],
        "area": row["area"],
        "mask": mask,
        "box_3d": {
            "location": [row["location_x"], row["location_y"], row["location_z"]],
            "dimensions_hwl": [row["height_m"], row["width_m"], row["length_m"]],
            "rotation_y": row["rotation_y"],
            "down": down,
            "sigma": row["box_sigma"],
            "points_used": row["points_used"],
        }
        if has_box
        else None,
        "truncated": row["truncated"],
        "occluded": row["occluded"],
        "track_id": row["track__number"],
        "top_predictions": row["top_predictions"],
        "quality": row["quality"],
        "stability": row["stability"],
        "margin": row["margin"],
        "agreement": row["agreement"],
        "source": row["source"],
        "prompted_segmenter": row["prompted_segmenter"],
        "confirmed": row["confirmed_at"] is not None,
        "version": row["version"],
    }


def sequence_overview(job: ProcessingJob) -> list[dict[str, Any]]:
    """The sequences of a job with how many frames they kept, and their camera. One query."""
    rows = JobSequence.objects.filter(job=job).annotate(frame_count=Count("frames")).order_by("position")
    return [
        {
            "id": str(row.pk),
            "name": row.name,
            "frame_count": row.frame_count,
            "camera": row.camera,
            "metric": row.metric,
        }
        for row in rows
    ]
