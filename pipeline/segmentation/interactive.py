"""Clicks and boxes to masks, whichever backend does it: which one can, and the state between two clicks."""

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np

from pipeline.errors import PipelineError, SegmenterUnavailableError
from pipeline.segmentation import device, registry, rle, sam_status
from pipeline.segmentation.base import ClassSpec, Interactive, Prompt
from pipeline.segmentation.warm import WarmModels, file_state

WITHOUT_WEIGHTS: Final = "classical"
BACKENDS: Final = {
    "sam2": "pipeline.segmentation.sam2.segmenter:Sam2",
    "sam3": "pipeline.segmentation.sam3:Sam3",
    WITHOUT_WEIGHTS: "pipeline.segmentation.classical:Classical",
}
"""Best first."""
KEPT_EMBEDDINGS: Final = 8
MOST_PROPOSALS: Final = 3
_ANYTHING: Final = (ClassSpec(1, "object", "object"),)


@dataclass(frozen=True, slots=True)
class Mask:
    """A proposal: the RLE of the whole frame, its bounding box in pixels, its area, and the IoU to be expected."""

    rle: dict[str, Any]
    bbox_xywh: list[float]
    area: int
    quality: float


@dataclass(frozen=True, slots=True)
class Answer:
    """masks: best first. embedded: whether the image was looked at anew. seconds: loading, embedding, deciding."""

    segmenter: str
    masks: list[Mask]
    embedded: bool
    seconds: tuple[float, float, float]


def choose(requested: str, models_folders: Sequence[Path]) -> str:
    """The backend that will answer; "auto" takes the best that can run here. Raises SegmenterUnavailableError."""
    if requested != "auto" and requested not in BACKENDS:
        raise SegmenterUnavailableError(f"segmenter: {requested!r} is not one of auto, {', '.join(BACKENDS)}.")
    known = {status.name: status for status in registry.statuses(models_folders)}
    if requested == "auto":
        able = (name for name in BACKENDS if name in known and known[name].available)
        return next((name for name in able if name != "sam3" or _sam3_is_quick(models_folders)), WITHOUT_WEIGHTS)
    status = known.get(requested)
    if status is not None and not status.available:
        raise SegmenterUnavailableError(f"segmenter {requested}: {status.reason} {status.how_to_get}")
    if requested == "sam3" and not _sam3_takes_clicks(models_folders):
        raise SegmenterUnavailableError(f"segmenter sam3: {sam_status.WITHOUT_TRACKER}")
    return requested


def _sam3_is_quick(models_folders: Sequence[Path]) -> bool:
    """On a CPU the first click on an image would wait half a minute: what needs no weights is more use."""
    return device.runs_on_gpu() and _sam3_takes_clicks(models_folders)


def _sam3_takes_clicks(models_folders: Sequence[Path]) -> bool:
    checkpoint = sam_status.found("sam3", "large", models_folders)
    return checkpoint is not None and sam_status.has_tracker(checkpoint)


def load(name: str, models_folders: Sequence[Path], variant: str = "tiny") -> Interactive:
    """Construct the backend. Raises SegmenterUnavailableError where it cannot run."""
    module, _, attribute = BACKENDS[name].partition(":")
    backend: Any = getattr(import_module(module), attribute)
    sizes = sam_status.sizes_here(name, models_folders) if name in registry.SIZED else []
    # A click is worth more than its size: where the one asked for is not here, another one answers.
    sized = {"variant": variant if variant in sizes else sizes[0]} if sizes else {}
    found: Interactive = backend(_ANYTHING, tuple(models_folders), **sized)
    return found


class Clicks:
    """Answers prompts on images. Models and the last embeddings are kept, so a second click only decides."""

    def __init__(
        self, models_folders: Sequence[Path], models: WarmModels[Any] | None = None, load: Callable[..., Any] = load
    ) -> None:
        self._folders = tuple(models_folders)
        self._models: WarmModels[Any] = models if models is not None else WarmModels()
        self._load = load
        self._embeddings: OrderedDict[tuple[Any, ...], Any] = OrderedDict()

    @property
    def kept(self) -> int:
        """How many models are loaded."""
        return len(self._models)

    def make_room(self) -> None:
        """Forget what is idle; without its model an embedding is of no use either."""
        if self._models.make_room():
            self._embeddings.clear()

    def answer(self, image: Path, prompt: Prompt, requested: str = "auto", variant: str = "tiny") -> Answer:
        """Masks for `prompt` on the image at that path. Raises PipelineError for what cannot be read or run."""
        started = time.perf_counter()
        name = choose(requested, self._folders)
        key = (name, variant, file_state(self._folders))
        model = self._models.use(key, lambda: self._load(name, self._folders, variant))
        loaded = time.perf_counter()
        try:
            state = image.stat()
        except OSError as error:
            raise PipelineError(f"{image.name} cannot be read.") from error
        place = (key, str(image), state.st_mtime_ns, state.st_size)
        is_new = place not in self._embeddings
        if is_new:
            pixels = cv2.imread(str(image), cv2.IMREAD_COLOR)
            if pixels is None:
                raise PipelineError(f"{image.name} cannot be read.")
            self._embeddings[place] = model.embed(np.asarray(pixels, dtype=np.uint8))
            if len(self._embeddings) > KEPT_EMBEDDINGS:
                self._embeddings.popitem(last=False)
        self._embeddings.move_to_end(place)
        embedded = time.perf_counter()
        found = [_mask(each.logits > 0, each.quality) for each in model.predict(self._embeddings[place], prompt)]
        masks = [mask for mask in found if mask.area][:MOST_PROPOSALS]
        seconds = (loaded - started, embedded - loaded, time.perf_counter() - embedded)
        return Answer(name, masks, is_new, seconds)


def _mask(pixels: Any, quality: float) -> Mask:
    return Mask(rle.encode(pixels), rle.bbox_xywh(pixels), int(np.count_nonzero(pixels)), round(float(quality), 4))
