"""DeepLab v3 (MobileNet v2, 8-bit) on a CPU: 21 PASCAL VOC classes per pixel, cut into instances.

Chen et al., "Rethinking Atrous Convolution for Semantic Image Segmentation", 2017; the file is google-coral/test_data's
`deeplabv3_mnv2_pascal_quant.tflite`. Its logits (33x33x21) are read inside the graph. The input is letterboxed to
513x513 with the network's mean grey, never stretched; an image far wider than high (or higher than wide) is seen in
overlapping tiles, whose logits are blended. Each class's parts are cut where the depth jumps, without depth at their
necks, and each instance's log-odds are drawn to colours and edges of the image (`refinement`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.errors import SegmenterUnavailableError
from pipeline.segmentation import registry
from pipeline.segmentation.base import ClassSpec, Instance, View
from pipeline.segmentation.deeplab_runtime import MEAN, SIDE, STRIDE, Grid, LiteNetwork, Network, OnnxNetwork
from pipeline.segmentation.refinement import PAD, SURE, contested, outlined, refined, signed_distance
from pipeline.segmentation.size_prior import log_likelihoods, typical_size
from pipeline.segmentation.splitting import by_concavity, by_depth, by_shape, parts
from pipeline.segmentation.vocabulary import VOC, voc_indices, words

Floats = NDArray[Any]
Mask = NDArray[np.bool_]

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
_LEAST_PROBABILITY: Final = 0.35
"""Where no class is likelier than that, there is none."""
_CONVEX: Final = frozenset({"boat", "bottle", "bus", "car", "sofa", "train", "tvmonitor"})
"""Classes whose outlines hardly have dents: where there are some, two touch."""
_OUT_OF_QUESTION: Final = -7.0
"""A class whose logit is that much below another's in every cell is no longer followed."""
_WITHIN: Final = 1.5
_ELSEWHERE: Final = -4.0
"""Log-odds that a pixel gains where its depth is the instance's, loses where it is another."""
_SLACK: Final = 0.05
_ENOUGH: Final = 30
"""Share of its distance by which an instance may extend beyond what is seen of it, on either side; pixels of it whose
depth must be known to go by."""
_APART: Final = 0.5
"""Log-odds per pixel of distance to the line between two instances of one class."""


@dataclass(frozen=True, slots=True)
class _Seen:
    """One view through the network, `image` at work size (h, w).

    chance: (classes, h, w) probabilities of the network's `classes`; those it nowhere takes into consideration are left
    out. features: (33, 33, 256) of each tile, with its corner and size (x, y, width, height) in pixels of the image.
    least: pixels that an instance must have.
    """

    image: NDArray[np.uint8]
    classes: NDArray[np.intp]
    chance: Floats
    features: list[tuple[Floats, tuple[int, int, int, int]]]
    least: int


@dataclass(frozen=True, slots=True)
class _Found:
    """An instance at work size: where it is, how sure its class is, of which network classes it is, its log-odds."""

    mask: Mask
    score: float
    voc: tuple[int, ...]
    odds: Floats


