"""A street corner on a sunny day: who is there, where each one is at any time, and where the camera stands.

World frame: x right, y **down**, z forward, metres; the ground is y = 0. Heading (rotation_y) is about +y as in KITTI.
"""

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline
from scipy.spatial.transform import Rotation

from pipeline.segmentation.base import ClassSpec
from pipeline.simulation import figures
from pipeline.simulation.figures import Clothes, Part

CLASSES = (
    ClassSpec(1, "person", "a person", (1.75, 0.56, 0.62)),
    ClassSpec(2, "car", "a car", (1.50, 1.80, 4.20)),
    ClassSpec(3, "crate", "a wooden crate", (0.80, 0.80, 1.00)),
    ClassSpec(4, "cart", "a delivery robot", (1.20, 0.70, 1.10)),
)
"""The label classes of the scene, ids from 1, with typical sizes (h, w, l) in metres."""

CAMERA_HEIGHT = 1.5
CAMERA_PITCH = np.radians(5.0)
SUN = np.array([-0.50, -1.0, -0.52]) / np.linalg.norm([-0.50, -1.0, -0.52])
"""Unit vector towards the sun: behind the camera, to the left."""


def heading_matrix(rotation_y: float) -> NDArray[np.float64]:
    """Figure axes to world axes, (3, 3)."""
    c, s = np.cos(rotation_y), np.sin(rotation_y)
    return np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])


@dataclass(frozen=True)
class Path:
    """A smooth way over the ground through (seconds, x, z) waypoints. `heading` fixes rotation_y, else it follows."""

    waypoints: tuple[tuple[float, float, float], ...]
    heading: float | None = None

    @cached_property
    def _spline(self) -> CubicSpline:
        times, xs, zs = np.array(self.waypoints).T
        return CubicSpline(times, np.stack([xs, zs], axis=1), bc_type="natural")

    def at(self, time: float) -> tuple[float, float, float]:
        """x, z, rotation_y."""
        if len(self.waypoints) == 1:
            return self.waypoints[0][1], self.waypoints[0][2], self.heading or 0.0
        x, z = self._spline(time)
        if self.heading is not None:
            return float(x), float(z), self.heading
        dx, dz = self._spline(time, 1)
        return float(x), float(z), float(np.arctan2(-dz, dx))

    def distance(self, time: float) -> float:
        """Metres walked since time 0 (trapezoids of 20 ms)."""
        if len(self.waypoints) == 1:
            return 0.0
        times = np.linspace(0, time, max(2, int(abs(time) / 0.02) + 1))
        return float(np.trapezoid(np.linalg.norm(self._spline(times, 1), axis=1), times))


@dataclass(frozen=True)
class Actor:
    """Something with ground truth. `id` from 1; `size_hwl` in metres; persons walk with `clothes`."""

    id: int
    class_name: str
    size_hwl: tuple[float, float, float]
    path: Path
    clothes: Clothes | None = None
    paint: figures.Colour = (0.5, 0.5, 0.5)

    def parts(self, time: float) -> tuple[Part, ...]:
        if self.clothes is not None:
            # A stride (two steps) takes 1.45 m.
            phase = 2 * np.pi * self.path.distance(time) / 1.45 + self.id
            return figures.person(round(float(phase) % (2 * np.pi), 4), self.clothes, self.size_hwl[0])
        if self.class_name == "car":
            return figures.car(self.paint, self.size_hwl)
        return figures.crate(self.size_hwl) if self.class_name == "crate" else figures.cart(self.size_hwl)


@dataclass(frozen=True)
class Prop:
    """Something that stands still and is background."""

    x: float
    z: float
    rotation_y: float
    parts: tuple[Part, ...]


