"""What the segmenter asks of a SAM 2 network, whoever wrote it: encode an image, decode prompts, remember objects."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.segmentation.base import Prompt

if TYPE_CHECKING:
    import torch

MEAN: Final = (0.485, 0.456, 0.406)
DEVIATION: Final = (0.229, 0.224, 0.225)
"""Of ImageNet, RGB: what the encoder was trained with."""
PAD, BOX_FIRST, BOX_LAST = -1, 2, 3
"""Labels of points that are no clicks: nothing, the upper left and the lower right corner of a box."""
MASK_LOGIT: Final = 10.0
"""How sure a mask that is given as a prompt is, as a logit."""


class Features(NamedTuple):
    """An encoded image: (1, C, 4N, 4N), (1, C', 2N, 2N) and (1, D, N, N); the input is N cells of 16 pixels a side, in
    SAM 3 of 14."""

    fine: "torch.Tensor"
    middle: "torch.Tensor"
    coarse: "torch.Tensor"


class Decoded(NamedTuple):
    """logits (P, M, 4N, 4N) float32; quality (P, M) in 0…1."""

    logits: "torch.Tensor"
    quality: "torch.Tensor"


class Seen(NamedTuple):
    """An object in a frame: logits (4N, 4N) float32; score: log-odds of its being in sight."""

    logits: NDArray[np.float32]
    score: float


@dataclass(frozen=True, slots=True)
class Pointer:
    """A prompt in pixels of the square input. points (K, 2) float32, labels (K,) int32; mask (H, W) bool or None."""

    points: NDArray[np.float32]
    labels: NDArray[np.int32]
    mask: NDArray[np.bool_] | None = None


class Memory(Protocol):
    """One object of a video. What it keeps of the past is bounded."""

    def prompt(self, frame: int, features: Features, pointer: Pointer, *, reverse: bool) -> Seen:
        """Say where the object is in `frame`."""
        ...

    def track(self, frame: int, features: Features, *, reverse: bool) -> Seen:
        """Find it in `frame`, which follows (or, in reverse, precedes) the last one."""
        ...


class Network(Protocol):
    """`side`: of the square input, pixels. `mask_side`: of the logits of a mask, in or out. `runtime`: whose code runs,
    for the record. `model`: its torch module."""

    side: int
    mask_side: int
    model: Any
    runtime: str
    device: "torch.device"

    def encode(self, pixels: "torch.Tensor") -> Features:
        """pixels: float32 (1, 3, S, S), normalised RGB."""
        ...

    def decode(
        self, features: Features, points: "torch.Tensor", labels: "torch.Tensor", mask: Any = None, *, several: bool
    ) -> Decoded:
        """points (P, K, 2) float32 in input pixels, labels (P, K) int32; mask: logits (1, 1, 4N, 4N), P being 1.

        several: three candidates for each prompt, else one.
        """
        ...

    def memory(self, frames: int) -> Memory:
        """Of an object in a video of `frames` frames."""
        ...


def pixels_of(
    image: NDArray[np.uint8],
    side: int,
    device: "torch.device",
    mean_rgb: tuple[float, float, float] = MEAN,
    deviation_rgb: tuple[float, float, float] = DEVIATION,
) -> "torch.Tensor":
    """(1, 3, S, S) of an image, uint8 BGR (H, W, 3): stretched to the square, as SAM 2 was trained, and normalised."""
    import torch

    rgb = torch.from_numpy(np.ascontiguousarray(image[:, :, ::-1])).to(device)
    planes = rgb.permute(2, 0, 1).unsqueeze(0).float() / 255
    if planes.shape[-2:] != (side, side):
        planes = torch.nn.functional.interpolate(planes, (side, side), mode="bilinear", antialias=True)
    mean = torch.tensor(mean_rgb, device=device).view(1, 3, 1, 1)
    deviation = torch.tensor(deviation_rgb, device=device).view(1, 3, 1, 1)
    return (planes - mean) / deviation


def pointer_of(prompt: Prompt, shape: tuple[int, int], side: int) -> Pointer:
    """The prompt in the square input of an image of `shape` (H, W). A box becomes its two corners, as in the paper's
    code. Raises ValueError where nothing is prompted, or points and labels do not fit together."""
    scale = np.array([side / shape[1], side / shape[0]])
    points, labels = np.empty((0, 2)), np.empty(0, np.int32)
    if prompt.box_xyxy is not None:
        points = np.asarray(prompt.box_xyxy, np.float64).reshape(2, 2)
        labels = np.array([BOX_FIRST, BOX_LAST], np.int32)
    if prompt.points_xy is not None:
        clicks = np.asarray(prompt.points_xy, np.float64).reshape(-1, 2)
        given = np.ones(len(clicks)) if prompt.point_labels is None else np.asarray(prompt.point_labels).reshape(-1)
        if len(given) != len(clicks) or not np.isin(given, (0, 1)).all():
            raise ValueError("a prompt needs one label, 0 or 1, for each of its points")
        points, labels = np.concatenate([points, clicks]), np.concatenate([labels, given.astype(np.int32)])
    if not np.isfinite(points).all():
        raise ValueError("a prompt's coordinates must be numbers")
    if not len(points) and prompt.mask is None:
        raise ValueError("a prompt needs points, a box or a mask")
    if prompt.mask is not None and prompt.mask.shape != shape:
        raise ValueError(f"a prompt's mask must have the size of its image, {shape[1]}x{shape[0]}")
    return Pointer((points * scale).astype(np.float32), labels, prompt.mask)


def mask_at(mask: NDArray[np.bool_], side: int, device: "torch.device") -> "torch.Tensor":
    """float32 (1, 1, side, side) in 0…1 of a mask (H, W)."""
    import torch

    plane = torch.from_numpy(np.ascontiguousarray(mask)).to(device).float()[None, None]
    return torch.nn.functional.interpolate(plane, (side, side), mode="bilinear", antialias=True)
