"""The small protocol behind which every segmenter stands."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class ClassSpec:
    """One label class of the dataset, as a segmenter needs it. `typical_size_hwl` in metres, None if unknown."""

    id: int
    name: str
    text_prompt: str = ""
    typical_size_hwl: tuple[float, float, float] | None = None


@dataclass(frozen=True, slots=True)
class View:
    """What a segmenter sees of one frame.

    image: uint8 BGR (H, W, 3), the rectified left image. depth: float32 metres (H, W), NaN where unknown, or None.
    camera_matrix: (3, 3) of the rectified left camera, or None where nothing is known of the camera.
    gravity: unit vector in camera axes pointing down (from the IMU), or None.
    """

    image: NDArray[np.uint8]
    depth: NDArray[np.float32] | None = None
    camera_matrix: NDArray[np.float64] | None = None
    gravity: NDArray[np.float64] | None = None


@dataclass(frozen=True, slots=True)
class Instance:
    """One object found. `mask` bool (H, W); `class_scores` sum to at most 1; `confidence` in 0…1 is that of `class_id`.

    `logits` (float16, (H, W)), `quality` and `stability` are given where the segmenter has them.
    """

    mask: NDArray[np.bool_]
    class_id: int
    confidence: float
    class_scores: dict[int, float] = field(default_factory=dict)
    quality: float | None = None
    stability: float | None = None
    logits: NDArray[np.float16] | None = None


class Segmenter(Protocol):
    """Image in, instances out. Constructed once per worker; construction loads the model, never the import."""

    name: str

    def segment(self, views: Sequence[View]) -> list[list[Instance]]:
        """Instances of each view, most confident first. Deterministic: the same views give the same instances."""
        ...
