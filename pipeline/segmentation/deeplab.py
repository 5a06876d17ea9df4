"""DeepLab v3 (MobileNet v2, 8-bit) on a CPU: 21 PASCAL VOC classes per pixel, cut into instances.

Chen et al., "Rethinking Atrous Convolution for Semantic Image Segmentation", 2017; the file is google-coral/test_data's
`deeplabv3_mnv2_pascal_quant.tflite`. Its output is an arg-max; the logits (33x33x21) are read inside the graph, so
that there are probabilities. The input is letterboxed to 513x513 with the network's mean grey, never stretched; an
image far wider than high (or higher than wide) is seen in overlapping tiles, whose logits are blended.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from pipeline.errors import SegmenterUnavailableError
from pipeline.segmentation import registry
from pipeline.segmentation.base import ClassSpec, Instance, View
from pipeline.segmentation.components import surface_components
from pipeline.segmentation.refinement import guided_filter
from pipeline.segmentation.size_prior import log_likelihoods, typical_size
from pipeline.segmentation.vocabulary import VOC, voc_indices, words

Floats = NDArray[Any]
Mask = NDArray[np.bool_]

_SIDE: Final = 513
_STRIDE: Final = 16
_MEAN: Final = 128
_WORK: Final = 480
"""Longest side of a tile on which masks are made, pixels."""
_LONG: Final = 1.8
"""Ratio of the sides (16:9 is less) from which an image is cut into tiles: whole, it would fill little of the network's
square."""
_TILE: Final = 4 / 3
_OVERLAP: Final = 0.25
_MOST_TILES: Final = 6
"""Ratio of a tile's sides, share of a tile that it has in common with the next at least, and a bound on the time."""
_MIN_SHARE: Final = 0.0008
"""Of a tile: smaller instances are noise of the 33x33 grid."""
_DEPTH_SLOPE: Final = 6.0
"""Looser than for geometry alone: the network has already said that it is one class."""


@dataclass(frozen=True, slots=True)
class _Found:
    mask: Mask
    score: float
    voc: tuple[int, ...]


