"""Pixels for looking at: thumbnails, depth in colours, masks. Arrays and files in, encoded images out."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from core.errors import NotFoundError

DEPTH_WIDTH: Final = 1280
HOLE_BGR: Final = (34, 28, 24)


def thumbnail(path: Path, image_width: int, width: int) -> bytes:
    """The image at `path`, `width` wide, as JPEG. Raises NotFoundError."""
    # Decoding a JPEG at an eighth, a quarter or a half costs a fraction.
    halvings = {1: cv2.IMREAD_COLOR, 2: cv2.IMREAD_REDUCED_COLOR_2, 4: cv2.IMREAD_REDUCED_COLOR_4}
    factor = max(item for item in halvings if image_width // item >= width or item == 1)
    image: Any = cv2.imread(str(path), halvings[factor])
    if image is None:
        raise NotFoundError("The image is not there any more.")
    return _jpeg(_shrunk(np.asarray(image, dtype=np.uint8), width), 82)


def depth_picture(path: Path, near: float, far: float) -> bytes:
    """The depth map at `path` in colours, up to DEPTH_WIDTH wide, as JPEG. Raises NotFoundError."""
    depth = _read_depth(path)
    step = max(1, depth.shape[1] // DEPTH_WIDTH)
    return _jpeg(color_depth(depth[::step, ::step], near, far), 88)


def depth_range(paths: Iterable[Path]) -> dict[str, float]:
    """{"near", "far"} in metres: between them lie 96 % of the depths in some maps. Raises NotFoundError."""
    samples = []
    for path in paths:
        depth = _read_depth(path)[::8, ::8]
        samples.append(depth[np.isfinite(depth) & (depth > 0)])
    found = np.concatenate(samples) if samples else np.empty(0)
    near, far = np.percentile(found, (2, 98)) if len(found) else (1.0, 20.0)
    return {"near": round(float(near), 3), "far": round(max(float(far), float(near) * 1.05), 3)}


def color_depth(depth: NDArray[np.float32], near: float, far: float) -> NDArray[np.uint8]:
    """(H, W) metres with NaN holes → BGR. Even steps in 1/depth, as a stereo camera sees them."""
    known = np.isfinite(depth) & (depth > 0)
    inverse = np.where(known, 1 / np.where(known, depth, 1), 0)
    level = (inverse - 1 / far) / (1 / near - 1 / far)
    colored = cv2.applyColorMap((np.clip(level, 0.02, 0.98) * 255).astype(np.uint8), cv2.COLORMAP_TURBO)
    colored[~known] = HOLE_BGR
    return np.asarray(colored, dtype=np.uint8)


def uncertainty_picture(path: Path) -> bytes:
    """The uncertainty map at `path` (8-bit grey, 255 for 1) in colours, black where certain. Raises NotFoundError."""
    level: Any = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    if level is None:
        raise NotFoundError("The uncertainty map is not there any more.")
    return _jpeg(np.asarray(cv2.applyColorMap(level, cv2.COLORMAP_INFERNO), dtype=np.uint8), 92)


def _read_depth(path: Path) -> NDArray[np.float32]:
    try:
        return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False), dtype=np.float32)
    except (OSError, ValueError) as error:
        raise NotFoundError("The depth map is not there any more.") from error


def _shrunk(image: NDArray[np.uint8], width: int) -> NDArray[np.uint8]:
    if image.shape[1] <= width:
        return image
    height = max(1, round(image.shape[0] * width / image.shape[1]))
    return np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), dtype=np.uint8)


def _jpeg(image: NDArray[np.uint8], quality: int) -> bytes:
    return bytes(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1])
