"""Segmenter "sam3": all instances of what the label classes' text prompts name, with class and score; clicks and boxes;
objects through video, prompted by hand or by text.

Carion et al., "SAM 3: Segment Anything with Concepts", 2025, as transformers implements it (`Sam3Model`, and
`Sam3VideoModel`, which has the tracker beside it), driven without its processors, which need torchvision. Boxes as
examples for the detector need torchvision too, and are not offered.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import SegmenterUnavailableError
from pipeline.segmentation import device as devices
from pipeline.segmentation import sam_status, weights
from pipeline.segmentation.automatic_masks import cleaned, enlarged, representatives, stability
from pipeline.segmentation.base import ClassSpec, FrameReader, Instance, Prompt, Propagated, View
from pipeline.segmentation.hub_folder import from_folder
from pipeline.segmentation.sam2.network import pixels_of
from pipeline.segmentation.sam2.prompted import Embedding, Prompted
from pipeline.segmentation.sam2.segmenter import pooled

if TYPE_CHECKING:
    import torch

logger = logging.getLogger(__name__)

TOKENIZER_FILE: Final = "tokenizer.json"
LEAST: Final = 0.05
"""Score below which an instance is not worth a mask; the job's own threshold lies above."""
SURE: Final = 0.5
"""Score from which an instance is worth following through a video, as its authors have it."""
MOST: Final = 100
"""Instances of one class in one image."""
_OVERLAP: Final = 0.7
"""IoU from which two prompts have found the same object."""
_MIN_SHARE: Final = 0.0002
_HALF: Final = (0.5, 0.5, 0.5)
_END: Final = "<|endoftext|>"


class _Hit(NamedTuple):
    class_id: int
    score: float
    logits: NDArray[np.float32]


class Sam3(Prompted):
    """Segmenter, Interactive and VideoSegmenter of pipeline.segmentation.base; the last two with a checkpoint that has
    the tracker, as the published one has. variant is taken for the sake of the others: SAM 3 has one size.

    Raises SegmenterUnavailableError where it cannot run, and where a label class has no text prompt.
    """

    name = "sam3"
    _normalisation = (_HALF, _HALF)

    def __init__(
        self, classes: tuple[ClassSpec, ...], models_folders: tuple[Path, ...] = (), variant: str = "large"
    ) -> None:
        checkpoint = sam_status.found("sam3", variant, models_folders)
        if checkpoint is None or checkpoint.config is None:
            places = weights.CATALOGUE["sam3"].places
            raise SegmenterUnavailableError(f"segmenter sam3: {places} is in none of the folders of {weights.SETTING}.")
        if why := sam_status.unsuited("sam3", classes, class_head=False):
            raise SegmenterUnavailableError(f"segmenter sam3: {why}")
        self.sha256 = weights.check(checkpoint, models_folders)
        self._device = devices.choose()
        loaded = _model(checkpoint).to(self._device)
        self._model = getattr(loaded, "detector_model", loaded)
        self._has_tracker = self._model is not loaded
        if self._has_tracker:
            from pipeline.segmentation.sam3_network import Sam3Network

            self._network = self._engine = Sam3Network(loaded, self._device)
        self._side = int(self._model.config.vision_config.image_size)
        self._classes = classes
        self._texts = self._understood([each.text_prompt.strip() for each in classes], checkpoint.config.parent)
        precision = "bfloat16" if self._device.type == "cuda" else "float32"
        self.description = f"{checkpoint.checkpoint.name}, transformers on {self._device.type}, {precision}"
        logger.info("loaded %s, weights %s", self.description, self.sha256[:12])

    def segment(self, views: Sequence[View]) -> list[list[Instance]]:
        return [self._instances(view.image) for view in views]

    def embed(self, image: NDArray[np.uint8]) -> Embedding:
        self._needs_tracker()
        return super().embed(image)

    def propagate(
        self,
        frames: FrameReader,
        prompts: Mapping[tuple[int, int], Prompt],
        direction: Literal["forward", "backward"] = "forward",
    ) -> Iterator[Propagated]:
        self._needs_tracker()
        return super().propagate(frames, prompts, direction)

    def found(
        self, image: NDArray[np.uint8], frame: int, least: float = SURE
    ) -> tuple[dict[tuple[int, int], Prompt], dict[int, Instance]]:
        """What the text prompts find in `image`, which is frame `frame` of a video: as prompts for `propagate`, their
        objects numbered from 1, the most confident first; and by that number, which is where its class stands.

        least: confidence from which an instance is followed.
        """
        instances = [each for each in self._instances(image) if each.confidence >= least]
        prompts = {(frame, at): Prompt(mask=each.mask) for at, each in enumerate(instances, start=1)}
        return prompts, dict(enumerate(instances, start=1))

    def _needs_tracker(self) -> None:
        if not self._has_tracker:
            raise SegmenterUnavailableError(f"segmenter sam3: {sam_status.WITHOUT_TRACKER}")

    def _understood(self, prompts: list[str], folder: Path) -> list[tuple[Any, "torch.Tensor"]]:
        """Of each prompt, what the text encoder makes of it, and which tokens count. Done once."""
        import torch

        length = int(self._model.config.text_config.max_position_embeddings)
        tokenizer = _tokenizer(folder / TOKENIZER_FILE, length)
        out = []
        with torch.inference_mode(), devices.precision(self._device):
            for prompt in prompts:
                words = tokenizer.encode(prompt)
                ids = torch.tensor([words.ids], device=self._device)
                counts = torch.tensor([words.attention_mask], device=self._device)
                features = self._model.get_text_features(input_ids=ids, attention_mask=counts, return_dict=True)
                out.append((features, counts))
        return out

    def _instances(self, image: NDArray[np.uint8]) -> list[Instance]:
        hits, coarse = devices.in_batches(lambda one: [self._hits(one[0])], [image], 1)[0]
        hits.sort(key=lambda hit: -hit.score)
        alike = representatives([hit.logits > 0 for hit in hits], _OVERLAP)
        shape = (image.shape[0], image.shape[1])
        out = []
        for index, hit in enumerate(hits):
            if alike[index] == index:
                scores: dict[int, float] = {}
                for other in (each for each, first in zip(hits, alike, strict=True) if first == index):
                    scores[other.class_id] = max(scores.get(other.class_id, 0.0), other.score)
                out.append(_instance(hit, scores, shape, coarse))
        return sorted((each for each in out if each.mask.any()), key=lambda each: -each.confidence)

    def _hits(self, image: NDArray[np.uint8]) -> tuple[list[_Hit], NDArray[np.float32]]:
        """What every prompt finds, and the feature map (D, h, w) it was found on."""
        import torch

        hits = []
        with torch.inference_mode(), devices.precision(self._device):
            pixels = pixels_of(image, self._side, self._device, _HALF, _HALF)
            seen = self._model.get_vision_features(pixels)
            for spec, (text, counts) in zip(self._classes, self._texts, strict=True):
                found = self._model(vision_embeds=seen, text_embeds=text, attention_mask=counts)
                scores = found.pred_logits[0].float().sigmoid() * found.presence_logits[0].float().sigmoid()
                numbers = scores.cpu().numpy()
                best = [each for each in np.argsort(-numbers, kind="stable")[:MOST] if numbers[each] >= LEAST]
                logits = found.pred_masks[0][torch.tensor(best, dtype=torch.long)].float().cpu().numpy()
                hits += [_Hit(spec.id, float(numbers[at]), each) for at, each in zip(best, logits, strict=True)]
            # The last but one is the finest on which the detector itself looks; the last is left out by the model.
            coarse = seen.fpn_hidden_states[-2][0].float().cpu().numpy()
        return hits, coarse


