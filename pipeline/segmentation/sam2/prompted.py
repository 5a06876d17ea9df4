"""Clicks, boxes and masks, in an image and through a video: the same for SAM 2 and the tracker of SAM 3."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.segmentation import device as devices
from pipeline.segmentation.automatic_masks import enlarged
from pipeline.segmentation.base import FrameReader, Prompt, Propagated, Proposal
from pipeline.segmentation.sam2 import video
from pipeline.segmentation.sam2.network import (
    DEVIATION,
    MASK_LOGIT,
    MEAN,
    Features,
    Network,
    mask_at,
    pixels_of,
    pointer_of,
)

if TYPE_CHECKING:
    import torch

    from pipeline.segmentation.sam2.fast_network import FastNetwork


@dataclass(frozen=True, slots=True)
class Embedding:
    """What `predict` needs of an image: its features, and its size (H, W)."""

    features: Features
    shape: tuple[int, int]


class Prompted:
    """Interactive and VideoSegmenter of pipeline.segmentation.base over a `Network`, which the backend sets.

    _engine encodes images and decodes prompts: the network, or what was compiled from it. _normalisation: mean and
    deviation of RGB in 0…1 that the encoder was trained with.
    """

    _device: "torch.device"
    _network: Network
    _engine: "Network | FastNetwork"
    _normalisation: tuple[tuple[float, float, float], tuple[float, float, float]] = (MEAN, DEVIATION)

    def embed(self, image: NDArray[np.uint8]) -> Embedding:
        return Embedding(self._encode(image), (image.shape[0], image.shape[1]))

    def predict(self, embedding: Embedding, prompt: Prompt) -> list[Proposal]:
        """Three candidates for a single click, which may mean a part or the whole; else one. Best first."""
        pointer = pointer_of(prompt, embedding.shape, self._network.side)
        # Without a click the network wants a point that is none, beside the mask.
        points = pointer.points if len(pointer.points) else np.zeros((1, 2), np.float32)
        labels = pointer.labels if len(pointer.labels) else np.array([-1], np.int32)
        ambiguous = len(pointer.points) == 1 and pointer.mask is None
        with self._inference():
            mask = None
            if pointer.mask is not None:
                mask = mask_at(pointer.mask, self._network.mask_side, self._device) * (2 * MASK_LOGIT) - MASK_LOGIT
            decoded = self._engine.decode(
                embedding.features, *self._tensors(points[None], labels[None]), mask, several=ambiguous
            )
            logits, quality = decoded.logits[0].cpu().numpy(), decoded.quality[0].cpu().numpy()
        order = sorted(range(len(quality)), key=lambda each: (-quality[each], each))
        return [
            Proposal(enlarged(logits[each], embedding.shape), float(np.clip(quality[each], 0, 1))) for each in order
        ]

    def propagate(
        self,
        frames: FrameReader,
        prompts: Mapping[tuple[int, int], Prompt],
        direction: Literal["forward", "backward"] = "forward",
    ) -> Iterator[Propagated]:
        steps = video.propagate(self._network, self._encode, frames, prompts, direction)
        while True:
            # Entered for each step alone: nothing of it may last while somebody else's code runs.
            with self._inference():
                step = next(steps, None)
            if step is None:
                return
            yield step

    @contextmanager
    def _inference(self) -> Iterator[None]:
        import torch

        with ExitStack() as stack:
            stack.enter_context(torch.inference_mode())
            stack.enter_context(devices.precision(self._device))
            yield

    def _encode(self, image: NDArray[np.uint8]) -> Features:
        with self._inference():
            pixels = pixels_of(image, self._network.side, self._device, *self._normalisation)
            return devices.in_batches(lambda one: [self._engine.encode(one[0])], [pixels], 1)[0]

    def _tensors(self, points: NDArray[np.float32], labels: NDArray[np.int32]) -> tuple["torch.Tensor", "torch.Tensor"]:
        import torch

        return torch.from_numpy(points).to(self._device), torch.from_numpy(labels).to(self._device)
