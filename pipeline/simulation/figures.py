"""What the things of the scene are built from: solids in a frame of their own, and the figures made of them.

A figure stands on its origin: x is its length (forward), y points down (the top is negative), z is its width; metres.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Shape = Literal["box", "ellipsoid", "capsule"]
Colour = tuple[float, float, float]  # linear BGR, 0…1
Vector = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Part:
    """One solid. `half` is the half extents (box), the radii (ellipsoid) or (radius, half length without caps, radius)
    of a capsule along its own y axis. `axes` holds the part's axes as columns, row by row, in the figure's frame."""

    shape: Shape
    centre: Vector
    half: Vector
    colour: Colour
    material: str = "plain"
    axes: tuple[float, ...] = (1, 0, 0, 0, 1, 0, 0, 0, 1)

    @property
    def rotation(self) -> NDArray[np.float64]:
        return np.asarray(self.axes, dtype=np.float64).reshape(3, 3)

    @property
    def reach(self) -> Vector:
        """Half extents as a bounding box sees them in the part's own axes."""
        x, y, z = self.half
        return (x, y + x, z) if self.shape == "capsule" else self.half


def box(centre: Vector, half: Vector, colour: Colour, material: str = "plain") -> Part:
    return Part("box", centre, half, colour, material)


def ellipsoid(centre: Vector, radii: Vector, colour: Colour, material: str = "plain") -> Part:
    return Part("ellipsoid", centre, radii, colour, material)


def capsule(start: Vector, end: Vector, radius: float, colour: Colour, material: str = "plain") -> Part:
    a, b = np.asarray(start, float), np.asarray(end, float)
    along = b - a
    length = float(np.linalg.norm(along))
    y = along / length
    x = np.cross(y, (0.0, 0.0, 1.0))
    x = x / np.linalg.norm(x) if np.linalg.norm(x) > 1e-6 else np.array([1.0, 0.0, 0.0])
    axes = np.stack([x, y, np.cross(x, y)], axis=1)
    centre = (a + b) / 2
    return Part(
        "capsule",
        (float(centre[0]), float(centre[1]), float(centre[2])),
        (radius, length / 2, radius),
        colour,
        material,
        tuple(float(value) for value in axes.ravel()),
    )


