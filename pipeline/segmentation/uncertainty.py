"""Where a segmentation is not sure: a map per frame, and the regions of it that are worth a person's time.

The map is the entropy, in bits, of what a pixel shows: background or one of the instances, and of which class. 1 bit is
a toss-up between two; more is cut off at 1. Stored as 8-bit grey at a quarter of the image's size, 0…255 for 0…1, each
cell the mean of four samples. What a segmenter does not see at all it is not unsure of: 0.

p = σ(logit / T) says how likely a pixel belongs to an instance, given that the instance is real; the class scores sum
to how likely that is. A segmenter without logits is taken to be off at its outlines by BLUR pixels (the scale of a
logistic curve): a model of how masks usually are, not of this one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from pipeline.segmentation.base import Instance

Floats = NDArray[np.float32]
Map = NDArray[np.uint8]

SCALE: Final = 4
"""Pixels of the image, in either direction, to one of the map."""
_STEP: Final = 2
"""Every so many pixels of the image is a sample: what happens between them is thinner than any outline is sure."""
BLUR: Final = 1.5
_PAD: Final = 16
_PAD_SHARE: Final = 0.25
"""How far around a mask its probabilities are looked at: pixels, and share of its sides if that is more."""
_PNG: Final = (cv2.IMWRITE_PNG_COMPRESSION, 6)


@dataclass(frozen=True, slots=True)
class UncertainRegion:
    """A part of a frame where the segmentation may be wrong. bbox_xywh, area: pixels of the image. expected_wrong:
    pixels of it that are expected to be wrong. mean, peak: of the map, 0…1."""

    bbox_xywh: tuple[int, int, int, int]
    area: int
    expected_wrong: float
    mean: float
    peak: float


def uncertainty_map(instances: Sequence[Instance], shape: tuple[int, int], temperature: float = 1.0) -> Map:
    """uint8 (ceil(H / 4), ceil(W / 4)), 0…255 for 0…1 bit, of all instances found in an image of `shape` (H, W).

    temperature: what the logits are divided by, fitted to corrected masks (`calibration.fit_binary_temperature`).
    """
    height, width = (-(-side // SCALE) for side in shape)
    size = 2 * height, 2 * width
    total, nothing = np.zeros(size, np.float32), np.zeros(size, np.float32)
    parts = []
    for each in instances:
        real, doubt = _class_doubt(each)
        found = _chances(each, temperature) if real > 0 else None
        if found is None:
            continue
        window, chance = found
        chance *= np.float32(real)
        total[window] += chance
        nothing[window] += np.log1p(-chance)
        parts.append((window, chance, doubt))
    some = -np.expm1(nothing)
    entropy = _surprise(np.exp(nothing))
    share = np.divide(some, total, out=np.zeros(size, np.float32), where=total > 0)
    for window, chance, doubt in parts:
        own = chance * share[window]
        entropy[window] += _surprise(own) + np.float32(doubt) * own
    cells = np.minimum(entropy, 1).reshape(height, 2, width, 2).mean(axis=(1, 3))
    return np.asarray(np.rint(255 * cells), dtype=np.uint8)


def _class_doubt(instance: Instance) -> tuple[float, float]:
    """How likely the instance is real, and the entropy of its class in bits if it is."""
    scores = np.array([*instance.class_scores.values()] or [instance.confidence], dtype=np.float64)
    real = float(np.clip(scores.sum(), 0, 1))
    share = scores[scores > 0] / max(float(scores.sum()), 1e-12)
    return min(real, 0.999999), float(-(share * np.log2(share)).sum()) if share.size else 0.0


def _surprise(p: Floats) -> Floats:
    """-p log2 p, 0 for 0."""
    return np.asarray(-p * np.log2(np.maximum(p, np.float32(1e-12))), dtype=np.float32)


def _chances(instance: Instance, temperature: float) -> tuple[tuple[slice, slice], Floats] | None:
    """Where the instance is or may be, among the samples, and how likely each is of it."""
    rows, columns = np.flatnonzero(instance.mask.any(axis=1)), np.flatnonzero(instance.mask.any(axis=0))
    if not rows.size:
        return None
    (top, bottom), (left, right) = (
        _span(int(side[0]), int(side[-1]) + 1, length)
        for side, length in zip((rows, columns), instance.mask.shape, strict=True)
    )
    part = (slice(top, bottom, _STEP), slice(left, right, _STEP))
    if instance.logits is not None:
        odds: Any = instance.logits[part].astype(np.float32) / np.float32(temperature)
    else:
        odds = _signed_distance(instance.mask[part]) * np.float32(_STEP / BLUR)
    chance = np.asarray(expit(odds), dtype=np.float32)
    first, start = top // _STEP, left // _STEP
    return (slice(first, first + chance.shape[0]), slice(start, start + chance.shape[1])), chance


def _span(first: int, last: int, length: int) -> tuple[int, int]:
    """The rows (or columns) looked at for a mask from `first` to `last`, on the samples' raster."""
    pad = max(_PAD, round(_PAD_SHARE * (last - first)))
    return max(first - pad, 0) // _STEP * _STEP, min(last + pad, length)