@dataclass(frozen=True)
class Scene:
    """Everything there is. `seed` drives textures and noise."""

    seed: int
    actors: tuple[Actor, ...]
    props: tuple[Prop, ...] = field(default=())

    def rig_pose(self, time: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Axes of the left camera as columns in the world (3, 3), and its centre (3,): a slow, swaying walk."""
        t, walk = time, 2 * np.pi * 0.9 * time
        position = np.array([0.05 * np.sin(walk / 2), -CAMERA_HEIGHT + 0.012 * np.sin(walk), 0.22 * t])
        yaw = np.radians(1.6 * np.sin(0.55 * t) + 0.25 * np.sin(walk / 2))
        pitch = -CAMERA_PITCH + np.radians(0.30 * np.sin(walk + 0.7))
        roll = np.radians(0.35 * np.sin(walk / 2 + 0.4))
        return Rotation.from_euler("YXZ", [yaw, pitch, roll]).as_matrix(), position


def _person(number: int, height: float, clothes: Clothes, *waypoints: tuple[float, float, float]) -> Actor:
    _, width, length = figures.person_size(clothes, height)
    return Actor(number, "person", (height, width, length), Path(waypoints), clothes)


def street_corner(seed: int = 7) -> Scene:
    """The demo scene: four walkers that cross and hide one another, a delivery robot, two crates, a car; 5 seconds."""
    rng = np.random.default_rng(seed)
    a, b, c, d = (float(shift) for shift in rng.uniform(-0.12, 0.12, 4))  # every seed is a slightly different morning
    actors = (
        _person(
            1,
            1.76,
            Clothes((0.16, 0.14, 0.74), (0.30, 0.20, 0.13)),
            (0, -3.3, 4.5 + a),
            (2.5, -0.2, 4.85 + a),
            (5, 3.2, 5.35 + a),
        ),
        _person(
            2,
            1.83,
            Clothes((0.62, 0.36, 0.12), (0.20, 0.20, 0.21), backpack=(0.12, 0.48, 0.70)),
            (0, 1.05 + b, 3.5),
            (2.5, 1.35 + b, 6.1),
            (5, 1.5 + b, 8.0),
        ),
        _person(
            3,
            1.66,
            Clothes((0.24, 0.62, 0.34), (0.45, 0.42, 0.40), hair=(0.14, 0.25, 0.42)),
            (0, 4.3, 7.0 + c),
            (2.5, 0.9, 7.0 + c),
            (5, -2.4, 6.7 + c),
        ),
        _person(
            4,
            1.71,
            Clothes((0.80, 0.80, 0.82), (0.40, 0.26, 0.42), hair=(0.03, 0.03, 0.04)),
            (0, -4.9, 7.3 + d),
            (2.5, -3.7, 6.2 + d),
            (5, -2.9, 4.5 + d),
        ),
        Actor(5, "cart", (1.18, 0.70, 1.10), Path(((0, -1.9 + b, 3.5), (2.5, -1.1 + b, 3.75), (5, 0.1 + b, 4.0)))),
        Actor(6, "crate", (0.80, 0.80, 1.00), Path(((0, 2.75 + a, 4.0),), heading=0.55)),
        Actor(7, "crate", (0.85, 0.85, 1.05), Path(((0, -1.1 + c, 8.1), (5, 0.1 + c, 8.2)), heading=-0.35)),
        Actor(
            8,
            "car",
            (1.46, 1.76, 4.10),
            Path(((0, 6.6 + d, 10.3), (2.5, 1.9 + d, 10.3), (5, -3.4 + d, 10.4))),
            paint=(0.62, 0.30, 0.10),
        ),
    )
    b_ = figures.box
    props = (
        Prop(
            -9.0,
            21.0,
            0.0,
            (
                b_((0, -3.4, 0), (8.0, 3.4, 3.0), (0.50, 0.60, 0.78), "brick"),
                b_((0, -6.9, -0.1), (8.2, 0.15, 3.2), (0.7, 0.7, 0.7), "plaster"),
            ),
        ),
        Prop(
            8.5,
            23.0,
            0.0,
            (
                b_((0, -2.7, 0), (8.5, 2.7, 3.5), (0.72, 0.80, 0.84), "facade"),
                b_((0, -5.5, -0.1), (8.7, 0.12, 3.7), (0.4, 0.42, 0.45), "plaster"),
            ),
        ),
        Prop(-22.0, 19.0, 0.15, (b_((0, -4.5, 0), (4.0, 4.5, 6.0), (0.70, 0.74, 0.78), "facade"),)),
        Prop(23.0, 18.0, -0.2, (b_((0, -3.8, 0), (4.0, 3.8, 6.0), (0.52, 0.60, 0.76), "brick"),)),
        Prop(0.0, 34.0, 0.0, (b_((0, -1.6, 0), (40.0, 1.6, 1.0), (0.16, 0.36, 0.25), "leaves"),)),
        Prop(-5.3, 15.6, 0.0, figures.tree(5.2, 1.9, seed + 1)),
        Prop(4.1, 16.2, 0.0, figures.tree(4.7, 1.7, seed + 2)),
        Prop(-12.2, 15.2, 0.0, figures.tree(5.0, 1.8, seed + 3)),
        Prop(11.6, 15.4, 0.0, figures.tree(5.6, 2.0, seed + 4)),
        Prop(0.1, 27.0, 0.0, figures.tree(6.4, 2.4, seed + 5)),
    )
    return Scene(seed, actors, props)
