"""Clicks answered over a Unix socket by a process that keeps the models; whoever asks loads none of them.

One request per connection, JSON both ways, each message preceded by its length (4 bytes, big endian):
{"image": path, "points": [[x, y], …], "labels": [1 on the object, 0 beside it], "box": [x, y, width, height] or null,
 "segmenter": name or "auto", "variant": size} gives
{"segmenter", "embedded", "seconds": [loading, embedding, deciding],
 "masks": [{"rle": of the whole frame, "bbox": [x, y, width, height], "area", "quality"}]} or {"error": a sentence}.
"""

import logging
import select
import socket
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np

from pipeline.errors import PipelineError
from pipeline.segmentation.base import Prompt
from pipeline.segmentation.interactive import Clicks
from pipeline.segmentation.model_client import ModelServerError, receive, send
from pipeline.segmentation.warm import IDLE_SECONDS

logger = logging.getLogger(__name__)
MOST_POINTS: Final = 100
CLIENT_SECONDS: Final = 5.0
"""How long a client may take to say what it wants."""
_TICK: Final = 5.0


def serve(listener: socket.socket, root: Path, models_folders: Sequence[Path], idle_s: float = IDLE_SECONDS) -> None:
    """Answer on `listener` until nobody has asked for `idle_s`. Only images below `root` are read."""
    clicks = Clicks(models_folders)
    asked = time.monotonic()
    while time.monotonic() - asked < idle_s:
        ready, _, _ = select.select([listener], [], [], min(_TICK, idle_s))
        if not ready:
            clicks.make_room()
            continue
        try:
            connection, _ = listener.accept()
        except (BlockingIOError, ConnectionError):  # it went away, or somebody else took it
            continue
        with connection:
            connection.settimeout(CLIENT_SECONDS)
            try:
                send(connection, _answered(clicks, receive(connection), root))
            except (OSError, ModelServerError) as error:
                logger.info("a client was left: %s", error)
        asked = time.monotonic()


def _answered(clicks: Clicks, request: Any, root: Path) -> dict[str, Any]:
    try:
        image, prompt, segmenter, variant = _parsed(request, root)
        answer = clicks.answer(image, prompt, segmenter, variant)
    except (PipelineError, cv2.error, MemoryError, ImportError, RuntimeError, ValueError, OSError) as error:
        logger.warning("no masks: %s", error)
        return {"error": str(error) or type(error).__name__}
    masks = [
        {"rle": mask.rle, "bbox": mask.bbox_xywh, "area": mask.area, "quality": mask.quality} for mask in answer.masks
    ]
    return asdict(answer) | {"masks": masks}


def _parsed(request: Any, root: Path) -> tuple[Path, Prompt, str, str]:
    try:
        image = Path(request["image"]).resolve()
        points = np.array(request.get("points") or np.empty((0, 2)), dtype=np.float64).reshape(-1, 2)
        labels = np.array(request.get("labels") or [1] * len(points), dtype=np.int64)
        box = request.get("box")
        box_xyxy = None
        if box is not None:
            x, y, width, height = (float(value) for value in box)
            box_xyxy = np.array([x, y, x + width, y + height])
        segmenter, variant = str(request.get("segmenter", "auto")), str(request.get("variant", "tiny"))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ModelServerError("The request is not one for masks.") from error
    if not image.is_relative_to(root.resolve()):
        raise ModelServerError("The image lies outside the folder of this installation.")
    if len(points) > MOST_POINTS or labels.shape != (len(points),) or not (len(points) or box_xyxy is not None):
        raise ModelServerError(f"Give a box, or up to {MOST_POINTS} points with a label each.")
    prompt = Prompt(points if len(points) else None, labels if len(points) else None, box_xyxy)
    return image, prompt, segmenter, variant