class DeepLab:
    """Segmenter "deeplab". Raises SegmenterUnavailableError naming the file where weights or runtime are missing."""

    name = "deeplab"

    def __init__(self, classes: tuple[ClassSpec, ...], models_folders: tuple[Path, ...] = ()) -> None:
        path = registry.find_model(registry.DEEPLAB_FILE, models_folders)
        if path is None:
            raise SegmenterUnavailableError(
                f"segmenter deeplab: {registry.DEEPLAB_FILE} is in none of the folders of {registry.SETTING}."
            )
        registry.verified(path, registry.DEEPLAB_SHA256)
        try:
            from ai_edge_litert.interpreter import Interpreter, OpResolverType
        except ImportError as error:
            raise SegmenterUnavailableError(
                f"segmenter deeplab: the package ai-edge-litert, which runs {path.name}, is not installed."
            ) from error
        # The default delegate fuses the graph and leaves nothing to read inside it.
        self._network: Any = Interpreter(
            str(path),
            num_threads=2,
            experimental_preserve_all_tensors=True,
            experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        )
        self._network.allocate_tensors()
        self._input = self._network.get_input_details()[0]["index"]
        self._logits = next(
            (each["index"], *each["quantization"])
            for each in self._network.get_tensor_details()
            if "logits/semantic/BiasAdd" in each["name"] and tuple(each["shape"]) == (1, 33, 33, 21)
        )
        self._classes = [(spec, voc) for spec in classes if (voc := voc_indices(spec))]

    def segment(self, views: Sequence[View]) -> list[list[Instance]]:
        """Instances of each view, most confident first; with depth, neighbours of one class are told apart by it."""
        return [self._segment(view) for view in views]

    def _segment(self, view: View) -> list[Instance]:
        h, w = view.image.shape[:2]
        tile = max(stop - start for start, stop in tiles(max(h, w), min(h, w)))
        scale = min(1.0, _WORK / tile)
        size = max(8, round(w * scale)), max(8, round(h * scale))
        image = np.asarray(cv2.resize(view.image, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
        probability = self.probabilities(image)
        wanted = sorted({index for _, voc in self._classes for index in voc})
        label = np.argmax(probability, axis=0)
        for index in wanted:
            if np.any(label == index):
                probability[index] = np.clip(guided_filter(image, probability[index], 6, 1e-3), 0, 1)
        depth = None if view.depth is None else cv2.resize(view.depth, size, interpolation=cv2.INTER_NEAREST)
        focal = None if view.camera_matrix is None else float(view.camera_matrix[0, 0]) * size[0] / w
        found = []
        for index in wanted:
            # More likely than any other class, background included, after the outline was drawn to the image's edges.
            others = np.max(np.delete(probability, index, axis=0), axis=0)
            mask = (probability[index] > others) & (probability[index] > 0.35)
            found += [
                _Found(each, float(probability[index][each].mean()), (index,))
                for each in _instances(mask, depth, focal, max(24, int(_MIN_SHARE * mask.size * tile / max(h, w))))
            ]
        found = self._joined(found)
        instances = [self._instance(each, view, depth, focal, (w, h)) for each in found]
        return sorted((each for each in instances if each is not None), key=lambda each: -each.confidence)

    def probabilities(self, image: NDArray[np.uint8]) -> Floats:
        """(21, H, W) class probabilities of a uint8 BGR image (H, W, 3), bilinear between the network's 33x33 cells."""
        h, w = image.shape[:2]
        parts = tiles(max(h, w), min(h, w))
        if len(parts) == 1:
            stack = self._logits_of(image)
        else:
            upright = h > w
            stack = np.zeros((len(VOC), h, w), np.float32)
            total = np.zeros(max(h, w), np.float32)
            for start, stop in parts:
                # Rising from either end: what a tile has at its border it sees without its surroundings.
                weight = np.minimum(np.arange(stop - start), np.arange(stop - start)[::-1]).astype(np.float32) + 1
                part = (slice(start, stop), slice(None)) if upright else (slice(None), slice(start, stop))
                logits = self._logits_of(np.ascontiguousarray(image[part]))
                stack[(slice(None), *part)] += logits * (weight[:, None] if upright else weight)
                total[start:stop] += weight
            stack /= total[:, None] if upright else total
        stack -= stack.max(axis=0)
        np.exp(stack, out=stack)
        stack /= stack.sum(axis=0)
        return stack

    def _logits_of(self, image: NDArray[np.uint8]) -> Floats:
        """(21, H, W) of an image that fits the network's square."""
        h, w = image.shape[:2]
        scale = _SIDE / max(h, w)
        inner = max(1, round(w * scale)), max(1, round(h * scale))
        canvas = np.full((_SIDE, _SIDE, 3), _MEAN, np.uint8)
        canvas[: inner[1], : inner[0]] = cv2.cvtColor(
            cv2.resize(image, inner, interpolation=cv2.INTER_LINEAR), cv2.COLOR_BGR2RGB
        )
        self._network.set_tensor(self._input, canvas[None])
        self._network.invoke()
        index, step, zero = self._logits
        logits = (self._network.get_tensor(index)[0].astype(np.float32) - zero) * np.float32(step)
        # Cell i of the grid sits on pixel 16 i of the 513 (corners aligned).
        x = ((np.arange(w, dtype=np.float32) + 0.5) * inner[0] / w - 0.5) / _STRIDE
        y = ((np.arange(h, dtype=np.float32) + 0.5) * inner[1] / h - 0.5) / _STRIDE
        across, down = np.meshgrid(x, y)
        planes = [
            cv2.remap(
                np.ascontiguousarray(logits[..., k]), across, down, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
            )
            for k in range(len(VOC))
        ]
        return np.asarray(np.stack(planes), dtype=np.float32)

    def _joined(self, found: list[_Found]) -> list[_Found]:
        """A person on a bicycle becomes one object where a label class (cyclist) says so."""
        for _, voc in self._classes:
            if len(voc) < 2:
                continue
            riders = [each for each in found if each.voc == voc[:1]]
            mounts = [each for each in found if each.voc == voc[1:]]
            for rider in riders:
                near = cv2.dilate(rider.mask.astype(np.uint8), np.ones((5, 5), np.uint8)).astype(bool)
                mount = max(mounts, key=lambda each: np.count_nonzero(each.mask & near), default=None)
                if mount is None or not np.any(mount.mask & near):
                    continue
                a, b = int(rider.mask.sum()), int(mount.mask.sum())
                both = _Found(rider.mask | mount.mask, (a * rider.score + b * mount.score) / (a + b), voc)
                found = [each for each in found if each is not rider and each is not mount] + [both]
                mounts.remove(mount)
        return found

    def _instance(
        self, found: _Found, view: View, depth: Floats | None, focal: float | None, size: tuple[int, int]
    ) -> Instance | None:
        candidates = [spec for spec, voc in self._classes if voc == found.voc]
        if not candidates:
            return None
        shares = _by_size(candidates, found.mask, depth, focal)
        best = int(np.argmax(shares))
        soft = cv2.resize(found.mask.astype(np.float32), size, interpolation=cv2.INTER_LINEAR)
        scores = {spec.id: round(found.score * float(share), 6) for spec, share in zip(candidates, shares, strict=True)}
        mask = soft > 0.5
        return Instance(mask, candidates[best].id, scores[candidates[best].id], scores) if mask.any() else None


def tiles(long: int, short: int) -> list[tuple[int, int]]:
    """(start, stop) along the longer side of an image of the parts to be seen one by one; all of most images."""
    if long <= _LONG * short:
        return [(0, long)]
    side = _TILE * short
    count = min(_MOST_TILES, int(np.ceil((long / side - _OVERLAP) / (1 - _OVERLAP))))
    length = max(round(side), int(np.ceil(long / (count * (1 - _OVERLAP) + _OVERLAP))))
    length = min(length, long)
    return [(int(start), int(start) + length) for start in np.linspace(0, long - length, count).round()]


def _by_size(candidates: list[ClassSpec], mask: Mask, depth: Floats | None, focal: float | None) -> NDArray[np.float64]:
    """How the score is shared among label classes of one VOC class: by size where depth tells it, else by name."""
    # A class that bears the network's own name comes before one that is only a kind of it.
    prior = np.array([1.0 if "".join(words(each.name)) in VOC else 0.25 for each in candidates])
    even: NDArray[np.float64] = prior / prior.sum()
    if len(candidates) == 1 or depth is None or focal is None or not all(map(typical_size, candidates)):
        return np.asarray(even)
    known = depth[mask & np.isfinite(depth)]
    if known.size < 30:
        return np.asarray(even)
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    distance = float(np.median(known))
    along = float(np.subtract(*np.percentile(known, (92, 8))))
    cut = rows[0] == 0 or rows[-1] == mask.shape[0] - 1
    values = log_likelihoods(
        candidates,
        height=rows.size * distance / focal,
        across=columns.size * distance / focal,
        along=max(along, 0.05),
        cut_above=bool(cut),
        cut_aside=bool(columns[0] == 0 or columns[-1] == mask.shape[1] - 1),
    )
    share = prior * np.exp(values - values.max())
    return np.asarray(share / share.sum())


def _instances(mask: Mask, depth: Floats | None, focal: float | None, least: int) -> list[Mask]:
    """The connected parts of `mask` (H, W) of `least` pixels and more; where depth is known, parts behind one another
    count as apart."""
    number, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=4)
    parts = [labels == each for each in range(1, number)]
    parts = [part for part in parts if np.count_nonzero(part) >= least]
    if depth is None or focal is None:
        return parts
    return [piece for part in parts for piece in _by_depth(part, depth, focal, least)]


def _by_depth(part: Mask, depth: Floats, focal: float, least: int) -> list[Mask]:
    known = part & np.isfinite(depth) & (depth > 0)
    if np.count_nonzero(known) < 0.3 * np.count_nonzero(part):
        return [part]
    labels, number = surface_components(depth, known, focal, _DEPTH_SLOPE)
    sizes = np.bincount(labels[known], minlength=max(number, 1))
    large = np.flatnonzero(sizes >= max(least, 0.12 * sizes.sum()))
    if large.size < 2:
        return [part]
    # Pixels without a depth, and splinters, go to the nearest large piece.
    kept = np.isin(labels, large) & known
    rows, columns = distance_transform_edt(~kept, return_distances=False, return_indices=True)
    nearest = labels[rows, columns]
    return [part & (nearest == each) for each in large]
