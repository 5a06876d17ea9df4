"""Segmenter "sam2": automatic masks, clicks and boxes, and objects through video, on a GPU or a CPU.

SAM 2 knows no classes: with one label class every mask is of it; with several, the class head names them.
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.errors import SegmenterUnavailableError
from pipeline.segmentation import device as devices
from pipeline.segmentation import sam_status, weights
from pipeline.segmentation.automatic_masks import Candidate, Candidates, Selection, cleaned, enlarged, grid
from pipeline.segmentation.base import ClassSpec, Instance, View
from pipeline.segmentation.sam2.architecture import ARCHITECTURES
from pipeline.segmentation.sam2.network import Network
from pipeline.segmentation.sam2.prompted import Prompted

if TYPE_CHECKING:
    import torch

logger = logging.getLogger(__name__)

_BYTES_EACH: Final = 48 << 20
"""What one prompt needs while it is decoded."""
_ON_CPU: Final = 16
_MOST_AT_ONCE: Final = 64
GRID_ON_CPU: Final = 16
"""Points a side, on a CPU: 32 take four times as long, minutes a frame."""


class Sam2(Prompted):
    """Segmenter, Interactive and VideoSegmenter of pipeline.segmentation.base.

    variant: tiny, small, base or large. runtime: "transformers", "sam2" (Meta's package; single files alone), or empty
    for the first of them that is installed. compiled: "no", "openvino", "onnxruntime", or empty for what is the fastest
    on this machine. `description` says what runs, for the record. Raises SegmenterUnavailableError where it cannot.
    """

    name = "sam2"

    def __init__(
        self,
        classes: tuple[ClassSpec, ...],
        models_folders: tuple[Path, ...] = (),
        variant: str = "tiny",
        *,
        runtime: str = "",
        compiled: str = "",
        selection: Selection | None = None,
    ) -> None:
        checkpoint = sam_status.found("sam2", variant, models_folders)
        if checkpoint is None:
            places = " or ".join(each.places for each in weights.of_family(sam_status.FAMILIES["sam2"], variant)[:1])
            raise SegmenterUnavailableError(f"segmenter sam2: {places} is in none of the folders of {weights.SETTING}.")
        self.sha256 = weights.check(checkpoint, models_folders)
        self._device = devices.choose()
        self._network = _network(checkpoint, variant, self._device, runtime)
        on_gpu = self._device.type == "cuda"
        self._selection = selection or Selection(points_per_side=32 if on_gpu else GRID_ON_CPU)
        self._classes = classes
        fast = None
        if not on_gpu:
            from pipeline.segmentation.sam2 import fast_network

            fast = fast_network.build(self._network, self.sha256, weights.cache_folder(models_folders), compiled)
        self._engine = fast or self._network
        how = fast.name if fast else ("bfloat16" if on_gpu else "float32")
        self.description = f"{checkpoint.checkpoint.name}, {self._network.runtime} on {self._device.type}, {how}"
        logger.info("loaded %s, weights %s", self.description, self.sha256[:12])

    def segment(self, views: Sequence[View]) -> list[list[Instance]]:
        return [self._instances(view.image) for view in views]

    def _instances(self, image: NDArray[np.uint8]) -> list[Instance]:
        features = self._encode(image)
        points = grid(self._selection.points_per_side, self._network.side)
        candidates = Candidates(self._selection)

        def decode(batch: Sequence[NDArray[np.float32]]) -> list[None]:
            labels = np.ones((len(batch), 1), np.int32)
            with self._inference():
                decoded = self._engine.decode(features, *self._tensors(np.stack(batch)[:, None], labels), several=True)
                logits = decoded.logits.flatten(0, 1).cpu().numpy()
                quality = decoded.quality.flatten().cpu().numpy()
            candidates.add(logits, quality)
            return [None] * len(batch)

        size = devices.batch_size(self._device, _BYTES_EACH, _MOST_AT_ONCE, _ON_CPU)
        devices.in_batches(decode, list(points), size)
        chosen = candidates.distinct()
        if candidates.dropped:
            logger.info("kept %d of %d masks, %d had no room", len(chosen), candidates.seen, candidates.dropped)
        coarse = features.coarse[0].float().cpu().numpy()
        return [self._instance(each, (image.shape[0], image.shape[1]), coarse) for each in chosen]

    def _instance(self, candidate: Candidate, shape: tuple[int, int], coarse: NDArray[np.float32]) -> Instance:
        logits = cleaned(enlarged(candidate.logits, shape), self._selection.min_share * shape[0] * shape[1])
        # With several classes and nobody to tell them apart, none is more likely than another.
        share = candidate.quality / len(self._classes)
        return Instance(
            mask=logits > 0,
            class_id=self._classes[0].id,
            confidence=share,
            class_scores={each.id: share for each in self._classes},
            quality=candidate.quality,
            stability=candidate.stability,
            logits=logits.astype(np.float16),
            features=pooled(coarse, candidate.logits > 0),
        )


def pooled(coarse: NDArray[np.float32], mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Mean (D,) of feature maps (D, h, w) over a mask of any size, whose pixels count by their share of a cell."""
    size = (coarse.shape[2], coarse.shape[1])
    share = cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    total = float(share.sum())
    if total <= 0:
        return np.zeros(len(coarse), np.float32)
    return np.asarray((coarse * (share / total)).sum(axis=(1, 2)), np.float32)


def _network(checkpoint: weights.Found, variant: str, device: "torch.device", runtime: str) -> Network:
    from importlib.util import find_spec

    has = {"transformers": find_spec("transformers") is not None, "sam2": find_spec("sam2") is not None}
    usable = ["transformers"] if checkpoint.config is not None else ["transformers", "sam2"]
    chosen = runtime or next((each for each in usable if has[each]), "")
    if chosen not in usable or not has[chosen]:
        raise SegmenterUnavailableError(
            f"segmenter sam2: {checkpoint.weights.name} needs the package {' or '.join(usable)}, "
            "which is not installed (extra `sam`)."
        )
    family, architecture = checkpoint.checkpoint.family, ARCHITECTURES[variant]
    if chosen == "sam2":
        from pipeline.segmentation.sam2 import meta_network

        return meta_network.MetaNetwork(meta_network.load(checkpoint.weights, family, architecture), device)
    from pipeline.segmentation.sam2 import transformers_network

    model = transformers_network.load(checkpoint.weights, checkpoint.config, family, architecture)
    return transformers_network.TransformersNetwork(model, device)