class DeepLab:
    """Segmenter "deeplab". Raises SegmenterUnavailableError naming the file where weights or runtime are missing.

    checkpoint: a fine-tuned network (`deeplab_torch.save_checkpoint` or `to_onnx`) in the place of the file; its
    classes are those it was trained on, and label classes are found among them by name.
    """

    name = "deeplab"

    def __init__(
        self,
        classes: tuple[ClassSpec, ...],
        models_folders: tuple[Path, ...] = (),
        checkpoint: Path | None = None,
    ) -> None:
        self._network: Network
        if checkpoint is not None:
            self._network = OnnxNetwork(checkpoint)
            known = {name.casefold(): number for number, name in enumerate(self._network.class_names) if number}
            meant = [(spec, _trained(spec, known)) for spec in classes]
        else:
            path = registry.find_model(registry.DEEPLAB_FILE, models_folders)
            if path is None:
                raise SegmenterUnavailableError(
                    f"segmenter deeplab: {registry.DEEPLAB_FILE} is in none of the folders of {registry.SETTING}."
                )
            self._network = LiteNetwork(registry.verified(path, registry.DEEPLAB_SHA256))
            meant = [(spec, voc_indices(spec)) for spec in classes]
        self._classes = [(spec, indices) for spec, indices in meant if indices]

    def segment(self, views: Sequence[View]) -> list[list[Instance]]:
        """Instances of each view, most confident first; with depth, neighbours of one class are told apart by it."""
        return [self._segment(view, seen) for view, seen in zip(views, self._seen(views), strict=True)]

    def _segment(self, view: View, seen: _Seen) -> list[Instance]:
        image, chance = seen.image, seen.chance
        size = image.shape[1], image.shape[0]
        depth = None if view.depth is None else cv2.resize(view.depth, size, interpolation=cv2.INTER_NEAREST)
        focal = None
        if view.camera_matrix is not None:
            focal = float(view.camera_matrix[0, 0]) * size[0] / view.image.shape[1]
        label = chance.argmax(axis=0)
        wanted = {index for _, indices in self._classes for index in indices}
        found: list[_Found] = []
        for row, index in enumerate(seen.classes):
            if int(index) in wanted:
                # More likely than any other class, background included.
                likely = (label == row) & (chance[row] > _LEAST_PROBABILITY)
                for piece, whole in _pieces(
                    likely, depth, focal, seen.least, convex=self._network.class_names[index] in _CONVEX
                ):
                    odds = _drawn(image, piece, whole, chance[row], depth)
                    found.append(_Found(piece, float(chance[row][piece].mean()), (int(index),), odds))
        found = self._joined(found)
        settled = contested([each.odds for each in found])
        found = [replace(each, odds=own, mask=own > 0) for each, own in zip(found, settled, strict=True)]
        instances = [self._instance(each, view, seen, depth, focal) for each in found if each.mask.any()]
        return sorted((each for each in instances if each is not None), key=lambda each: -each.confidence)

    def _seen(self, views: Sequence[View]) -> list[_Seen]:
        """Every view through the network, the tiles of all of them side by side."""
        images, cuts, canvases = [], [], []
        for view in views:
            h, w = view.image.shape[:2]
            tile = max(stop - start for start, stop in tiles(max(h, w), min(h, w)))
            scale = min(1.0, _WORK / tile)
            size = max(8, round(w * scale)), max(8, round(h * scale))
            image = np.asarray(cv2.resize(view.image, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
            images.append(image)
            cuts.append(_cut(image.shape[0], image.shape[1]))
            canvases += [_letterboxed(image[y : y + h, x : x + w]) for x, y, w, h in cuts[-1]]
        grids = iter(self._network.run(canvases))
        return [_blended(image, [(next(grids), each) for each in cut]) for image, cut in zip(images, cuts, strict=True)]

    def probabilities(self, image: NDArray[np.uint8]) -> Floats:
        """(classes, H, W) class probabilities of a uint8 BGR image (H, W, 3), bilinear between the network's cells."""
        cut = _cut(image.shape[0], image.shape[1])
        grids = self._network.run([_letterboxed(image[y : y + h, x : x + w]) for x, y, w, h in cut])
        seen = _blended(image, list(zip(grids, cut, strict=True)))
        chance = np.zeros((len(self._network.class_names), *image.shape[:2]), np.float32)
        chance[seen.classes] = seen.chance
        return chance

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
                score = (a * rider.score + b * mount.score) / (a + b)
                both = _Found(rider.mask | mount.mask, score, voc, np.maximum(rider.odds, mount.odds))
                found = [each for each in found if each is not rider and each is not mount] + [both]
                mounts.remove(mount)
        return found

    def _instance(
        self, found: _Found, view: View, seen: _Seen, depth: Floats | None, focal: float | None
    ) -> Instance | None:
        candidates = [spec for spec, indices in self._classes if indices == found.voc]
        if not candidates:
            return None
        shares = _by_size(candidates, found.mask, depth, focal)
        best = int(np.argmax(shares))
        scores = {spec.id: round(found.score * float(share), 6) for spec, share in zip(candidates, shares, strict=True)}
        class_id = candidates[best].id
        instance = outlined(found.odds, view.image.shape[1::-1], class_id, scores[class_id], scores)
        return instance and replace(instance, features=_pooled(found.mask, seen.features))


def _trained(spec: ClassSpec, known: dict[str, int]) -> tuple[int, ...]:
    """The checkpoint's class of that name, else the one its name means in the vocabulary of the file."""
    names = (spec.name, *(VOC[index] for index in voc_indices(spec)))
    return next(((known[name.casefold()],) for name in names if name.casefold() in known), ())


def _cut(h: int, w: int) -> list[tuple[int, int, int, int]]:
    """(x, y, width, height) of the tiles of an image."""
    spans = tiles(max(h, w), min(h, w))
    return [(0, a, w, b - a) if h > w else (a, 0, b - a, h) for a, b in spans]


def _letterboxed(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The network's square with uint8 BGR `image` (h, w, 3) as RGB in its upper left corner."""
    h, w = image.shape[:2]
    inner = _inner(h, w)
    canvas = np.full((SIDE, SIDE, 3), MEAN, np.uint8)
    canvas[: inner[1], : inner[0]] = cv2.cvtColor(
        cv2.resize(image, inner, interpolation=cv2.INTER_LINEAR), cv2.COLOR_BGR2RGB
    )
    return canvas


def _inner(h: int, w: int) -> tuple[int, int]:
    scale = SIDE / max(h, w)
    return max(1, round(w * scale)), max(1, round(h * scale))


def _spread(grid: Floats, h: int, w: int) -> Floats:
    """(classes, h, w) of the (33, 33, classes) of an image that was letterboxed."""
    inner = _inner(h, w)
    x = ((np.arange(w, dtype=np.float32) + 0.5) * inner[0] / w - 0.5) / STRIDE
    y = ((np.arange(h, dtype=np.float32) + 0.5) * inner[1] / h - 0.5) / STRIDE
    across, down = np.meshgrid(x, y)
    planes = [
        cv2.remap(np.ascontiguousarray(grid[..., k]), across, down, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        for k in range(grid.shape[2])
    ]
    return np.asarray(np.stack(planes), dtype=np.float32)


def _blended(image: NDArray[np.uint8], seen: list[tuple[Grid, tuple[int, int, int, int]]]) -> _Seen:
    """Put the tiles of an image together."""
    h, w = image.shape[:2]
    longest = max(max(cut[2:]) for _, cut in seen)
    least = max(24, int(_MIN_SHARE * h * w * longest / max(h, w)))
    behind = np.max(
        [(grid.logits - grid.logits.max(axis=2, keepdims=True)).max(axis=(0, 1)) for grid, _ in seen], axis=0
    )
    classes = np.flatnonzero(behind > _OUT_OF_QUESTION)
    if len(seen) == 1:
        logits = _spread(seen[0][0].logits[..., classes], h, w)
    else:
        logits = np.zeros((classes.size, h, w), np.float32)
        total = np.zeros((h, w), np.float32)
        for grid, (x, y, width, height) in seen:
            # Rising from either end: what a tile has at its border it sees without its surroundings.
            long = np.arange(max(width, height), dtype=np.float32)
            weight = np.minimum(long, long[::-1]) + 1
            weight = weight[:, None] if height > width else weight[None]
            part = (slice(y, y + height), slice(x, x + width))
            logits[(slice(None), *part)] += _spread(grid.logits[..., classes], height, width) * weight
            total[part] += weight
        logits /= total
    logits -= logits.max(axis=0)
    chance = np.exp(logits, out=logits)
    chance /= chance.sum(axis=0)
    return _Seen(image, classes, chance, [(grid.features, cut) for grid, cut in seen], least)


def _pieces(
    likely: Mask, depth: Floats | None, focal: float | None, least: int, *, convex: bool
) -> list[tuple[Mask, Mask]]:
    """The instances in what is likely of one class (H, W), each with the connected part that it was cut from."""
    found = []
    for whole in parts(likely, least):
        apart = [whole] if depth is None or focal is None else by_depth(whole, depth, focal, least)
        for each in apart:
            found += [(piece, whole) for piece in (by_concavity(each, least) if convex else by_shape(each, least))]
    return found


def _drawn(image: NDArray[np.uint8], piece: Mask, whole: Mask, chance: Floats, depth: Floats | None) -> Floats:
    """Log-odds (H, W) of being `piece`, one of those `whole` was cut into, drawn to the image; chance: of the class."""
    rows, columns = np.flatnonzero(piece.any(axis=1)), np.flatnonzero(piece.any(axis=0))
    window = (
        slice(max(rows[0] - PAD, 0), rows[-1] + PAD + 1),
        slice(max(columns[0] - PAD, 0), columns[-1] + PAD + 1),
    )
    mine, others = piece[window], whole[window] & ~piece[window]
    near = np.clip(chance[window], 1e-4, 1 - 1e-4)
    prior = np.log(near / (1 - near))
    if others.any():
        prior = np.minimum(prior, _APART * (signed_distance(mine) - signed_distance(others)) / 2)
    result = np.full(piece.shape, -SURE, np.float32)
    evidence = None if depth is None else _at_its_depth(depth[window], mine)
    result[window] = refined(image[window], mine, evidence, prior=prior)
    return result


def _at_its_depth(depth: Floats, mine: Mask) -> Floats | None:
    """Log-odds (H, W) that the depth of a pixel adds for a piece, `mine`; None where too little of it is known."""
    known = depth[mine & (depth > 0)]
    if known.size < _ENOUGH:
        return None
    near, middle, far = np.percentile(known, (10, 50, 90))
    slack = _SLACK * middle
    within = (depth > near - slack) & (depth < far + slack)
    outside = (depth <= near - slack) | (depth >= far + slack)
    return np.asarray(_WITHIN * within + _ELSEWHERE * outside, dtype=np.float32)


def _pooled(mask: Mask, seen: list[tuple[Floats, tuple[int, int, int, int]]]) -> NDArray[np.float32]:
    """The features (256,) of a mask (H, W): the mean of the cells it covers, each as much as it is covered."""
    total, weight = np.zeros(seen[0][0].shape[2], np.float64), 0.0
    for features, (x, y, w, h) in seen:
        inner = _inner(h, w)
        cells = inner[1] // STRIDE + 1, inner[0] // STRIDE + 1
        share = cv2.resize(mask[y : y + h, x : x + w].astype(np.float32), cells[::-1], interpolation=cv2.INTER_AREA)
        total += np.einsum("hw,hwd->d", share, features[: cells[0], : cells[1]], dtype=np.float64)
        weight += float(share.sum())
    return np.asarray(total / max(weight, 1e-9), dtype=np.float32)


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
