"""How large an image may be before anyone tries to decode it: a forged header must not exhaust the memory."""

import os
from typing import Final

from pipeline.errors import RecordingError

LARGEST_EYE_PIXELS: Final = 64_000_000

# OpenCV reads this once, when it is first imported; readers import it only after this module.
os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(2 * LARGEST_EYE_PIXELS))


def check_size(name: str, width: int, height: int) -> None:
    """Raise RecordingError unless `width` x `height` pixels per eye are a size that can be processed."""
    if width <= 0 or height <= 0:
        raise RecordingError(f"{name} gives no image size ({width}x{height} pixels).")
    if width * height > LARGEST_EYE_PIXELS:
        limit = LARGEST_EYE_PIXELS // 1_000_000
        raise RecordingError(f"{name} has images of {width}x{height} pixels, more than the {limit} megapixels allowed.")