def _instance(hit: _Hit, scores: dict[int, float], shape: tuple[int, int], coarse: NDArray[np.float32]) -> Instance:
    logits = np.clip(cleaned(enlarged(hit.logits, shape), _MIN_SHARE * shape[0] * shape[1]), -1000, 1000)
    # The prompts are scored one by one: what several claim is shared among them.
    total = max(1.0, sum(scores.values()))
    return Instance(
        mask=logits > 0,
        class_id=hit.class_id,
        confidence=hit.score / total,
        class_scores={class_id: score / total for class_id, score in scores.items()},
        stability=float(stability(hit.logits[None])[0]),
        logits=logits.astype(np.float16),
        features=pooled(coarse, hit.logits > 0),
    )


def _model(checkpoint: weights.Found) -> Any:
    """The detector, or what has it as `detector_model` and the tracker beside it: whichever the checkpoint holds."""
    from transformers import Sam3Model, Sam3VideoModel

    kind = Sam3VideoModel if sam_status.has_tracker(checkpoint) else Sam3Model
    return from_folder(kind, checkpoint.weights.parent).eval().requires_grad_(False)


def _tokenizer(path: Path, length: int) -> Any:
    """Words to numbers, padded to `length`. Raises SegmenterUnavailableError where the file is absent or none."""
    from tokenizers import Tokenizer

    if not path.is_file():
        raise SegmenterUnavailableError(
            f"segmenter sam3: {path.parent.name}/{path.name}, which turns text prompts into tokens, is not there; "
            f"{weights.how_to_get('sam3')}"
        )
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:
        # The library raises a bare Exception for any file it cannot read.
        if type(error) is not Exception:
            raise
        raise SegmenterUnavailableError(f"{path.parent.name}/{path.name} is damaged: {error}.") from error
    end = tokenizer.token_to_id(_END)
    tokenizer.enable_truncation(length)
    tokenizer.enable_padding(length=length, pad_id=0 if end is None else end, pad_token=_END)
    return tokenizer
