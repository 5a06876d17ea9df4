"""Images of frames for looking at: originals, depth and uncertainty in colours, thumbnails. Each is made once."""

import json
from pathlib import Path
from typing import Final

from django.conf import settings
from django.http import HttpRequest, HttpResponseBase

from core.errors import NotFoundError
from core.media import ranged_response
from labeling.jobs.models import Frame
from labeling.review.selectors import media_revision
from pipeline.storage.atomic import write_bytes, write_json
from pipeline.storage.layout import SequenceLayout

THUMBNAIL_WIDTH: Final = 288
CONTENT_TYPES: Final = {"png": "image/png", "jpg": "image/jpeg", "jpeg": "image/jpeg"}
SCALE_FRAMES: Final = 5
"""Depth maps of a sequence from which its colour scale is taken."""


def image_response(request: HttpRequest, frame: Frame, eye: str) -> HttpResponseBase:
    """The rectified image of one eye, as the job wrote it. Raises NotFoundError."""
    place = _layout(frame).image_left if eye == "left" else _layout(frame).image_right
    if eye not in ("left", "right") or (eye == "right" and not frame.has_right):
        raise NotFoundError(f"The frame has no {eye} image.")
    path = place(frame.number, frame.image_extension)
    return _respond(request, frame, path, CONTENT_TYPES[frame.image_extension])


def thumbnail_response(request: HttpRequest, frame: Frame) -> HttpResponseBase:
    """The left image, THUMBNAIL_WIDTH wide, as JPEG."""
    path = _kept(frame, "thumbnails")
    if not path.exists():
        from labeling.review import pictures

        image = _layout(frame).image_left(frame.number, frame.image_extension)
        write_bytes(path, pictures.thumbnail(image, frame.width, THUMBNAIL_WIDTH), shared=True)
    return _respond(request, frame, path, "image/jpeg")


def depth_response(request: HttpRequest, frame: Frame) -> HttpResponseBase:
    """Depth in colours, near is warm, as JPEG; the scale is one for the whole sequence. Holes are dark."""
    if not frame.has_depth:
        raise NotFoundError("The frame has no depth.")
    path = _kept(frame, "depth")
    if not path.exists():
        from labeling.review import pictures

        write_bytes(path, pictures.depth_picture(_layout(frame).depth(frame.number), **depth_scale(frame)), shared=True)
    return _respond(request, frame, path, "image/jpeg")


def uncertainty_response(request: HttpRequest, frame: Frame) -> HttpResponseBase:
    """The frame's uncertainty map in colours, as JPEG: dark where certain, bright where not."""
    if frame.uncertainty is None:
        raise NotFoundError("The frame has no uncertainty map.")
    path = _kept(frame, "uncertainty")
    if not path.exists():
        from labeling.review import pictures

        write_bytes(path, pictures.uncertainty_picture(_layout(frame).uncertainty(frame.number)), shared=True)
    return _respond(request, frame, path, "image/jpeg")


def depth_scale(frame: Frame) -> dict[str, float]:
    """{"near", "far"} in metres: between them lie 96 % of the depths in some frames of the sequence."""
    path = _kept(frame, "depth").parents[1] / "depth_scale.json"
    if path.exists():
        value: dict[str, float] = json.loads(path.read_text())
        return value
    from labeling.review import pictures

    with_depth = Frame.objects.filter(sequence=frame.sequence_id, has_depth=True).order_by("number")
    numbers = list(with_depth.values_list("number", flat=True))
    chosen = numbers[:: max(1, len(numbers) // SCALE_FRAMES)][:SCALE_FRAMES]
    scale = pictures.depth_range(_layout(frame).depth(number) for number in chosen)
    write_json(path, scale, shared=True)
    return scale


def left_image(frame: Frame) -> Path:
    """Where the rectified left image lies."""
    return _layout(frame).image_left(frame.number, frame.image_extension)


def _respond(request: HttpRequest, frame: Frame, path: Path, content_type: str) -> HttpResponseBase:
    immutable = request.GET.get("v") == media_revision(frame)
    return ranged_response(request, path, content_type, immutable=immutable)


def _layout(frame: Frame) -> SequenceLayout:
    return SequenceLayout(Path(settings.JOBS_ROOT) / str(frame.job_id) / frame.sequence.name)


def _kept(frame: Frame, kind: str) -> Path:
    """Where what is made of a frame is kept; a restarted job has another place."""
    root = Path(settings.MEDIA_ROOT) / "previews" / str(frame.job_id) / media_revision(frame)
    return root / frame.sequence.name / kind / f"{frame.number:06d}.jpg"
