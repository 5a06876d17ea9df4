"""Boxes and clicks to masks, and masks through a video, with nothing but the images themselves: no weights, no GPU.

*interactive*: `outlining`, by colours and where they lie. A box is the right gesture: a click alone says little about
how far an object goes, so it gives several proposals. *video*: `propagation`. Both work on images made small; masks are
drawn to the edges of the full image.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.segmentation.base import ClassSpec, FrameReader, Prompt, Propagated, Proposal
from pipeline.segmentation.outlining import outlined
from pipeline.segmentation.propagation import SURE, Following, Propagator
from pipeline.segmentation.refinement import expected_iou, signed_distance

Floats = NDArray[Any]
Image = NDArray[np.uint8]
Mask = NDArray[np.bool_]

LONGEST_SIDE: Final = 480
"""Of the images that are worked on."""
CLICK_RADIUS: Final = 3
"""Pixels around a click that are what it says."""
CLICK_REACH: Final = 0.08
CLICK_ODDS: Final = 4.0
"""How far around, in longer sides of what is looked for, a click makes its side likelier, and by what log-odds."""
REACHES: Final = (0.06, 0.12, 0.25)
"""How far, in shorter sides of the image, what a click is on may go: a proposal each."""
MARGIN: Final = 0.04
"""Of a box, by which it may have been drawn too tight."""
FILLED: Final = 0.85
"""Of a box's ellipse: on its edge, a pixel is the object's as likely as not."""
STEEPNESS: Final = 4.0
"""Log-odds from the middle of a box, or of a click's reach, to that edge."""
BAND: Final = 8.0
"""Pixels on either side of a given mask's outline within which it may move."""
QUALITY: Final = {"mask": 0.95, "box": 0.85, "clicks": 0.5}
"""What a sure-looking mask is worth by what it was made from: no colours say whether the person meant more or less."""


@dataclass(frozen=True, slots=True)
class Embedded:
    """An image, and the same made small, both uint8 BGR."""

    image: Image
    small: Image