def _signed_distance(mask: NDArray[np.bool_]) -> Floats:
    """Samples to the outline, positive inside; where there is no outline, far from it."""
    inside = cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, 3)
    outside = cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, 3)
    return np.asarray(np.clip(np.where(mask, inside - 0.5, 0.5 - outside), -50, 50), dtype=np.float32)


def encoded(uncertainty: Map) -> bytes:
    """The map as a PNG."""
    ok, content = cv2.imencode(".png", uncertainty, _PNG)
    if not ok:
        raise ValueError("the map of uncertainty cannot be encoded.")
    return bytes(content.tobytes())


def mean(uncertainty: Map) -> float:
    """Of a whole frame, 0…1."""
    return round(float(uncertainty.mean()) / 255, 6) if uncertainty.size else 0.0


def expected_wrong(uncertainty: NDArray[Any]) -> Floats:
    """How likely each pixel is wrong, 0…0.5, if it is a matter of yes or no: what min(p, 1 - p) is at that entropy."""
    return np.asarray(_WRONG[uncertainty], dtype=np.float32)


def _inverse() -> Floats:
    p = np.linspace(0, 0.5, 5001)
    inner = p[1:]
    bits = np.concatenate([[0.0], -inner * np.log2(inner) - (1 - inner) * np.log2(1 - inner)])
    return np.interp(np.arange(256) / 255, bits, p).astype(np.float32)


_WRONG: Final = _inverse()


def uncertain_regions(
    uncertainty: Map, shape: tuple[int, int], *, threshold: float = 0.5, band: int = 4, least: float = 16.0
) -> list[UncertainRegion]:
    """Parts of a frame (H, W) to show a person, the one with the most pixels expected to be wrong first.

    uncertainty: as `uncertainty_map` gives it. threshold: of the map, 0…1. band: outlines are unsure everywhere, and
    what is no wider than so many pixels on either side of one is left out (a grey opening takes away what is that
    thin). least: pixels expected to be wrong, below which a region is not worth it.
    """
    side = 2 * -(-band // SCALE) + 1
    level = round(255 * threshold)
    # Beyond the border of the image nothing is sure: a region that it cuts is not thin for that.
    padded = cv2.copyMakeBorder(uncertainty, side, side, side, side, cv2.BORDER_REPLICATE)
    thick = cv2.morphologyEx(padded, cv2.MORPH_OPEN, np.ones((side, side), np.uint8))[side:-side, side:-side]
    number, labels, stats, _ = cv2.connectedComponentsWithStats((thick >= level).astype(np.uint8), connectivity=8)
    wrong = np.bincount(labels.ravel(), weights=expected_wrong(thick).ravel(), minlength=number) * SCALE**2
    regions = []
    for label in range(1, number):
        if wrong[label] < least:
            continue
        left, top, width, height, cells = (int(value) for value in stats[label])
        values = thick[top : top + height, left : left + width][
            labels[top : top + height, left : left + width] == label
        ]
        x, y = SCALE * left, SCALE * top
        box = x, y, min(SCALE * width, shape[1] - x), min(SCALE * height, shape[0] - y)
        regions.append(
            UncertainRegion(
                box,
                cells * SCALE**2,
                round(float(wrong[label]), 2),
                round(float(values.mean()) / 255, 4),
                round(float(values.max()) / 255, 4),
            )
        )
    return sorted(regions, key=lambda each: (-each.expected_wrong, each.bbox_xywh))
