"""Masks for what a person points at, asked of the process that keeps the models (core.model_door)."""

from collections.abc import Sequence
from typing import Any, ClassVar

from core.errors import ApplicationError, ConflictError, FieldError
from core.model_door import address
from labeling.jobs.models import Frame
from labeling.review.media import left_image
from pipeline.segmentation.model_client import ModelServerError, ask

WAIT_SECONDS = 60.0
"""For the first click, which may have to load a model."""


class NoModelsError(ApplicationError):
    """Nobody answers, or what answers cannot."""

    code: ClassVar[str] = "models_unavailable"
    status: ClassVar[int] = 503
    headers: ClassVar[dict[str, str]] = {"Retry-After": "5"}


def propose(
    frame: Frame,
    *,
    points: Sequence[Sequence[float]],
    labels: Sequence[int],
    box: Sequence[float] | None,
    segmenter: str,
    variant: str,
) -> dict[str, Any]:
    """{"segmenter", "embedded", "seconds", "proposals": [{"mask", "bbox", "area", "quality"}]} for the left image.

    Raises FieldError for what lies beside the frame, NoModelsError where no model answers.
    """
    for number, (x, y) in enumerate(points):
        if x >= frame.width or y >= frame.height:
            raise FieldError(f"points.{number}", f"It lies beside the frame of {frame.width} × {frame.height} pixels.")
    if box is not None and (box[0] + box[2] > frame.width or box[1] + box[3] > frame.height):
        raise FieldError("box", f"It reaches beyond the frame of {frame.width} × {frame.height} pixels.")
    image = left_image(frame)
    if not image.is_file():
        raise ConflictError("The image of the frame is not there any more.")
    request = {
        "image": str(image),
        "points": [list(point) for point in points],
        "labels": list(labels),
        "box": list(box) if box is not None else None,
        "segmenter": segmenter,
        "variant": variant,
    }
    try:
        answer = ask(address(), request, WAIT_SECONDS)
    except ModelServerError as error:
        if str(error).startswith("segmenter"):
            raise FieldError("segmenter", str(error).partition(":")[2].strip() or str(error)) from error
        raise NoModelsError(str(error)) from error
    return {
        "segmenter": answer["segmenter"],
        "embedded": answer["embedded"],
        "seconds": [round(value, 4) for value in answer["seconds"]],
        "proposals": [_proposal(item) for item in answer["masks"]],
    }


def _proposal(item: dict[str, Any]) -> dict[str, Any]:
    from labeling.jobs.ingest import cropped_mask  # loads numpy, of which other pages have no need

    cropped = cropped_mask(item["rle"])
    assert cropped is not None  # noqa: S101 - empty ones are not sent
    mask = {
        "left": cropped["left"],
        "top": cropped["top"],
        "size": [cropped["height"], cropped["width"]],
        "counts": cropped["counts"],
    }
    return {"mask": mask, "bbox": item["bbox"], "area": item["area"], "quality": item["quality"]}
