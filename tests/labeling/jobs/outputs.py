"""What a job leaves, in a form that can be compared with what another leaves."""

import hashlib
from pathlib import Path
from typing import Any

from labeling.jobs.models import Detection, Frame, ProcessingJob, Track


def tree_of(folder: Path) -> dict[str, str]:
    """SHA-256 of each file by its path, journals left out."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and ".journal" not in path.parts
    }


def rows_of(job: ProcessingJob) -> dict[str, list[Any]]:
    """All rows of a job without ids of their own and without timing."""
    frames = Frame.objects.filter(job=job).order_by("sequence__position", "number")
    detections = Detection.objects.filter(job=job).order_by("frame__sequence__position", "frame__number", "instance")
    tracks = Track.objects.filter(sequence__job=job).order_by("sequence__position", "number")
    return {
        "frames": list(frames.values_list(*_columns(Frame, "id", "job", "sequence", "processing_time"))),
        "detections": list(
            detections.values_list(
                "frame__sequence__name",
                "frame__number",
                "track__number",
                "mask__left",
                "mask__top",
                "mask__width",
                "mask__height",
                "mask__counts",
                *_columns(Detection, "id", "job", "frame", "track"),
            )
        ),
        "tracks": list(tracks.values_list(*_columns(Track, "id", "sequence"))),
    }


def _columns(model: Any, *left_out: str) -> list[str]:
    return [field.name for field in model._meta.concrete_fields if field.name not in left_out]