class Classical:
    """The segmenter `classical`: interactive and video. Holds no model and no state between calls. Deterministic."""

    name: ClassVar[str] = "classical"

    def __init__(
        self,
        classes: Sequence[ClassSpec] = (),
        models_folders: Sequence[Path] = (),
        following: Following | None = None,
    ) -> None:
        """It has no classes and no weights; the first two are there because every segmenter takes them."""
        self._following = following or Following()

    def embed(self, image: Image) -> Embedded:
        """Keeps the image, uint8 BGR (H, W, 3), and makes it small."""
        return Embedded(image, _small(image))

    def predict(self, embedding: Embedded, prompt: Prompt) -> list[Proposal]:
        """A mask for a box or a mask, corrected by clicks if there are any; for clicks alone one for each reach.

        Raises ValueError where the prompt is empty, or lies outside the image.
        """
        image, small = embedding.image, embedding.small
        scale = np.array([small.shape[1] / image.shape[1], small.shape[0] / image.shape[0]])
        points, labels = _clicks(prompt, image.shape[:2])
        points = points * scale
        if prompt.mask is not None:
            priors, kind = [_around(_mask_of(prompt.mask, small.shape[:2], image.shape[:2]))], "mask"
        elif prompt.box_xyxy is not None:
            box = _checked_box(prompt.box_xyxy, image.shape[:2]) * np.tile(scale, 2)
            priors, kind = [_inside(box, small.shape[:2])], "box"
        elif (labels == 1).any():
            reaches = [reach * min(small.shape[:2]) for reach in REACHES]
            priors, kind = [_near(points[labels == 1], reach, small.shape[:2]) for reach in reaches], "clicks"
        else:
            raise ValueError("a prompt needs a mask, a box, or at least one click on the object")
        found = []
        for prior in priors:
            pointed = _point(prior, points, labels)
            logits = outlined(small, prior, image if image.shape != small.shape else None, pointed)
            found.append(Proposal(logits, QUALITY[kind] * expected_iou(logits)))
        return sorted(found, key=lambda proposal: -proposal.quality)

    def propagate(
        self,
        frames: FrameReader,
        prompts: Mapping[tuple[int, int], Prompt],
        direction: Literal["forward", "backward"] = "forward",
    ) -> Iterator[Propagated]:
        """As `VideoSegmenter.propagate`. A mask given as a prompt is taken as it is, clicks correct what was carried.

        The confidence is low where flow there and back disagree, where an object's pixels look like what is behind
        them, where little of it is left, and where its outline is vague. A later prompt of an object starts it anew.
        Raises ValueError where there is no prompt, one lies outside the video, or a frame has another size.
        """
        if not prompts:
            raise ValueError("prompts: at least one object must be shown in some frame")
        outside = [frame for frame, _ in prompts if not 0 <= frame < len(frames)]
        if outside:
            raise ValueError(f"prompts: frame {outside[0]} is not one of the {len(frames)} frames")
        shown_in = sorted({frame for frame, _ in prompts})
        order = range(shown_in[0], len(frames)) if direction == "forward" else range(shown_in[-1], -1, -1)
        return self._propagate(frames, prompts, order)

    def _propagate(
        self, frames: FrameReader, prompts: Mapping[tuple[int, int], Prompt], order: range
    ) -> Iterator[Propagated]:
        followed: Propagator | None = None
        size = None
        for frame in order:
            image = frames[frame]
            small = _small(image)
            if followed is None:
                followed, size = Propagator(small, self._following), image.shape
            elif image.shape != size:
                raise ValueError(f"frame {frame} has shape {image.shape}, those before had {size}")
            else:
                followed.step(small)
            shown = {object_id: prompt for (at, object_id), prompt in prompts.items() if at == frame}
            finer = image if small.shape != image.shape else None
            given = {}
            if shown:
                carried = followed.logits(finer)
                given = {key: self._placed(image, prompt, carried.get(key)) for key, prompt in shown.items()}
                followed.place({key: _mask_of(logits > 0, small.shape[:2], size[:2]) for key, logits in given.items()})
            logits = {**followed.logits(finer), **given}
            confidence = {key: followed.confidences().get(key, 0.0) for key in logits}
            yield Propagated(frame, {key: value.astype(np.float16) for key, value in logits.items()}, confidence)

    def _placed(self, image: Image, prompt: Prompt, carried: Floats | None) -> Floats:
        """Log-odds (H, W) of what a prompt shows; clicks alone correct what was carried, where anything was."""
        clicked = prompt.points_xy is not None and len(prompt.points_xy) > 0
        if prompt.mask is not None and not clicked:
            return np.where(_checked_mask(prompt.mask, image.shape[:2]), SURE, -SURE).astype(np.float32)
        if prompt.mask is None and prompt.box_xyxy is None and carried is not None and (carried > 0).any():
            prompt = Prompt(prompt.points_xy, prompt.point_labels, mask=carried > 0)
        return self.predict(self.embed(image), prompt)[0].logits


def _small(image: Image) -> Image:
    scale = LONGEST_SIDE / max(image.shape[:2])
    if scale >= 1:
        return image
    size = (max(round(image.shape[1] * scale), 1), max(round(image.shape[0] * scale), 1))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)


