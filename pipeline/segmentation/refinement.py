"""Outlines drawn to the edges of the image: how likely each pixel near an outline belongs to the object, as log-odds.

Three things speak: how far inside or outside the rough mask a pixel lies, whether its colour is more like the object's
or like what surrounds it at the same height of the image (local colour histograms, as Bai et al., "Video SnapCut",
2009, use them), and where the edges are (guided filter: He, Sun, Tang, "Guided Image Filtering", 2010).
"""

from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from pipeline.segmentation.base import Instance

Floats = NDArray[Any]
Mask = NDArray[np.bool_]

BAND: Final = 6.0
UNKNOWN_BAND: Final = 14.0
"""Pixels on either side of a rough outline within which the true one is looked for; where nothing is known of the
depth, and the rough mask therefore says little, more."""
PAD: Final = 24
"""Pixels around a rough mask that are worth looking at: they show the colours of its surroundings."""
SURE: Final = 8.0
"""Log-odds of what is beyond doubt; what is returned stays within them."""
_SLOPE: Final = 0.3
_UNKNOWN_SLOPE: Final = 0.15
"""Log-odds per pixel of distance to the rough outline; outside, where the depth is not known."""
_BEYOND: Final = 0.5
"""Log-odds per pixel of distance beyond the band."""
_COLOUR: Final = 1.2
_MOST: Final = 3.0
"""Weight of the colours' log-ratio, and its bound."""
_PRIOR: Final = 0.7
_PRIOR_COLOUR: Final = 1.0
"""Weights of a network's log-odds and of the colours beside them."""
_ROUNDS: Final = 2
"""The second takes the colours of what the first found."""
_CRUMB: Final = 0.03
"""Share of an object that a part of it has which is not connected with the rest, at least."""
_CELL: Final = 16
"""Rows of one cell of the histograms."""
_BINS: Final = (16, 12, 12)
"""Of lightness and the two colour axes, of which the outer quarters on either side are hardly ever seen."""
_BLUR: Final = 0.8
_FLOOR: Final = 20.0
"""Cells by which the histograms are smoothed; pixels of the colours of both sides that each of them is given."""
_TEMPERATURE: Final = 1.3
"""By which log-odds are divided to be those of probabilities: measured on the simulated street, where what is then
expected of a mask is on average what it has."""


def signed_distance(mask: Mask) -> Floats:
    """Pixels to the outline of `mask` (H, W), float32: positive inside, negative outside, never 0."""
    if mask.all() or not mask.any():
        return np.full(mask.shape, 1e3 if mask.any() else -1e3, np.float32)
    inside = cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, 5)
    outside = cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, 5)
    return np.asarray(np.where(mask, inside - 0.5, 0.5 - outside), dtype=np.float32)


def refined(
    image: NDArray[np.uint8],
    mask: Mask,
    evidence: Floats | None = None,
    known: Mask | None = None,
    *,
    prior: Floats | None = None,
    radius: int = 3,
) -> Floats:
    """Log-odds (H, W), float32 within ±SURE, of being the object that `mask` (H, W) roughly outlines.

    image: uint8 BGR (H, W, 3). evidence: log-odds that something else (depth) adds, or None. known: where the mask
    rests on something, or None for everywhere. prior: log-odds of a network, coarse, that take the place of the
    distance to the outline. radius: of the guided filter, pixels.
    """
    odds: Floats = np.where(mask, SURE, -SURE).astype(np.float32)
    cells = _cells(image)
    for _ in range(_ROUNDS):
        distance = signed_distance(odds > 0)
        ratio = _colour_ratio(cells, distance, evidence)
        slope, band = np.full(mask.shape, _SLOPE, np.float32), np.full(mask.shape, BAND, np.float32)
        if known is not None:
            slope[~known & (distance < 0)], band[~known] = _UNKNOWN_SLOPE, UNKNOWN_BAND
        if prior is None:
            odds = slope * distance + _COLOUR * ratio
        else:
            band.fill(UNKNOWN_BAND)
            odds = _PRIOR * np.clip(prior, -SURE, SURE) + _PRIOR_COLOUR * ratio
        if evidence is not None:
            odds += evidence
        odds = guided_filter(image, np.clip(odds, -SURE, SURE), radius, 2e-3)
        beyond = np.maximum(np.abs(distance) - band, 0) * _BEYOND
        odds = np.where(beyond > 0, np.sign(distance) * np.maximum(np.sign(distance) * odds, beyond), odds)
        odds = np.clip(odds, -SURE, SURE)
    return np.asarray(without_crumbs(odds), dtype=np.float32)


