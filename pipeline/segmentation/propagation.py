"""Masks carried from frame to frame without any weights: dense flow, and what the objects and the scene look like.

Each frame, every object's probabilities are carried along the optical flow (DIS: Kroeger et al., ECCV 2016), less
surely where flow there and back disagree; every pixel is weighed by how likely its colour is at that place of each
object, as first seen and as seen of late, and of the background behind (`appearance`); objects and background compete
for it; and what comes out is drawn to the edges of the image (guided filter: He et al., 2010). A hidden object stays
where it was going, with its colours and shape, and takes its pixels back where they show again.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.segmentation.appearance import SPECKLE, Background, Palette, Template

Floats = NDArray[Any]
Image = NDArray[np.uint8]

SURE: Final = 8.0
"""Greatest log-odds given."""
_SAMPLED: Final = 4000
"""Pixels of each side from which the palette is made."""
HIDDEN: Final = 0.15
"""Share of an object up to which it counts as hidden."""
INERTIA: Final = 0.97
"""What is left of the velocity of a hidden object, frame by frame."""
LEAST_GAIN: Final = 0.3
_FEW: Final = 20
"""Pixels of an object from which its motion can still be read."""


@dataclass(frozen=True, slots=True)
class Following:
    """How masks are carried. Lengths are in pixels of the working size.

    blur: of what the flow carried; three times that where it is not to be trusted. disagreement: by which flow there
    and back may differ. shape_share: how much of the prior is the object's shape at its place rather than what the flow
    carried. colour_power: weight of the colours against the prior. doubt: of a colour, which no likelihood goes below.
    anchor: how much an object is expected to look as when it was first seen. learning: share of what is remembered of
    looks that a frame replaces. radius and edge_variance: of the guided filter. decision: power that sharpens what is
    carried on. steps: by which an object's place is corrected, in pixels, one after the other. holding: nats per pixel
    of its area that such a correction must gain, for each pixel of its length.
    """

    blur: float = 2.0
    disagreement: float = 1.0
    shape_share: float = 0.1
    colour_power: float = 1.5
    doubt: float = 0.02
    anchor: float = 0.7
    learning: float = 0.05
    radius: int = 3
    edge_variance: float = 1e-3
    decision: float = 2.0
    steps: tuple[int, ...] = (2, 1)
    steps_hidden: tuple[int, ...] = (6, 3, 1)
    holding: float = 0.01


class EdgeGuide:
    """The guided filter with one colour image for many values; its result can be had in a finer image of the same."""

    def __init__(self, image: Image, radius: int, variance: float) -> None:
        self._side = (2 * radius + 1,) * 2
        self._guide = image.astype(np.float32) / 255
        b, g, r = (np.ascontiguousarray(self._guide[..., channel]) for channel in range(3))
        self._planes = (b, g, r)
        self._means = mb, mg, mr = self._mean(b), self._mean(g), self._mean(r)
        bb, gg, rr = (self._mean(x * x) - m * m + variance for x, m in ((b, mb), (g, mg), (r, mr)))
        bg, br, gr = self._mean(b * g) - mb * mg, self._mean(b * r) - mb * mr, self._mean(g * r) - mg * mr
        adjugate = (gg * rr - gr * gr, br * gr - bg * rr, bg * gr - br * gg, bb * rr - br * br, bg * br - bb * gr)
        determinant = bb * adjugate[0] + bg * adjugate[1] + br * adjugate[2]
        self._inverse = [each / determinant for each in (*adjugate, bb * gg - bg * bg)]

    def _mean(self, values: Floats) -> Floats:
        return np.asarray(cv2.boxFilter(values, -1, self._side, borderType=cv2.BORDER_REFLECT))

    def __call__(self, values: Floats, finer: Image | None = None) -> Floats:
        """`values` float32 (H, W) drawn to the edges; as large as `finer`, uint8 BGR, where it is given."""
        mean = self._mean(values)
        x, y, z = (self._mean(p * values) - m * mean for p, m in zip(self._planes, self._means, strict=True))
        i00, i01, i02, i11, i12, i22 = self._inverse
        slopes = (i00 * x + i01 * y + i02 * z, i01 * x + i11 * y + i12 * z, i02 * x + i12 * y + i22 * z)
        offset = mean - sum(slope * m for slope, m in zip(slopes, self._means, strict=True))
        model = self._mean(np.dstack([*slopes, offset]))
        guide = self._guide
        if finer is not None:
            model = cv2.resize(model, finer.shape[1::-1], interpolation=cv2.INTER_LINEAR)
            guide = finer.astype(np.float32) / 255
        return np.asarray((model[..., :3] * guide).sum(axis=2) + model[..., 3])


@dataclass(slots=True)
class _Object:
    template: Template
    agreement: float = 1.0
    """How far flow there and back agreed on what was carried, 0…1."""
    likeness: float = 1.0
    """How far its pixels look like it rather than like what is behind, 0…1."""


@dataclass(slots=True)
class _Carried:
    """What flow says: probabilities (H, W, n + 1) in the new frame, trust (H, W) in them; flow from the frame before

    to it (H, W, 2), and trust (H, W) in that.
    """

    probabilities: Floats
    trust: Floats
    ahead: Floats
    trust_ahead: Floats


class Propagator:
    """Several objects followed through frames of one size. Remembers one frame, and what is in it."""

    def __init__(self, image: Image, settings: Following | None = None) -> None:
        """From the frame, uint8 BGR (H, W, 3), in which the first objects will be placed."""
        self.settings = settings or Following()
        self._flow: Any = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        self._image = image
        self._grey = _grey(image)
        self._objects: dict[int, _Object] = {}
        self._palette: Palette | None = None
        self._background: Background | None = None
        height, width = image.shape[:2]
        # One plane for the background, then one for each object.
        self._probabilities: Floats = np.ones((height, width, 1), np.float32)
        self._rows, self._columns = np.mgrid[:height, :width].astype(np.float32)
        self._guide: EdgeGuide | None = None

    def place(self, masks: Mapping[int, NDArray[np.bool_]]) -> None:
        """Say where objects (by id) are in the present frame, bool (H, W). An empty mask ends the object."""
        lab = _lab(self._image)
        for object_id, mask in masks.items():
            self._forget(object_id)
            if not mask.any():
                continue
            self._probabilities *= 1 - mask[..., None].astype(np.float32)
            self._probabilities = np.dstack([self._probabilities, mask.astype(np.float32)])
            if self._palette is not None:
                self._palette.add(_sample(lab[mask]))
        shown = [object_id for object_id, mask in masks.items() if mask.any()]
        if self._palette is None:
            sides = [lab[masks[object_id]] for object_id in shown] + [lab[self._probabilities[..., 0] > 0.5]]
            self._palette = Palette(np.concatenate([_sample(side) for side in sides]))
        colours = self._palette.of(lab)
        for known in self._objects.values():
            known.template.widen(self._palette)
        for object_id in shown:
            self._objects[object_id] = _Object(Template(masks[object_id], colours, self._palette))
        if self._background is None:
            self._background = Background(self._probabilities[..., 0], colours, self._palette)
        self._background.widen(self._palette)

    def _forget(self, object_id: int) -> None:
        if object_id in self._objects:
            plane = list(self._objects).index(object_id) + 1
            self._probabilities[..., 0] += self._probabilities[..., plane]
            self._probabilities = np.delete(self._probabilities, plane, axis=2)
            del self._objects[object_id]

    def step(self, image: Image) -> None:
        """Carry everything to the next frame."""
        if self._palette is None or self._background is None:
            raise ValueError("no object has been placed yet")
        settings, palette = self.settings, self._palette
        carried = self._carry(image)
        colours = palette.of(_lab(image))
        away = carried.ahead[self._probabilities[..., 0] > 0.5]
        if len(away):
            self._background.pan(np.median(away, axis=0))
        likelihood = np.full(carried.probabilities.shape, SPECKLE, np.float32)
        shapes = np.zeros_like(likelihood)
        likelihood[..., 0] = self._background.likelihood(colours, palette)
        for plane, each in enumerate(self._objects.values(), start=1):
            table = each.template.table(palette, settings.anchor)
            seen = self._move(each.template, self._probabilities[..., plane], carried)
            others = 1 - carried.probabilities[..., [0, plane]].sum(axis=2)
            self._correct(each.template, table, colours, likelihood[..., 0], others, seen)
            found = each.template.grid.window(colours.shape)
            if found is not None:
                window, cells = found
                likelihood[..., plane][window] = table[cells, colours[window]]
                shapes[..., plane][window] = each.template.shape.reshape(-1)[cells]
        shapes[..., 0] = np.clip(1 - shapes.sum(axis=2), 0.05, 1)
        posterior = self._prior(carried, shapes)
        share = likelihood / likelihood.sum(axis=2, keepdims=True)
        posterior *= (share + settings.doubt) ** settings.colour_power
        posterior /= posterior.sum(axis=2, keepdims=True)
        self._guide = EdgeGuide(image, settings.radius, settings.edge_variance)
        before, self._probabilities = self._probabilities, self._sharp(posterior)
        self._judge(before, carried, share)
        self._image, self._grey = image, _grey(image)
        self._learn(colours)

    def _carry(self, image: Image) -> _Carried:
        grey = _grey(image)
        back = self._flow.calc(grey, self._grey, None)
        ahead = self._flow.calc(self._grey, grey, None)
        probabilities = _sampled(self._probabilities, self._columns + back[..., 0], self._rows + back[..., 1])
        return _Carried(probabilities, self._trust(back, ahead), ahead, self._trust(ahead, back))

    def _trust(self, there: Floats, back: Floats) -> Floats:
        """0…1, how far a flow (H, W, 2) is undone by the flow back."""
        apart = there + _sampled(back, self._columns + there[..., 0], self._rows + there[..., 1])
        allowed = self.settings.disagreement + 0.1 * np.sqrt((there * there).sum(axis=2))
        return np.asarray(np.exp(-(apart * apart).sum(axis=2) / allowed**2))

    def _prior(self, carried: _Carried, shapes: Floats) -> Floats:
        settings = self.settings
        near, far = (
            cv2.GaussianBlur(carried.probabilities, (0, 0), blur).reshape(carried.probabilities.shape)
            for blur in (settings.blur, 3 * settings.blur)
        )
        trust = carried.trust[..., None]
        prior = (1 - settings.shape_share) * (trust * near + (1 - trust) * far)
        prior += settings.shape_share * shapes + 1e-3 * (shapes > 0.01)
        return np.asarray(prior, dtype=np.float32)

    def _move(self, template: Template, probability: Floats, carried: _Carried) -> float:
        """Carry an object's grid with the flow of what is seen of it, as far as that can be trusted, else as it went.

        Returns how much of the object is to be seen, 0…1.
        """
        shown = probability > 0.5
        sure = shown & (carried.trust_ahead > 0.5)
        count = int(sure.sum())
        moves = min(1.0, 1.5 * count / template.area) if count > _FEW else 0.0
        flow = np.median(carried.ahead[sure], axis=0) if moves else np.zeros(2)
        template.velocity = moves * flow + (1 - moves) * INERTIA * template.velocity
        template.grid.centre = template.grid.centre + template.velocity
        return min(1.0, float(shown.sum()) / template.area)

    def _correct(
        self,
        template: Template,
        table: Floats,
        colours: NDArray[np.int64],
        behind: Floats,
        others: Floats,
        seen: float,
    ) -> None:
        """Move the grid to where the colours under it fit best, pixels of `others` left out; search farther if hidden.

        Colours that do not fit do not speak against a place: something may stand before the object.
        """
        log_table = np.log(table + self.settings.doubt / 2)
        log_behind = np.log(behind + self.settings.doubt / 2)
        shape, free = template.shape.reshape(-1), 1 - others
        for step in self.settings.steps if seen > HIDDEN else self.settings.steps_hidden:
            start, best = template.grid.centre, (-np.inf, template.grid.centre)
            for across in (-step, 0, step):
                for down in (-step, 0, step):
                    template.grid.centre = start + np.array([across, down])
                    found = template.grid.window(colours.shape)
                    if found is None:
                        continue
                    (rows, columns), cells = found
                    every = np.s_[::2, ::2]
                    cells, under = cells[every], colours[rows, columns][every]
                    gain = np.maximum(log_table[cells, under] - log_behind[rows, columns][every], -LEAST_GAIN)
                    gain *= shape[cells] * free[rows, columns][every]
                    score = 4 * float(gain.sum()) - self.settings.holding * template.area * float(
                        np.hypot(across, down)
                    )
                    if score > best[0]:
                        best = (score, template.grid.centre)
            template.grid.centre = best[1]

    def _sharp(self, posterior: Floats) -> Floats:
        assert self._guide is not None  # noqa: S101 - `step` has made it
        drawn = np.dstack([self._guide(np.ascontiguousarray(plane)) for plane in np.moveaxis(posterior, 2, 0)])
        drawn = np.clip(drawn, 1e-4, 1) ** self.settings.decision
        return np.asarray(drawn / drawn.sum(axis=2, keepdims=True))

    def _judge(self, before: Floats, carried: _Carried, share: Floats) -> None:
        for plane, each in enumerate(self._objects.values(), start=1):
            mass = carried.probabilities[..., plane]
            each.agreement = float((mass * carried.trust).sum() / max(float(mass.sum()), 1e-6))
            now = self._probabilities[..., plane]
            like = share[..., plane] / (share[..., plane] + share[..., 0] + 1e-6)
            each.likeness = float((now * like).sum() / max(float(now.sum()), 1e-6))

    def _learn(self, colours: NDArray[np.int64]) -> None:
        assert self._palette is not None and self._background is not None  # noqa: S101
        sure = np.where(self._probabilities > 0.8, self._probabilities, 0)
        for plane, each in enumerate(self._objects.values(), start=1):
            share = self.settings.learning * min(float(sure[..., plane].sum()) / each.template.area, 1)
            if share:
                cover = self._probabilities[..., plane]
                each.template.learn(sure[..., plane], cover, colours, share, self._palette)
        self._background.learn(sure[..., 0], colours, self.settings.learning, self._palette)

    def logits(self, finer: Image | None = None) -> dict[int, Floats]:
        """Log-odds of each object against the likeliest other, float32 (H, W), positive for at most one of them.

        As large as `finer`, the same frame in a higher resolution, where it is given, and drawn to its edges.
        """
        planes = np.moveaxis(self._probabilities, 2, 0)
        if finer is not None and finer.shape[:2] != planes.shape[1:]:
            guide = self._guide or EdgeGuide(self._image, self.settings.radius, self.settings.edge_variance)
            planes = np.stack([guide(np.ascontiguousarray(plane), finer) for plane in planes])
        logs = np.log(np.clip(planes, np.exp(-SURE), 1))
        best_two = np.sort(logs, axis=0)[-2:]
        found = {}
        for plane, object_id in enumerate(self._objects, start=1):
            rival = np.where(logs[plane] == best_two[1], best_two[0], best_two[1])
            found[object_id] = np.clip(logs[plane] - rival, -SURE, SURE)
        return found

    def confidences(self) -> dict[int, float]:
        """How far to trust each object's mask, 0…1."""
        found = {}
        for plane, (object_id, each) in enumerate(self._objects.items(), start=1):
            probability = self._probabilities[..., plane]
            mask = probability > 0.5
            sureness = float(probability[mask].sum()) / max(float(np.maximum(probability, mask).sum()), 1e-6)
            seen = min(1.0, float(mask.sum()) / each.template.area)
            found[object_id] = sureness * each.likeness * (0.5 + 0.5 * each.agreement) * min(1.0, 2 * seen)
        return found


def _grey(image: Image) -> Image:
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), np.uint8)


def _lab(image: Image) -> Image:
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2LAB), np.uint8)


def _sample(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """At most so many of the pixels (n, 3), evenly picked."""
    return pixels[:: max(len(pixels) // _SAMPLED, 1)]


def _sampled(values: Floats, x: Floats, y: Floats) -> Floats:
    """`values` (H, W, n) at places (H, W); beyond the border as at the border."""
    found = cv2.remap(values, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(found.reshape(values.shape))
