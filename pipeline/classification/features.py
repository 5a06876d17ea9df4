"""Instances to vectors. Each kind of feature has a name with a version; a class head knows only the kind it learned.

"descriptor/1"               no weights needed: colours, edges, outline, size (descriptor.py)
"mobilenet-v2/1"             a small network's, pooled over the mask (encoder.py)
"mobilenet-v2+descriptor/1"  both side by side
"segmenter:<name>/1"         the segmenter's own, as the segmentation stage left them in `detections/features/`
"""

from collections.abc import Sequence
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.classification import descriptor, encoder
from pipeline.errors import ClassHeadError, PipelineError, SegmenterUnavailableError
from pipeline.segmentation import registry, rle
from pipeline.segmentation.base import View
from pipeline.segmentation.views import load_view
from pipeline.storage.layout import SequenceLayout
from pipeline.storage.records import DetectionRecord
from pipeline.storage.sequence import SequenceFileError, load_features, read_camera, read_frames

Mask = NDArray[np.bool_]

DESCRIPTOR: Final = descriptor.KIND
MOBILENET: Final = encoder.KIND
BOTH: Final = "mobilenet-v2+descriptor/1"
_SEGMENTER: Final = "segmenter:"
_WEIGHT: Final = np.float32(2)
"""Of the network's features beside the descriptor's. Measured: what is of no class is told better (0.91 for 0.87)."""


class FeatureExtractor(Protocol):
    """Vectors of the instances of one view: deterministic, and the same whichever others are asked for with them."""

    @property
    def kind(self) -> str: ...

    @property
    def dimension(self) -> int: ...

    def of(self, view: View, masks: Sequence[Mask]) -> NDArray[np.float32]:
        """(N, dimension) for masks bool (H, W); NaN for an empty mask."""
        ...


class _Both:
    kind = BOTH
    dimension = encoder.DIMENSION + descriptor.DIMENSION

    def __init__(self, models_folders: Sequence[Path]) -> None:
        self._parts = encoder.Encoder(models_folders), descriptor.Descriptor()

    def of(self, view: View, masks: Sequence[Mask]) -> NDArray[np.float32]:
        network, own = (each.of(view, masks) for each in self._parts)
        return np.asarray(np.concatenate([_WEIGHT * network, own], axis=1), dtype=np.float32)


def segmenter_kind(name: str, sha256: str = "") -> str:
    """The kind of the features that the segmenter of that name gives; sha256: of its weights. Others have others."""
    return f"{_SEGMENTER}{name}-{sha256[:12]}/1" if sha256 else f"{_SEGMENTER}{name}/1"


def is_segmenters(kind: str) -> bool:
    """Whether features of this kind come with the instances and cannot be had of an image and a mask."""
    return kind.startswith(_SEGMENTER)


def stored(own: NDArray[np.float32]) -> NDArray[np.float32]:
    """A segmenter's own features in the precision they are kept in, so that a head sees what it was trained on."""
    return own.astype(np.float16).astype(np.float32)


def why_not(kind: str, models_folders: Sequence[Path]) -> str:
    """Why features of that kind cannot be had of images and masks here; empty where they can."""
    if kind == DESCRIPTOR:
        return ""
    if is_segmenters(kind):
        return f"Features of the kind {kind} come with the segmenter's instances; a mask alone does not have them."
    if kind not in (MOBILENET, BOTH):
        return f"Features of the kind {kind!r} are not known to this version."
    path = registry.find_model(encoder.FILE, models_folders)
    if path is None:
        return f"{encoder.FILE} is in none of the folders of {registry.SETTING}."
    try:
        registry.verified(path, encoder.SHA256)
    except SegmenterUnavailableError as error:
        return str(error)
    if find_spec("ai_edge_litert") is None:
        return f"The package ai-edge-litert, which runs {encoder.FILE}, is not installed (extra `deeplab`)."
    return ""


def best_kind(models_folders: Sequence[Path]) -> str:
    """The kind to train a new head on, with what is there."""
    return DESCRIPTOR if why_not(BOTH, models_folders) else BOTH


def extractor(kind: str, models_folders: Sequence[Path]) -> FeatureExtractor:
    """Raises ClassHeadError saying what is missing. The last ones are kept: a network loads once."""
    return _extractor(kind, tuple(models_folders))


@lru_cache(maxsize=2)
def _extractor(kind: str, models_folders: tuple[Path, ...]) -> FeatureExtractor:
    reason = why_not(kind, models_folders)
    if reason:
        raise ClassHeadError(reason)
    if kind == DESCRIPTOR:
        return descriptor.Descriptor()
    return encoder.Encoder(models_folders) if kind == MOBILENET else _Both(models_folders)


def instance_features(view: View, mask: Mask, kind: str, models_folders: Sequence[Path] = ()) -> NDArray[np.float32]:
    """(D,) of one instance, bool (H, W); NaN for an empty mask. For several of one view, `extractor(...).of` is
    quicker. Raises ClassHeadError where features of that kind cannot be had."""
    found: NDArray[np.float32] = extractor(kind, models_folders).of(view, [mask])[0]
    return found


def sequence_features(
    layout: SequenceLayout, records: Sequence[DetectionRecord], kind: str, models_folders: Sequence[Path] = ()
) -> NDArray[np.float32]:
    """(N, D) of detections of one sequence, from its files and the detections' own masks (`rle`), in their order.

    One frame at a time. A row of NaN: it cannot be had (no such frame, its image or depth damaged, an empty mask).
    The segmenter's own features are those of the instance as it was found, whatever became of its mask.
    """
    rows_of: dict[int, list[int]] = {}
    for row, record in enumerate(records):
        rows_of.setdefault(record.number, []).append(row)
    if is_segmenters(kind):
        return _stored(layout, records, rows_of, kind)
    worker = extractor(kind, models_folders)
    out = np.full((len(records), worker.dimension), np.nan, np.float32)
    camera = read_camera(layout)
    for frame in read_frames(layout):
        rows = rows_of.pop(frame.number, None)
        if rows is None:
            continue
        try:
            view = load_view(layout, camera, frame)
        except SequenceFileError:
            continue
        masks = [_mask(records[row], view.image.shape[:2]) for row in rows]
        out[rows] = worker.of(view, masks)
        if not rows_of:
            break
    return out


def _mask(record: DetectionRecord, shape: tuple[int, ...]) -> Mask:
    try:
        mask = rle.decode(record.rle)
    except PipelineError:
        return np.zeros(shape, bool)
    return mask if mask.shape == shape else np.zeros(shape, bool)


def _stored(
    layout: SequenceLayout, records: Sequence[DetectionRecord], rows_of: dict[int, list[int]], kind: str
) -> NDArray[np.float32]:
    found: dict[int, NDArray[np.float32]] = {}
    width = 0
    for number in sorted(rows_of):
        try:
            stored = load_features(layout, number, kind)
        except SequenceFileError:
            continue
        if stored is None or (width and stored.shape[1] != width):
            continue
        width = stored.shape[1]
        for row in rows_of[number]:
            if 0 <= records[row].instance < len(stored):
                found[row] = stored[records[row].instance]
    if not width:
        raise ClassHeadError(f"Not one of these detections has features of the kind {kind}.")
    out = np.full((len(records), width), np.nan, np.float32)
    for row, values in found.items():
        out[row] = values
    return out