def without_crumbs(odds: Floats) -> Floats:
    """Log-odds (H, W) of which no small part is positive: what is far smaller than the whole is the image's own."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats((odds > 0).astype(np.uint8), connectivity=8)
    areas = stats[1:, cv2.CC_STAT_AREA]
    crumbs = np.flatnonzero(areas < _CRUMB * areas.sum()) + 1
    return np.where(np.isin(labels, crumbs), -np.abs(odds), odds) if count > 2 and crumbs.size else odds


def _cells(image: NDArray[np.uint8]) -> NDArray[np.int32]:
    """Index of each pixel's cell in histograms over image rows and colours, (H, W)."""
    lab = cv2.cvtColor(image, cv2.COLOR_BGR2LAB).astype(np.int32)
    light = lab[..., 0] * _BINS[0] >> 8
    a, b = ((np.clip(lab[..., k], 64, 191) - 64) * _BINS[k] >> 7 for k in (1, 2))
    row = (np.arange(image.shape[0], dtype=np.int32) // _CELL)[:, None]
    return np.asarray(((row * _BINS[0] + light) * _BINS[1] + a) * _BINS[2] + b, dtype=np.int32)


def _colour_ratio(cells: NDArray[np.int32], distance: Floats, evidence: Floats | None) -> Floats:
    """Log of how much likelier each colour is inside than outside, float32 (H, W) within ±_MOST."""
    inside = np.clip(distance - 1, 0, 3)
    outside = np.clip(-distance - 1, 0, 3) * (distance > -PAD)
    if evidence is not None:
        inside, outside = inside * (evidence > -1), outside * (evidence < 1)
    shape = (-(-distance.shape[0] // _CELL), *_BINS)
    size = int(np.prod(shape))
    tables: Floats = np.stack([np.bincount(cells.ravel(), each.ravel(), minlength=size) for each in (inside, outside)])
    tables = tables.astype(np.float32).reshape(2, *shape)
    for axis in range(1, 5):
        tables = gaussian_filter1d(tables, _BLUR, axis=axis, mode="constant", truncate=2.5)
    total = tables.sum(axis=(2, 3, 4), keepdims=True)
    # Few pixels of a row cell are taken for a sample of what both sides have there; a colour of neither says nothing.
    common = tables.sum(axis=0) / np.maximum(total.sum(axis=0), 1e-6)
    share = ((tables + _FLOOR * common) / (total + _FLOOR) + 2.5e-4).reshape(2, size)
    ratio = np.log(share[0] / share[1])
    return np.asarray(np.clip(ratio, -_MOST, _MOST)[cells], dtype=np.float32)


def contested(odds: list[Floats]) -> list[Floats]:
    """What several objects claim goes to the likeliest: log-odds (H, W) of each less those of its strongest rival."""
    if len(odds) < 2:
        return odds
    first, second = np.maximum(odds[0], odds[1]), np.minimum(odds[0], odds[1])
    for each in odds[2:]:
        second = np.maximum(second, np.minimum(first, each))
        first = np.maximum(first, each)
    rivals = (np.where(each == first, second, first) for each in odds)
    return [np.where(rival > 0, np.minimum(each, each - rival), each) for each, rival in zip(odds, rivals, strict=True)]


def outlined(
    odds: Floats, size: tuple[int, int], class_id: int, confidence: float, scores: dict[int, float]
) -> Instance | None:
    """The instance that log-odds (h, w) describe in an image of `size` (width, height); None if they nowhere do."""
    if odds.shape != size[::-1]:
        odds = cv2.resize(odds, size, interpolation=cv2.INTER_LINEAR)
    logits = np.clip(odds, -SURE, SURE).astype(np.float16)
    mask = logits > 0
    if not mask.any():
        return None
    near = odds[odds > -SURE]
    return Instance(
        mask, class_id, confidence, scores, quality=expected_iou(near), stability=stability(near), logits=logits
    )


def expected_iou(logits: Floats) -> float:
    """Overlap (0…1) of the mask, `logits` > 0, with a mask drawn by chance from their probabilities."""
    chance = 1 / (1 + np.exp(-logits[logits > -SURE].astype(np.float32) / _TEMPERATURE))
    inside = chance > 0.5
    union = np.where(inside, 1, chance).sum(dtype=np.float64)
    return round(float(chance[inside].sum(dtype=np.float64) / union), 4) if union else 0.0


def stability(logits: Floats) -> float:
    """IoU (0…1) of the masks cut at log-odds of 1 and -1: 1 where the outline is sure."""
    loose = int(np.count_nonzero(logits > -1))
    return round(int(np.count_nonzero(logits > 1)) / loose, 4) if loose else 0.0


def guided_filter(image: NDArray[np.uint8], values: Floats, radius: int, eps: float) -> Floats:
    """`values` (H, W) smoothed along the edges of `image` (uint8 BGR): He, Sun, Tang, "Guided Image Filtering", 2010.

    The colour guide of their section 3.4, with its 3x3 systems solved in closed form.
    """
    side = (2 * radius + 1, 2 * radius + 1)

    def mean(value: Floats) -> Floats:
        return np.asarray(cv2.boxFilter(value, -1, side, borderType=cv2.BORDER_REFLECT), dtype=np.float32)

    guide = image.astype(np.float32) / 255
    mean_i, mean_p = mean(guide), mean(values)
    cov_ip = mean(guide * values[..., None]) - mean_i * mean_p[..., None]
    b, g, r = cv2.split(guide)
    mb, mg, mr = cv2.split(mean_i)
    bb, gg, rr = mean(b * b) - mb * mb + eps, mean(g * g) - mg * mg + eps, mean(r * r) - mr * mr + eps
    bg, br, gr = mean(b * g) - mb * mg, mean(b * r) - mb * mr, mean(g * r) - mg * mr
    # Adjugate of the symmetric covariance.
    c00, c01, c02 = gg * rr - gr * gr, br * gr - bg * rr, bg * gr - br * gg
    c11, c12, c22 = bb * rr - br * br, bg * br - bb * gr, bb * gg - bg * bg
    det = bb * c00 + bg * c01 + br * c02
    x, y, z = cv2.split(cov_ip)
    a = np.stack([c00 * x + c01 * y + c02 * z, c01 * x + c11 * y + c12 * z, c02 * x + c12 * y + c22 * z], axis=2)
    a /= det[..., None]
    offset = mean_p - (a * mean_i).sum(axis=2)
    return np.asarray((mean(a) * guide).sum(axis=2) + mean(offset), dtype=np.float32)
