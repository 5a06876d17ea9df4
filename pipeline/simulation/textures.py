"""Surfaces of the scene: tileable pictures with a pyramid; nothing flickers, and stereo has texture everywhere."""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[Any]  # float32


class Texture:
    """A tile repeated over the plane. `image` float32 BGR, 1 = unchanged colour; `span` metres per tile (u, v)."""

    def __init__(self, image: Image, span: tuple[float, float]) -> None:
        self.span = span
        self.metres_per_pixel = span[0] / image.shape[1]
        level: Image = np.ascontiguousarray(image, dtype=np.float32)
        self._levels = [level]
        while min(level.shape[:2]) > 2:
            level = cv2.resize(level, (level.shape[1] // 2, level.shape[0] // 2), interpolation=cv2.INTER_AREA)
            self._levels.append(level)
        # One wrapped border pixel makes bilinear look-ups seamless.
        self._padded = [cv2.copyMakeBorder(each, 1, 1, 1, 1, cv2.BORDER_WRAP) for each in self._levels]

    def sample(self, u: Image, v: Image, footprint: Image) -> Image:
        """Colours (n, 3) at u, v (n,) in metres, averaged over `footprint` (n,) metres: bilinear within two levels."""
        top = len(self._levels) - 1
        level = np.clip(np.log2(np.maximum(footprint / self.metres_per_pixel, 1e-6)), 0, top - 1e-3)
        lower = level.astype(np.int32)
        share = (level - lower).astype(np.float32)[:, None]
        us, vs = np.mod(u / self.span[0], 1.0), np.mod(v / self.span[1], 1.0)
        out = np.empty((u.size, 3), np.float32)
        for number in np.unique(lower):
            pick = np.flatnonzero(lower == number)
            fine, coarse = self._look(number, us[pick], vs[pick]), self._look(number + 1, us[pick], vs[pick])
            out[pick] = fine + share[pick] * (coarse - fine)
        return out

    def _look(self, number: int, us: Image, vs: Image) -> Image:
        h, w = self._levels[number].shape[:2]
        # remap takes maps of at most 32767 rows, so the list is folded.
        rows = max(1, -(-us.size // 4096))
        x, y = np.zeros((2, rows * 4096), np.float32)
        x[: us.size], y[: us.size] = us * w + 0.5, vs * h + 0.5
        shape = (rows, 4096)
        looked = cv2.remap(
            self._padded[number], x.reshape(shape), y.reshape(shape), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
        return looked.reshape(-1, 3)[: us.size]


def _noise(rng: np.random.Generator, size: tuple[int, int], octaves: tuple[tuple[float, float], ...]) -> Image:
    """Tileable grey noise around 0, (h, w): a sum of (sigma in pixels, amplitude) of blurred white noise."""
    h, w = size
    spectrum = np.fft.rfft2(rng.standard_normal((h, w)).astype(np.float32))
    fy, fx = np.fft.fftfreq(h)[:, None], np.fft.rfftfreq(w)[None]
    out = np.zeros((h, w), np.float32)
    for sigma, amplitude in octaves:
        blurred = np.fft.irfft2(spectrum * np.exp(-2 * (np.pi * sigma) ** 2 * (fx**2 + fy**2)), s=(h, w))
        out += (amplitude * blurred / blurred.std()).astype(np.float32)
    return out


def _grey(value: Image) -> Image:
    return np.repeat(value[..., None], 3, axis=2)


def _bricks(
    rng: np.random.Generator, px: int, columns: int, rows: int, joint: int, spread: float
) -> tuple[Image, Image]:
    """Tone of each stone (px, px) and joint mask, in running bond."""
    y, x = np.mgrid[:px, :px]
    row = y * rows // px
    offset = (row % 2) * (px // columns // 2)
    column = ((x + offset) % px) * columns // px
    tone = rng.normal(1.0, spread, (rows, columns)).astype(np.float32)[row, column]
    gap = ((y % (px // rows)) < joint) | (((x + offset) % (px // columns)) < joint)
    return tone, gap.astype(np.float32)


def _plain(rng: np.random.Generator) -> Texture:
    return Texture(_grey(1 + _noise(rng, (256, 256), ((1, 0.05), (5, 0.05)))), (0.5, 0.5))


def _cloth(rng: np.random.Generator) -> Texture:
    folds = _noise(rng, (512, 512), ((1.0, 0.05), (5, 0.08), (18, 0.13)))
    stripes = 0.06 * np.sin(np.linspace(0, 2 * np.pi * 14, 512, endpoint=False))[:, None]
    return Texture(_grey(1 + folds + stripes.astype(np.float32)), (0.9, 0.9))


def _denim(rng: np.random.Generator) -> Texture:
    return Texture(_grey(1 + _noise(rng, (512, 512), ((1.0, 0.10), (7, 0.11), (20, 0.10)))), (0.9, 0.9))


def _skin(rng: np.random.Generator) -> Texture:
    return Texture(_grey(1 + _noise(rng, (256, 256), ((2, 0.03), (12, 0.05)))), (0.4, 0.4))


def _hair(rng: np.random.Generator) -> Texture:
    return Texture(_grey(1 + _noise(rng, (256, 256), ((1, 0.25), (4, 0.2)))), (0.3, 0.3))


def _paint(rng: np.random.Generator) -> Texture:
    image = 1 + _noise(rng, (1024, 1024), ((1, 0.02), (10, 0.05), (45, 0.07)))
    x = np.linspace(0, 2.05, 1024, endpoint=False)
    image[:, np.abs(x - 1.1) < 0.008] *= 0.45  # a door gap
    image[int(1024 * 0.62) : int(1024 * 0.63)] *= 0.7
    return Texture(_grey(image), (2.05, 2.05))


def _glass(rng: np.random.Generator) -> Texture:
    sky = _noise(rng, (256, 256), ((3, 0.12), (14, 0.25)))
    return Texture(_grey(1.25 + sky), (1.3, 1.3))


def _rubber(rng: np.random.Generator) -> Texture:
    return Texture(_grey(1 + _noise(rng, (256, 256), ((1, 0.22), (4, 0.18)))), (0.4, 0.4))


def _panel(rng: np.random.Generator) -> Texture:
    return Texture(_grey(1 + _noise(rng, (512, 512), ((1, 0.04), (6, 0.05), (24, 0.05)))), (0.8, 0.8))


def _decal(rng: np.random.Generator) -> Texture:
    image = _grey(1 + _noise(rng, (512, 512), ((1, 0.05), (8, 0.06), (30, 0.06))))
    image[300:340] = np.array([9.0, 2.1, 1.0], np.float32) * 0.9  # a white band on orange
    for left in range(40, 500, 120):
        image[180:230, left : left + 60] = np.array([0.4, 0.3, 0.25], np.float32)
    return Texture(image, (0.62, 0.62))


def _wood(rng: np.random.Generator) -> Texture:
    grain = _noise(rng, (512, 512), ((1, 0.5), (2.5, 0.5)))
    grain = cv2.blur(np.hstack([grain, grain, grain]), (61, 1))[:, 512:1024]
    planks = rng.normal(1.0, 0.09, 8).astype(np.float32)[np.arange(512) // 64][:, None]
    image = planks * (1 + 0.9 * grain) + _noise(rng, (512, 512), ((1.2, 0.06), (6, 0.05)))
    image[np.arange(512) % 64 < 4] *= 0.45
    return Texture(_grey(np.clip(image, 0.3, 1.6)), (0.8, 0.8))


def _bark(rng: np.random.Generator) -> Texture:
    image = _noise(rng, (256, 256), ((1, 0.15), (3, 0.3)))
    return Texture(_grey(1 + image), (0.5, 1.0))


def _leaves(rng: np.random.Generator) -> Texture:
    image = _noise(rng, (512, 512), ((2, 0.16), (5, 0.20), (16, 0.16)))
    return Texture(np.clip(1 + image[..., None] * np.array([0.9, 1.0, 1.1], np.float32), 0.25, 1.8), (2.6, 2.6))


def _brick(rng: np.random.Generator) -> Texture:
    return Texture(_facade(rng, 0.13), (5.2, 3.4))


def _facade(rng: np.random.Generator, spread: float = 0.05) -> Image:
    px = 1024
    tone, gap = _bricks(rng, px, 16, 32, 4, spread)
    image = _grey(tone * (1 - 0.25 * gap) + _noise(rng, (px, px), ((1.5, 0.05), (30, 0.05))))
    for left in (150, 630):  # two windows a tile, in white frames, with a sill
        image[250:760, left - 16 : left + 266] = 1.35
        pane = 0.30 + 0.10 * _noise(rng, (478, 250), ((4, 0.5), (30, 0.9)))
        image[266:744, left : left + 250] = np.stack([pane * 1.25, pane * 1.05, pane * 0.9], axis=2)
        image[266:744, left + 120 : left + 130] = 1.3
        image[480:490, left : left + 250] = 1.3
        image[756:786, left - 30 : left + 280] = 0.75
    return np.clip(image, 0.05, 1.8).astype(np.float32)


def _plaster_facade(rng: np.random.Generator) -> Texture:
    return Texture(_facade(rng), (4.4, 2.7))


def _asphalt(rng: np.random.Generator) -> Texture:
    return Texture(_grey(1 + _noise(rng, (1024, 1024), ((1, 0.11), (2.5, 0.09), (40, 0.05)))), (4.0, 4.0))


def _paving(rng: np.random.Generator) -> Texture:
    tone, gap = _bricks(rng, 1024, 8, 8, 6, 0.075)
    image = tone * (1 - 0.42 * gap) + _noise(rng, (1024, 1024), ((1.2, 0.06), (4, 0.06), (50, 0.04)))
    tint = 1 + 0.05 * _noise(rng, (1024, 1024), ((60, 1.0),))
    return Texture(np.stack([image * (2 - tint), image, image * tint], axis=2), (4.8, 4.8))


BUILDERS: dict[str, Callable[[np.random.Generator], Texture]] = {
    "plain": _plain,
    "plaster": _panel,
    "cloth": _cloth,
    "denim": _denim,
    "skin": _skin,
    "hair": _hair,
    "paint": _paint,
    "glass": _glass,
    "rubber": _rubber,
    "metal": _panel,
    "panel": _panel,
    "decal": _decal,
    "wood": _wood,
    "bark": _bark,
    "leaves": _leaves,
    "brick": _brick,
    "facade": _plaster_facade,
    "asphalt": _asphalt,
    "paving": _paving,
}


@lru_cache(maxsize=64)
def texture(name: str, seed: int) -> Texture:
    """The texture `name`; the same for the same seed. Raises KeyError for an unknown name."""
    return BUILDERS[name](np.random.default_rng([seed, sorted(BUILDERS).index(name)]))


KERB, ROAD_END = 8.75, 12.6  # metres along z: plaza, road, far pavement


def ground(x: Image, z: Image, footprint: Image, seed: int) -> Image:
    """Colours (n, 3) of the ground at x, z (n,): a paved square, a kerb, a road with markings, a far pavement."""
    soft = np.maximum(footprint, 0.004)
    colour = np.zeros((x.size, 3), np.float32)
    on_road = np.clip(np.minimum(z - KERB, ROAD_END - z) / soft + 0.5, 0, 1)
    paved = np.flatnonzero(on_road < 1)
    colour[paved] = texture("paving", seed).sample(x[paved], z[paved], footprint[paved]) * np.array(
        [0.50, 0.54, 0.58], np.float32
    )
    driven = np.flatnonzero(on_road > 0)
    road = _road(x[driven], z[driven], footprint[driven], soft[driven], seed)
    share = on_road[driven, None]
    colour[driven] = colour[driven] * (1 - share) + share * road
    near_kerb = np.flatnonzero(np.minimum(np.abs(z - KERB), np.abs(z - ROAD_END)) < 0.075 + soft)
    x, z, soft, old = x[near_kerb], z[near_kerb], soft[near_kerb], colour[near_kerb]
    kerb = _step(0.075 - np.minimum(np.abs(z - KERB), np.abs(z - ROAD_END)), soft)
    stone = (0.62 + 0.5 * (old - 0.45)) * (1 - 0.3 * _step(0.012 - np.abs(np.mod(x, 1.0) - 0.5), soft))
    colour[near_kerb] = old + kerb * (stone - old)
    return colour


def _step(value: Image, soft: Image) -> Image:
    """1 where value > 0, blended over `soft` metres; (n, 1)."""
    return np.asarray(np.clip(value / soft + 0.5, 0, 1)[:, None], dtype=np.float32)


def _road(x: Image, z: Image, footprint: Image, soft: Image, seed: int) -> Image:
    """Asphalt with a dashed middle line, edge lines and a zebra crossing."""
    road = texture("asphalt", seed).sample(x, z, footprint) * np.array([0.235, 0.225, 0.22], np.float32)
    beside = np.abs(x + 4.2)
    dash = (
        _step(0.07 - np.abs(z - 10.7), soft)
        * _step(0.9 - np.abs(np.mod(x, 4.0) - 2.0), soft)
        * _step(beside - 2.2, soft)
    )
    line = _step(0.06 - np.minimum(np.abs(z - 9.0), np.abs(z - 12.3)), soft) * _step(beside - 2.0, soft)
    zebra = _step(0.28 - np.abs(np.mod(x, 1.0) - 0.5), soft) * _step(
        np.minimum(1.6 - beside, 1.5 - np.abs(z - 10.65)), soft
    )
    marking = np.maximum(np.maximum(dash, line), zebra)
    return np.asarray(road + marking * (0.82 + 0.9 * (road - 0.225) - road), dtype=np.float32)