def extents(parts: tuple[Part, ...]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Lowest and highest corner (3,) of the box around `parts` in the figure's frame."""
    low, high = [], []
    for part in parts:
        rotation, centre = part.rotation, np.asarray(part.centre)
        if part.shape == "ellipsoid":
            half = np.sqrt((rotation**2) @ np.square(part.half))
        elif part.shape == "capsule":
            half = np.abs(rotation[:, 1]) * part.half[1] + part.half[0]
        else:
            half = np.abs(rotation) @ np.asarray(part.half)
        low.append(centre - half)
        high.append(centre + half)
    return np.min(low, axis=0), np.max(high, axis=0)


@dataclass(frozen=True, slots=True)
class Clothes:
    """The colours that tell one person from another."""

    top: Colour
    trousers: Colour
    hair: Colour = (0.05, 0.07, 0.11)
    skin: Colour = (0.42, 0.55, 0.78)
    backpack: Colour | None = None


@lru_cache(maxsize=512)
def person(phase: float, clothes: Clothes, height: float = 1.75) -> tuple[Part, ...]:
    """A walker. `phase` in radians: one full turn is two steps; a figure of `height` metres without the swing."""
    s = height / 1.75
    bob = 0.018 * np.cos(2 * phase)
    parts: list[Part] = []

    def at(x: float, y: float, z: float) -> Vector:
        return (float(x * s), float((y - bob) * s), float(z * s))

    def radii(x: float, y: float, z: float) -> Vector:
        return (x * s, y * s, z * s)

    for side, turn in ((-1.0, 0.0), (1.0, np.pi)):
        swing = 0.42 * np.sin(phase + turn)
        bend = 0.12 + 0.42 * max(0.0, np.cos(phase + turn))
        hip = np.array([0.0, -0.90, 0.095 * side])
        knee = hip + 0.42 * np.array([np.sin(swing), np.cos(swing), 0.0])
        ankle = knee + 0.40 * np.array([np.sin(swing - bend), np.cos(swing - bend), 0.0])
        ankle[1] = min(ankle[1], -0.075 + bob)
        parts.append(capsule(at(*hip), at(*knee), 0.085 * s, clothes.trousers, "denim"))
        parts.append(capsule(at(*knee), at(*ankle), 0.064 * s, clothes.trousers, "denim"))
        parts.append(
            ellipsoid(at(ankle[0] + 0.06, ankle[1] + 0.025, ankle[2]), radii(0.135, 0.05, 0.055), (0.07,) * 3, "cloth")
        )
        reach = -0.38 * np.sin(phase + turn)
        shoulder = np.array([0.0, -1.40, 0.205 * side])
        elbow = shoulder + 0.27 * np.array([np.sin(reach), np.cos(reach), 0.10 * side])
        wrist = elbow + 0.24 * np.array([np.sin(reach + 0.45), np.cos(reach + 0.45), 0.0])
        parts.append(capsule(at(*shoulder), at(*elbow), 0.056 * s, clothes.top, "cloth"))
        parts.append(capsule(at(*elbow), at(*wrist), 0.046 * s, clothes.top, "cloth"))
        parts.append(
            ellipsoid(at(wrist[0] + 0.015, wrist[1] + 0.05, wrist[2]), radii(0.042, 0.07, 0.032), clothes.skin, "skin")
        )
    parts.append(ellipsoid(at(0, -0.96, 0), radii(0.125, 0.13, 0.165), clothes.trousers, "denim"))
    parts.append(ellipsoid(at(0, -1.20, 0), radii(0.130, 0.31, 0.185), clothes.top, "cloth"))
    parts.append(ellipsoid(at(0, -1.38, 0), radii(0.112, 0.10, 0.225), clothes.top, "cloth"))
    parts.append(capsule(at(0, -1.44, 0), at(0.01, -1.54, 0), 0.052 * s, clothes.skin, "skin"))
    parts.append(ellipsoid(at(0.02, -1.615, 0), radii(0.100, 0.125, 0.082), clothes.skin, "skin"))
    parts.append(ellipsoid(at(-0.008, -1.645, 0), radii(0.104, 0.108, 0.092), clothes.hair, "hair"))
    if clothes.backpack:
        parts.append(ellipsoid(at(-0.19, -1.22, 0), radii(0.115, 0.235, 0.160), clothes.backpack, "cloth"))
    return tuple(parts)


@lru_cache(maxsize=8)
def person_size(clothes: Clothes, height: float = 1.75) -> tuple[float, float, float]:
    """(h, w, l) of the box that holds a walker over half of its stride: what an annotator would draw throughout."""
    spans = np.array(
        [
            np.subtract(*reversed(extents(person(float(p), clothes, height))))
            for p in np.linspace(0, 2 * np.pi, 16, False)
        ]
    )
    length, tall, wide = np.mean(spans, axis=0)
    return round(float(tall), 3), round(float(wide), 3), round(float(length), 3)


@lru_cache(maxsize=8)
def car(paint: Colour, size_hwl: Vector = (1.46, 1.76, 4.10)) -> tuple[Part, ...]:
    """A small car: body, cabin with windows, wheels, lights."""
    h, w, length = size_hwl
    glass, rubber = (0.16, 0.13, 0.10), (0.05, 0.05, 0.05)
    x, z = length / 2, w / 2
    parts = [
        box((0, -0.56, 0), (x, 0.30, z), paint, "paint"),
        box((0.05, -0.30, 0), (x - 0.16, 0.12, z - 0.03), (0.09, 0.09, 0.09), "rubber"),
        box((-0.22, -(0.84 + h) / 2, 0), (1.12, (h - 0.84) / 2, z - 0.12), paint, "paint"),
        box((-0.22, -1.12, 0), (1.14, 0.20, z - 0.20), glass, "glass"),
        box((-0.22, -1.12, 0), (0.98, 0.19, z - 0.11), glass, "glass"),
        box((-0.28, -1.12, 0), (0.04, 0.20, z - 0.105), paint, "paint"),
    ]
    for side in (-1, 1):
        for end in (-1.28, 1.30):
            parts.append(ellipsoid((end, -0.31, side * (z - 0.11)), (0.31, 0.31, 0.11), rubber, "rubber"))
            parts.append(ellipsoid((end, -0.31, side * (z - 0.07)), (0.17, 0.17, 0.07), (0.62, 0.62, 0.64), "metal"))
        parts.append(box((x - 0.03, -0.62, side * (z - 0.30)), (0.04, 0.07, 0.18), (0.80, 0.92, 0.95), "glass"))
        parts.append(box((-x + 0.03, -0.64, side * (z - 0.26)), (0.04, 0.08, 0.16), (0.08, 0.06, 0.62), "glass"))
    return tuple(parts)


@lru_cache(maxsize=8)
def crate(size_hwl: Vector = (0.80, 0.80, 1.00)) -> tuple[Part, ...]:
    """A wooden transport crate with darker edge battens."""
    h, w, length = size_hwl
    wood, edge, b = (0.34, 0.52, 0.70), (0.24, 0.38, 0.54), 0.045
    parts = [box((0, -h / 2, 0), (length / 2 - 0.02, h / 2 - 0.02, w / 2 - 0.02), wood, "wood")]
    for sx in (-1, 1):
        for sz in (-1, 1):
            parts.append(box((sx * (length / 2 - b), -h / 2, sz * (w / 2 - b)), (b, h / 2, b), edge, "wood"))
    for sy in (b, h - b):
        for s in (-1, 1):
            parts.append(box((0, -sy, s * (w / 2 - b)), (length / 2, b, b), edge, "wood"))
            parts.append(box((s * (length / 2 - b), -sy, 0), (b, b, w / 2), edge, "wood"))
    return tuple(parts)


@lru_cache(maxsize=8)
def cart(size_hwl: Vector = (1.18, 0.70, 1.10)) -> tuple[Part, ...]:
    """A delivery robot: a six-wheeled orange box with a white lid, a dark visor and a lamp."""
    h, w, length = size_hwl
    orange, white, dark = (0.10, 0.42, 0.90), (0.84, 0.86, 0.87), (0.10, 0.09, 0.09)
    x, z = length / 2, w / 2
    parts = [
        box((0, -0.59, 0), (x, 0.39, z - 0.05), orange, "decal"),
        box((0, -(0.98 + h) / 2, 0), (x - 0.04, (h - 0.98) / 2, z - 0.08), white, "panel"),
        box((x - 0.03, -0.80, 0), (0.03, 0.09, z - 0.14), dark, "glass"),
        box((0, -0.19, 0), (x - 0.10, 0.06, z - 0.14), dark, "rubber"),
    ]
    for side in (-1, 1):
        for end in (-0.36, 0.0, 0.36):
            parts.append(ellipsoid((end, -0.155, side * (z - 0.06)), (0.155, 0.155, 0.06), dark, "rubber"))
    return tuple(parts)


def tree(height: float, crown: float, seed: int) -> tuple[Part, ...]:
    """A trunk and a crown of leafy balls; `crown` is its radius in metres."""
    rng = np.random.default_rng(seed)
    parts = [capsule((0, 0.2, 0), (0.05, -height + crown, 0.04), 0.14, (0.15, 0.20, 0.27), "bark")]
    for _ in range(11):
        x, y, z = rng.normal(0, 0.42, 3) * crown
        r = crown * float(rng.uniform(0.38, 0.62))
        green = float(rng.uniform(0.85, 1.12))
        colour = (0.13 * green, 0.40 * green, 0.26 * green)
        parts.append(ellipsoid((float(x), float(-height + crown + y), float(z)), (r, r * 0.85, r), colour, "leaves"))
    return tuple(parts)
