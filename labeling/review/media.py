"""Images of frames for looking at: originals, depth in colours, masks, thumbnails. What is made is made once."""

import json
from pathlib import Path
from typing import Any, Final

import numpy as np
from django.conf import settings
from django.http import HttpRequest, HttpResponseBase
from numpy.typing import NDArray

from core.errors import NotFoundError
from core.media import ranged_response
from labeling.jobs.models import DetectionMask, Frame
from labeling.review.selectors import media_revision
from pipeline.storage.atomic import write_bytes, write_json
from pipeline.storage.layout import SequenceLayout

THUMBNAIL_WIDTH: Final = 288
DEPTH_WIDTH: Final = 1280
CONTENT_TYPES: Final = {"png": "image/png", "jpg": "image/jpeg", "jpeg": "image/jpeg"}
HOLE_BGR: Final = (34, 28, 24)
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
        write_bytes(path, _jpeg(_shrunk(_read_image(frame), THUMBNAIL_WIDTH), 82))
    return _respond(request, frame, path, "image/jpeg")


def depth_response(request: HttpRequest, frame: Frame) -> HttpResponseBase:
    """Depth in colours, near is warm, as JPEG; the scale is one for the whole sequence. Holes are dark."""
    if not frame.has_depth:
        raise NotFoundError("The frame has no depth.")
    path = _kept(frame, "depth")
    if not path.exists():
        scale = depth_scale(frame)
        depth = _read_depth(_layout(frame).depth(frame.number))
        step = max(1, depth.shape[1] // DEPTH_WIDTH)
        write_bytes(path, _jpeg(color_depth(depth[::step, ::step], scale["near"], scale["far"]), 88))
    return _respond(request, frame, path, "image/jpeg")


def mask_response(request: HttpRequest, frame: Frame, mask: DetectionMask) -> HttpResponseBase:
    """The mask as a PNG of the whole frame: 255 on the object."""
    import cv2
    from pycocotools import mask as coco

    path = _kept(frame, "masks").with_name(f"{mask.pk}-{mask.detection.version}.png")
    if not path.exists():
        pixels = np.zeros((frame.height, frame.width), dtype=np.uint8)
        part = coco.decode(mask.rle())
        pixels[mask.top : mask.top + mask.height, mask.left : mask.left + mask.width] = part * 255
        write_bytes(path, cv2.imencode(".png", pixels)[1].tobytes())
    return _respond(request, frame, path, "image/png")


def depth_scale(frame: Frame) -> dict[str, float]:
    """{"near", "far"} in metres: between them lie 96 % of the depths in some frames of the sequence."""
    path = _kept(frame, "depth").parents[1] / "depth_scale.json"
    if path.exists():
        value: dict[str, float] = json.loads(path.read_text())
        return value
    with_depth = Frame.objects.filter(sequence=frame.sequence_id, has_depth=True).order_by("number")
    numbers = list(with_depth.values_list("number", flat=True))
    chosen = numbers[:: max(1, len(numbers) // SCALE_FRAMES)][:SCALE_FRAMES]
    samples = []
    for number in chosen:
        depth = _read_depth(_layout(frame).depth(number))[::8, ::8]
        samples.append(depth[np.isfinite(depth) & (depth > 0)])
    found = np.concatenate(samples) if samples else np.empty(0)
    near, far = np.percentile(found, (2, 98)) if len(found) else (1.0, 20.0)
    scale = {"near": round(float(near), 3), "far": round(max(float(far), float(near) * 1.05), 3)}
    write_json(path, scale)
    return scale


def color_depth(depth: NDArray[np.float32], near: float, far: float) -> NDArray[np.uint8]:
    """(H, W) metres with NaN holes → BGR. Even steps in 1/depth, as a stereo camera sees them."""
    import cv2

    known = np.isfinite(depth) & (depth > 0)
    inverse = np.where(known, 1 / np.where(known, depth, 1), 0)
    level = (inverse - 1 / far) / (1 / near - 1 / far)
    colored = cv2.applyColorMap((np.clip(level, 0.02, 0.98) * 255).astype(np.uint8), cv2.COLORMAP_TURBO)
    colored[~known] = HOLE_BGR
    return np.asarray(colored, dtype=np.uint8)


def _respond(request: HttpRequest, frame: Frame, path: Path, content_type: str) -> HttpResponseBase:
    immutable = request.GET.get("v") == media_revision(frame)
    return ranged_response(request, path, content_type, immutable=immutable)


def _layout(frame: Frame) -> SequenceLayout:
    return SequenceLayout(Path(settings.JOBS_ROOT) / str(frame.job_id) / frame.sequence.name)


def _kept(frame: Frame, kind: str) -> Path:
    """Where what is made of a frame is kept; a restarted job has another place."""
    root = Path(settings.MEDIA_ROOT) / "previews" / str(frame.job_id) / media_revision(frame)
    return root / frame.sequence.name / kind / f"{frame.number:06d}.jpg"


def _read_image(frame: Frame) -> NDArray[np.uint8]:
    import cv2

    path = _layout(frame).image_left(frame.number, frame.image_extension)
    # Decoding a JPEG at an eighth, a quarter or a half costs a fraction.
    halvings = {1: cv2.IMREAD_COLOR, 2: cv2.IMREAD_REDUCED_COLOR_2, 4: cv2.IMREAD_REDUCED_COLOR_4}
    factor = max(item for item in halvings if frame.width // item >= THUMBNAIL_WIDTH or item == 1)
    image: Any = cv2.imread(str(path), halvings[factor])
    if image is None:
        raise NotFoundError("The image is not there any more.")
    return np.asarray(image, dtype=np.uint8)


def _read_depth(path: Path) -> NDArray[np.float32]:
    try:
        return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False), dtype=np.float32)
    except (OSError, ValueError) as error:
        raise NotFoundError("The depth map is not there any more.") from error


def _shrunk(image: NDArray[np.uint8], width: int) -> NDArray[np.uint8]:
    import cv2

    if image.shape[1] <= width:
        return image
    height = max(1, round(image.shape[0] * width / image.shape[1]))
    return np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), dtype=np.uint8)


def _jpeg(image: NDArray[np.uint8], quality: int) -> bytes:
    import cv2

    return bytes(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1])
