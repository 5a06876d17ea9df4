"""The small protocols behind which every segmenter stands: three powers, of which a backend has one or more.

*automatic*: image to instances (`Segmenter`). *interactive*: an image embedded once, then clicks and boxes to masks
(`Interactive`). *video*: masks of some frames carried through the others (`VideoSegmenter`).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

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

    Given where the segmenter has them: `quality` (expected IoU of the mask, 0…1), `stability` (IoU of the masks cut at
    logits of -1 and 1), `agreement` (IoU with the mask found in the mirrored image), `logits` (float16 (H, W), log-odds
    of being the object), `features` (float32, (D,), pooled over the mask from the segmenter's own encoder),
    `objectness` (chance that this is one whole thing, whatever its class; else the sum of `class_scores` is).
    """

    mask: NDArray[np.bool_]
    class_id: int
    confidence: float
    class_scores: dict[int, float] = field(default_factory=dict)
    quality: float | None = None
    stability: float | None = None
    agreement: float | None = None
    logits: NDArray[np.float16] | None = None
    features: NDArray[np.float32] | None = None
    objectness: float | None = None


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a person (or a program) points at, in pixels of the image. At least one of the three is given.

    points_xy: float (N, 2); point_labels: int (N,), 1 on the object, 0 beside it. box_xyxy: float (4,). mask: bool
    (H, W), a mask to start from.
    """

    points_xy: NDArray[np.float64] | None = None
    point_labels: NDArray[np.int64] | None = None
    box_xyxy: NDArray[np.float64] | None = None
    mask: NDArray[np.bool_] | None = None


@dataclass(frozen=True, slots=True)
class Proposal:
    """A mask for a prompt. logits: float32 (H, W), the mask is where they are positive; quality: expected IoU, 0…1."""

    logits: NDArray[np.float32]
    quality: float


@dataclass(frozen=True, slots=True)
class Propagated:
    """The objects of one frame, by object id. logits: float16 (H, W); confidence 0…1, low where the object was lost."""

    frame: int
    logits: dict[int, NDArray[np.float16]]
    confidence: dict[int, float]


class FrameReader(Protocol):
    """Random access to the frames of a video, uint8 BGR (H, W, 3). Only a few are asked for at a time."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> NDArray[np.uint8]: ...


@runtime_checkable
class Segmenter(Protocol):
    """Image in, instances out. Constructed once per worker; construction loads the model, never the import."""

    name: str

    def segment(self, views: Sequence[View]) -> list[list[Instance]]:
        """Instances of each view, most confident first. Deterministic: the same views give the same instances."""
        ...


@runtime_checkable
class Interactive(Protocol):
    """Clicks and boxes to masks. What `embed` gives is dear and may be kept; `predict` is quick and may be repeated."""

    name: str

    def embed(self, image: NDArray[np.uint8]) -> Any:
        """Whatever `predict` needs of an image, uint8 BGR (H, W, 3)."""
        ...

    def predict(self, embedding: Any, prompt: Prompt) -> list[Proposal]:
        """Masks for the prompt, best first; several where it is ambiguous."""
        ...


@runtime_checkable
class VideoSegmenter(Protocol):
    """Objects prompted in some frames, followed through the others."""

    name: str

    def propagate(
        self,
        frames: FrameReader,
        prompts: Mapping[tuple[int, int], Prompt],
        direction: Literal["forward", "backward"] = "forward",
    ) -> Iterator[Propagated]:
        """Follow the objects of `prompts`, keyed (frame, object id).

        Forward: from the first prompted frame to the last frame; backward: from the last prompted frame to the first
        one of the video. Prompted frames are given too. Memory does not grow with the length of the video.
        """
        ...