def _clicks(prompt: Prompt, shape: tuple[int, ...]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    if prompt.points_xy is None:
        return np.zeros((0, 2)), np.zeros(0, np.int64)
    points = np.asarray(prompt.points_xy, np.float64).reshape(-1, 2)
    labels = np.asarray([1] * len(points) if prompt.point_labels is None else prompt.point_labels, np.int64)
    if len(labels) != len(points):
        raise ValueError(f"points_xy: {len(points)} points do not go with {len(labels)} point_labels")
    if not np.isfinite(points).all() or (points < 0).any() or (points >= [shape[1], shape[0]]).any():
        raise ValueError(f"points_xy: a point lies outside the image of {shape[1]} by {shape[0]} pixels")
    return points, labels


def _checked_box(box_xyxy: NDArray[np.float64], shape: tuple[int, ...]) -> NDArray[np.float64]:
    box = np.asarray(box_xyxy, np.float64).reshape(-1)
    limits = np.array([shape[1], shape[0]] * 2, np.float64)
    if box.shape != (4,) or not np.isfinite(box).all():
        raise ValueError("box_xyxy: not four finite numbers")
    box = np.clip(box, 0, limits)
    if box[2] - box[0] < 1 or box[3] - box[1] < 1:
        raise ValueError(f"box_xyxy: nothing of it lies in the image of {shape[1]} by {shape[0]} pixels")
    return box


def _checked_mask(mask: Mask, shape: tuple[int, ...]) -> Mask:
    if mask.shape != tuple(shape):
        raise ValueError(f"mask: its shape {mask.shape} is not that of the image, {tuple(shape)}")
    return np.asarray(mask, np.bool_)


def _mask_of(mask: Mask, small: tuple[int, ...], shape: tuple[int, ...]) -> Mask:
    """A mask of the image in the small one: where it covers half of a pixel; all it touches where that is nowhere."""
    cover = cv2.resize(
        _checked_mask(mask, shape).astype(np.float32), (small[1], small[0]), interpolation=cv2.INTER_AREA
    )
    half = cover >= 0.5
    return np.asarray(half if half.any() else cover > 0)


def _around(mask: Mask) -> Floats:
    """Probabilities (H, W): beyond doubt away from the outline of `mask`, to be decided near it."""
    distance = signed_distance(mask)
    prior = 1 / (1 + np.exp(-STEEPNESS * distance / BAND))
    return np.asarray(np.where(np.abs(distance) > BAND, distance > 0, prior), dtype=np.float32)


def _inside(box_xyxy: NDArray[np.float64], shape: tuple[int, ...]) -> Floats:
    """Probabilities (H, W): 0 outside a box, high in its middle, low in its corners."""
    middle, half = (box_xyxy[:2] + box_xyxy[2:]) / 2, (box_xyxy[2:] - box_xyxy[:2]) / 2
    rows, columns = np.mgrid[: shape[0], : shape[1]] + 0.5
    across, down = (columns - middle[0]) / half[0], (rows - middle[1]) / half[1]
    prior = 1 / (1 + np.exp(STEEPNESS * (np.hypot(across, down) - FILLED)))
    limit = 1 + 2 * MARGIN + 0.5 / half
    return np.asarray(prior * ((np.abs(across) < limit[0]) & (np.abs(down) < limit[1])), dtype=np.float32)


def _near(points_xy: NDArray[np.float64], reach: float, shape: tuple[int, ...]) -> Floats:
    """Probabilities (H, W): high near clicks, as likely as not at the reach, 0 beyond twice that."""
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    distance = np.min([np.hypot(columns - x, rows - y) for x, y in points_xy], axis=0) / max(reach, 1.0)
    return np.asarray((distance < 2) / (1 + np.exp(STEEPNESS * (distance - 1))), dtype=np.float32)


def _point(prior: Floats, points_xy: NDArray[np.float64], labels: NDArray[np.int64]) -> Floats:
    """Write clicks into a prior, which changes; returns how much each pixel (H, W) was pointed at, 0…1."""
    region = prior > 0
    extent = max(int(region.any(axis=0).sum()), int(region.any(axis=1).sum()), 1)
    rows, columns = np.mgrid[: prior.shape[0], : prior.shape[1]]
    pointed = np.zeros(prior.shape, np.float32)
    undecided = (prior > 0) & (prior < 1)
    odds = np.log(np.where(undecided, prior, 0.5) / (1 - np.where(undecided, prior, 0.5)))
    for (x, y), label in zip(points_xy, labels.tolist(), strict=True):
        near = np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * (CLICK_REACH * extent) ** 2))
        odds += (CLICK_ODDS if label == 1 else -CLICK_ODDS) * near
        pointed = np.maximum(pointed, near * (near > 0.5))
    prior[undecided] = (1 / (1 + np.exp(-odds)))[undecided]
    for (x, y), label in zip(np.round(points_xy).astype(int).tolist(), labels.tolist(), strict=True):
        cv2.circle(prior, (x, y), CLICK_RADIUS, 1.0 if label == 1 else 0.0, -1)
    return pointed
