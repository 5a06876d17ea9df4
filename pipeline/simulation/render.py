"""A ray caster in numpy: every pixel's ray against ground and solids, in any camera, with exact depth and instance ids.

Rays of one picture are traced together; each figure is tried only on the rays that meet its bounding sphere.
Pixels at the border of two solids are cast again with four rays, so that outlines are smooth.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.simulation import textures
from pipeline.simulation.figures import Part
from pipeline.simulation.scene import SUN, Scene, heading_matrix
from pipeline.stereo.calibration import CameraIntrinsics

Floats = NDArray[Any]  # float32
FAR = 120.0
STRIP = 65_536  # rays cast together
BLOCK = 42  # neighbouring rays culled together
SKY, GROUND = -1, -2
_FOUR_RAYS = ((-0.125, -0.375), (0.375, -0.125), (-0.375, 0.125), (0.125, 0.375))
_SUN_DISC = ((0.0, 0.0), (0.022, 0.0), (-0.011, 0.019), (-0.011, -0.019))


@dataclass(frozen=True, slots=True)
class Picture:
    """image: uint8 BGR (H, W, 3). instances: int16 (H, W), the actor's id, 0 for background.
    depth: float32 (H, W), metres along the optical axis, +inf for the sky."""

    image: NDArray[np.uint8]
    instances: NDArray[np.int16]
    depth: Floats


@dataclass(frozen=True, slots=True)
class Eye:
    """The rays of a camera: (H, W, 3) with z = 1, and how they change per pixel to the right and down."""

    directions: Floats
    right: Floats
    down: Floats
    pixel: float  # metres a pixel spans at one metre

    @classmethod
    def of(cls, camera: CameraIntrinsics) -> "Eye":
        """Cast through the lens: distortion is undone for every pixel centre."""
        u, v = np.meshgrid(np.arange(camera.width, dtype=np.float64), np.arange(camera.height, dtype=np.float64))
        pixels = np.stack([u.ravel(), v.ravel()], axis=1)
        distortion = np.asarray(camera.distortion, dtype=np.float64) if camera.distortion else np.zeros(5)
        xy = cv2.undistortPoints(pixels[:, None], camera.matrix, distortion)[:, 0]
        for _ in range(4):  # the library's five iterations leave some hundredths of a pixel in the corners
            rays = np.concatenate([xy, np.ones_like(xy[:, :1])], axis=1)
            shown = cv2.projectPoints(rays, np.zeros(3), np.zeros(3), camera.matrix, distortion)[0][:, 0]
            xy = xy + (pixels - shown) / (camera.fx, camera.fy)
        xy = xy.reshape(camera.height, camera.width, 2)
        directions = np.concatenate([xy, np.ones_like(xy[..., :1])], axis=2).astype(np.float32)
        return cls(directions, np.gradient(directions, axis=1), np.gradient(directions, axis=0), 1.0 / camera.fx)


class _Figure:
    """An actor or a prop placed in the world, ready to be hit by rays."""

    def __init__(self, instance: int, parts: tuple[Part, ...], x: float, z: float, heading: float) -> None:
        self.instance, self.parts = instance, parts
        turn, origin = heading_matrix(heading), np.array([x, 0.0, z])
        self.axes = [(turn @ part.rotation) for part in parts]
        self.centres = [origin + turn @ np.asarray(part.centre) for part in parts]
        halves = [np.abs(axes) @ np.asarray(part.reach) for axes, part in zip(self.axes, parts, strict=True)]
        self.low = np.min([c - h for c, h in zip(self.centres, halves, strict=True)], axis=0)
        self.high = np.max([c + h for c, h in zip(self.centres, halves, strict=True)], axis=0)
        self.centre = (self.low + self.high) / 2
        self.radius = float(np.linalg.norm(self.high - self.low)) / 2

    def near(self, origin: NDArray[np.float64], bundle: "_Bundle") -> NDArray[np.intp]:
        """Indices of the rays that meet the bounding sphere: whole blocks first, then ray by ray."""
        offset = self.centre - origin
        gap = float(np.linalg.norm(offset))
        if gap <= self.radius:
            return np.arange(len(bundle.d))
        angle = np.arccos(np.clip(_dot(bundle.middles, (offset / gap).astype(np.float32)), -1, 1))
        blocks = np.flatnonzero(angle <= bundle.spreads + np.arcsin(self.radius / gap))
        rays = (blocks[:, None] * BLOCK + np.arange(BLOCK)).ravel()
        rays = rays[: np.searchsorted(rays, len(bundle.d))]
        return rays[_meets(origin, bundle.d[rays], bundle.lengths[rays], self.centre, self.radius)]


class _Bundle:
    """Rays (n, 3) with their squared lengths, and the cones around blocks of neighbours."""

    def __init__(self, d: Floats) -> None:
        self.d, self.lengths = d, _dot(d, d)
        unit = d / np.sqrt(self.lengths)[:, None]
        unit = np.concatenate([unit, np.repeat(unit[-1:], -len(unit) % BLOCK, axis=0)]).reshape(-1, BLOCK, 3)
        middles = unit[:, BLOCK // 2]
        self.middles = middles
        self.spreads = np.arccos(np.clip(np.einsum("bnk,bk->bn", unit, middles).min(axis=1), -1, 1)) + 1e-3


def _meets(
    origin: NDArray[np.float64], directions: Floats, lengths: Floats, centre: NDArray[np.float64], radius: float
) -> NDArray[np.bool_]:
    offset = centre - origin
    apart = float(offset @ offset) - radius**2
    if apart <= 0:
        return np.ones(len(directions), bool)
    along = _dot(directions, np.asarray(offset, np.float32))
    return np.asarray((along > 0) & (along * along >= apart * lengths))


def _hit(part: Part, origin: Floats, d: Floats) -> Floats:
    """Distance (n,) along rays given in the part's own axes, inf where missed. `origin` (3,) or (n, 3), d (n, 3)."""
    half = np.asarray(part.half, np.float32)
    if part.shape == "box":
        with np.errstate(divide="ignore", invalid="ignore"):
            inverse = 1 / d
            a, b = (-half - origin) * inverse, (half - origin) * inverse
        low, high = np.minimum(a, b), np.maximum(a, b)
        near = np.maximum(np.maximum(low[:, 0], low[:, 1]), low[:, 2])  # ten times as fast as max(axis=1)
        far = np.minimum(np.minimum(high[:, 0], high[:, 1]), high[:, 2])
        return np.where((near <= far) & (near > 1e-3), near, np.inf).astype(np.float32)
    if part.shape == "ellipsoid":
        return _sphere(origin / half, d / half, 1.0)
    radius, length = part.half[0], part.half[1]
    x, z, dx, dz = origin[..., 0], origin[..., 2], d[:, 0], d[:, 2]
    a, b, c = dx * dx + dz * dz, dx * x + dz * z, x * x + z * z - radius**2
    root = b * b - a * c
    with np.errstate(divide="ignore", invalid="ignore"):
        t = (-b - np.sqrt(root)) / a
        y = origin[..., 1] + t * d[:, 1]
    t = np.where((root > 0) & (np.abs(y) <= length) & (t > 1e-3), t, np.inf)
    for end in (-length, length):
        t = np.minimum(t, _sphere(origin - np.array([0, end, 0], np.float32), d, radius))
    return t.astype(np.float32)


def _dot(a: Floats, b: Floats) -> Floats:
    """Row by row; either may be one vector (3,)."""
    return np.asarray(a[..., 0] * b[..., 0] + a[..., 1] * b[..., 1] + a[..., 2] * b[..., 2])


def _turned(vectors: Floats, matrix: Floats) -> Floats:
    """vectors (n, 3) @ matrix (3, 3), without the linear algebra library: its threads cost more than they bring."""
    return np.asarray(np.einsum("ij,jk->ik", vectors, matrix))


def _sphere(origin: Floats, d: Floats, radius: float) -> Floats:
    a, b, c = _dot(d, d), _dot(d, origin), _dot(origin, origin) - radius**2
    root = b * b - a * c
    with np.errstate(invalid="ignore"):
        t = (-b - np.sqrt(root)) / a
    return np.where((root > 0) & (t > 1e-3), t, np.inf).astype(np.float32)


@dataclass(frozen=True)
class _GroundLight:
    """Shadow and closeness on the ground, worked out once on a grid for all rays of all eyes.

    values: float32 (rows along z, columns along x, 2): share of the sun's disc that shines there, and of the sky.
    """

    values: Floats
    x: float
    z: float
    cell: float

    @classmethod
    def of(
        cls, figures: "list[_Figure]", x: tuple[float, float], z: tuple[float, float], cell: float
    ) -> "_GroundLight":
        xs, zs = np.arange(x[0], x[1], cell, dtype=np.float32), np.arange(z[0], z[1], cell, dtype=np.float32)
        gx, gz = np.meshgrid(xs, zs)
        points = np.stack([gx.ravel(), np.zeros(gx.size, np.float32), gz.ravel()], axis=1)
        values = np.stack([_sunlight(figures, points), _closeness(figures, points)], axis=1)
        return cls(values.reshape(len(zs), len(xs), 2), x[0], z[0], cell)

    def look(self, points: Floats) -> Floats:
        """(n, 2) at ground points (n, 3); in the open beyond the grid."""
        rows = max(1, -(-len(points) // 4096))
        maps = np.full((2, rows * 4096), -9, np.float32)
        maps[0, : len(points)] = (points[:, 0] - self.x) / self.cell
        maps[1, : len(points)] = (points[:, 2] - self.z) / self.cell
        across, along = np.clip(maps, -9, 1e5).reshape(2, rows, 4096)
        found = cv2.remap(
            self.values, across, along, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=(1, 1, 1, 1)
        )
        return np.asarray(found.reshape(-1, 2)[: len(points)], dtype=np.float32)


@lru_cache(maxsize=2)
def _standing_light(scene: Scene) -> _GroundLight:
    figures = [_Figure(0, prop.parts, prop.x, prop.z, prop.rotation_y) for prop in scene.props]
    return _GroundLight.of(figures, (-20.0, 22.0), (6.0, 34.0), 0.06)


class Stage:
    """The scene at one moment; `picture` takes it with any camera."""

    def __init__(self, scene: Scene, time: float) -> None:
        self.seed = scene.seed
        self.figures = [_Figure(0, prop.parts, prop.x, prop.z, prop.rotation_y) for prop in scene.props]
        actors = [_Figure(actor.id, actor.parts(time), *actor.path.at(time)) for actor in scene.actors]
        self.figures += actors
        self._standing = _standing_light(scene)
        self._moving = _GroundLight.of(actors, (-10.0, 11.0), (1.0, 14.5), 0.035)
        self.parts = [(figure, i) for figure in self.figures for i in range(len(figure.parts))]

    def picture(
        self, eye: Eye, axes: NDArray[np.float64], position: NDArray[np.float64], smooth: bool = True
    ) -> Picture:
        """`axes`: camera axes as columns in the world (3, 3); `position`: its centre (3,)."""
        h, w = eye.directions.shape[:2]
        turn = axes.T.astype(np.float32)
        colour, t, hit = self._cast(position, _turned(eye.directions.reshape(-1, 3), turn), eye.pixel)
        if smooth:
            edge = np.flatnonzero(_borders(hit.reshape(h, w)))
            rays = [
                eye.directions.reshape(-1, 3)[edge]
                + du * eye.right.reshape(-1, 3)[edge]
                + dv * eye.down.reshape(-1, 3)[edge]
                for du, dv in _FOUR_RAYS
            ]
            finer, _, _ = self._cast(position, _turned(np.concatenate(rays), turn), eye.pixel)
            colour[edge] = finer.reshape(4, -1, 3).mean(axis=0)
        # A soft shoulder keeps sunlit white from clipping; sRGB-like gamma.
        colour = np.clip(colour, 0, None)
        colour = 255 * np.power(colour / (1 + 0.30 * colour) * 1.22, 1 / 1.35)
        ids = np.array([figure.instance for figure, _ in self.parts] + [0, 0], np.int16)[hit]
        return Picture(np.clip(colour, 0, 255).astype(np.uint8).reshape(h, w, 3), ids.reshape(h, w), t.reshape(h, w))

    def _cast(self, origin: NDArray[np.float64], d: Floats, pixel: float) -> tuple[Floats, Floats, NDArray[np.int16]]:
        """Colour (n, 3), distance (n,) in units of the ray, and part index (n,), SKY or GROUND.

        In strips, because what stays in the cache is several times as fast.
        """
        strips = [self._cast_strip(origin, d[i : i + STRIP], pixel) for i in range(0, len(d), STRIP)]
        colours, distances, hits = zip(*strips, strict=True)
        return np.concatenate(colours), np.concatenate(distances), np.concatenate(hits)

    def _cast_strip(
        self, origin: NDArray[np.float64], d: Floats, pixel: float
    ) -> tuple[Floats, Floats, NDArray[np.int16]]:
        origin = origin.astype(np.float32)
        bundle = _Bundle(d)
        lengths = bundle.lengths
        with np.errstate(divide="ignore"):
            t = np.where(d[:, 1] > 1e-4, -origin[1] / d[:, 1], np.inf).astype(np.float32)
        t[t > FAR] = np.inf
        hit = np.where(np.isfinite(t), GROUND, SKY).astype(np.int16)
        number = 0
        for figure in self.figures:
            near = figure.near(origin, bundle)
            rays, squares = d[near], lengths[near]
            for i, part in enumerate(figure.parts):
                if near.size:
                    reach = float(np.linalg.norm(part.reach))
                    pick = np.flatnonzero(_meets(origin, rays, squares, figure.centres[i], reach))
                    axes = figure.axes[i].astype(np.float32)
                    local = ((origin - figure.centres[i]) @ figure.axes[i]).astype(np.float32)
                    distance = _hit(part, local, _turned(rays[pick], axes))
                    index = near[pick]
                    closer = distance < t[index]
                    t[index[closer]] = distance[closer]
                    hit[index[closer]] = number
                number += 1
        return self._shade(origin, d, lengths, t, hit, pixel), t, hit

    def _shade(
        self, origin: NDArray[np.float64], d: Floats, lengths: Floats, t: Floats, hit: NDArray[np.int16], pixel: float
    ) -> Floats:
        colour = np.empty_like(d)
        sky = np.flatnonzero(hit == SKY)
        colour[sky] = _sky(d[sky] / np.sqrt(lengths[sky])[:, None])
        floor = np.flatnonzero(hit == GROUND)
        points = origin.astype(np.float32) + t[floor, None] * d[floor]
        slant = np.sqrt(np.abs(d[floor, 1]) / np.sqrt(lengths[floor]))  # geometric mean of the footprint's two sides
        paint = textures.ground(points[:, 0], points[:, 2], t[floor] * pixel / np.maximum(slant, 0.05), self.seed)
        shadow, closeness = self._standing.look(points), self._moving.look(points)
        light = (0.40 + 0.86 * float(-SUN[1]) * shadow[:, 0] * closeness[:, 0]) * closeness[:, 1]
        colour[floor] = paint * light[:, None] * np.array([0.98, 1.0, 1.03], np.float32)
        sun = SUN.astype(np.float32)
        order = np.argsort(hit, kind="stable")
        starts = np.searchsorted(hit[order], np.arange(len(self.parts) + 1))
        for number in np.unique(hit[hit >= 0]):
            pick = order[starts[number] : starts[number + 1]]
            figure, i = self.parts[number]
            part, axes = figure.parts[i], figure.axes[i].astype(np.float32)
            world = origin.astype(np.float32) + t[pick, None] * d[pick]
            local = _turned(world - figure.centres[i].astype(np.float32), axes)
            normal, u, v = _surface(part, local)
            normal = _turned(normal, axes.T)
            texture = textures.texture(part.material, self.seed)
            # A little of the part's number shifts the pattern: no two sleeves are alike.
            shade = texture.sample(u + 0.37 * i + 1.7 * figure.instance, v + 0.11 * i, t[pick] * pixel)
            facing = np.clip(_dot(normal, sun), 0, None)
            ambient = 0.40 + 0.13 * np.clip(-normal[:, 1], -1, 1) + 0.06 * np.clip(world[:, 1] + 0.6, 0, 0.6)
            colour[pick] = shade * np.asarray(part.colour, np.float32) * (ambient + 0.86 * facing)[:, None]
            if part.material in ("paint", "glass", "metal", "panel"):
                eye = -d[pick] / np.sqrt(lengths[pick])[:, None]
                halfway = (eye + sun) / np.linalg.norm(eye + sun, axis=1, keepdims=True)
                colour[pick] += 0.25 * np.clip((normal * halfway).sum(axis=1), 0, 1)[:, None] ** 40
        # Far things fade into the haze.
        haze = np.where(np.isfinite(t), 1 - np.exp(-t / 140), 0)[:, None].astype(np.float32)
        return np.asarray(colour + haze * (np.array([0.80, 0.74, 0.68], np.float32) - colour), dtype=np.float32)


def _sunlight(figures: list[_Figure], points: Floats) -> Floats:
    """Share of the sun's disc (n,) that reaches ground points (n, 3)."""
    blocked = np.zeros((len(_SUN_DISC), len(points)), bool)
    side = np.cross(SUN, (0, 1, 0))
    suns = [SUN + along * np.cross(side, SUN) + across * side for along, across in _SUN_DISC]
    x, z = points[:, 0], points[:, 2]
    for figure in figures:
        # The figure's box, thrown on the ground along the light, and a little more for the disc.
        throw = SUN[[0, 2]] / SUN[1] * figure.low[1]
        pad = 0.05 - 0.05 * figure.low[1]
        low = (np.minimum(figure.low[[0, 2]], figure.low[[0, 2]] - throw) - pad).tolist()
        high = (np.maximum(figure.high[[0, 2]], figure.high[[0, 2]] - throw) + pad).tolist()
        around = np.flatnonzero((x > low[0]) & (x < high[0]) & (z > low[1]) & (z < high[1]))
        if not around.size:
            continue
        starts = [
            _turned(points[around] - centre.astype(np.float32), axes.astype(np.float32))
            for centre, axes in zip(figure.centres, figure.axes, strict=True)
        ]
        for sun, dark in zip(suns, blocked, strict=True):
            left = np.flatnonzero(~dark[around])
            for part, start, axes in zip(figure.parts, starts, figure.axes, strict=True):
                if not left.size:
                    break
                ray = np.broadcast_to((sun @ axes).astype(np.float32), (left.size, 3))
                hit = np.isfinite(_hit(part, start[left], ray))
                dark[around[left[hit]]] = True
                left = left[~hit]
    return np.asarray(1 - blocked.mean(axis=0), dtype=np.float32)


def _closeness(figures: list[_Figure], points: Floats) -> Floats:
    """The darkening of the ground (n,) where something stands on it."""
    light = np.ones(len(points), np.float32)
    for figure in figures:
        if figure.radius > 3.5 or not figure.instance:
            continue
        x, _, z = figure.centre.tolist()
        gap = np.hypot(points[:, 0] - x, points[:, 2] - z)
        around = np.flatnonzero(gap < figure.radius + 0.8)
        feet = [
            c.tolist() for c, p in zip(figure.centres, figure.parts, strict=True) if c[1] > -0.35 or p.shape == "box"
        ]
        for foot in feet:
            apart = np.square(points[around, 0] - foot[0]) + np.square(points[around, 2] - foot[2])
            light[around] *= 1 - 0.16 * np.exp(-apart / 0.05)
    return light


def _surface(part: Part, local: Floats) -> tuple[Floats, Floats, Floats]:
    """Normal (n, 3) and texture coordinates u, v (n,) in metres at `local` points on the part, in its own axes."""
    half = np.asarray(part.half, np.float32)
    if part.shape == "box":
        face = np.argmax(np.abs(local) / half, axis=1)
        normal = np.zeros_like(local)
        rows = np.arange(len(local))
        normal[rows, face] = np.sign(local[rows, face])
        u = np.where(face == 0, local[:, 2], local[:, 0]) + 0.21 * face
        v = np.where(face == 1, local[:, 2], local[:, 1])
        return normal, u, v
    if part.shape == "ellipsoid":
        normal = local / (half * half)
        u, v = np.arctan2(local[:, 2], local[:, 0]) * (half[0] + half[2]) / 2, local[:, 1]
    else:
        normal = local.copy()
        normal[:, 1] -= np.clip(local[:, 1], -half[1], half[1])
        u, v = np.arctan2(local[:, 2], local[:, 0]) * half[0], local[:, 1]
    normal /= np.linalg.norm(normal, axis=1, keepdims=True) + 1e-9
    if part.material == "leaves":
        # Leaves face everywhere: a rough normal breaks the ball's smooth shading.
        wobble = np.sin(local * 23 + 4 * np.sin(local[:, ::-1] * 9))
        normal = normal + 0.55 * wobble.astype(np.float32)
        normal /= np.linalg.norm(normal, axis=1, keepdims=True) + 1e-9
    return normal, u, v


def _sky(d: Floats) -> Floats:
    """Blue above, pale at the horizon, with soft clouds. d: unit rays (n, 3)."""
    up = np.clip(-d[:, 1], 0, 1)[:, None]
    colour = np.array([0.92, 0.80, 0.66], np.float32) * (1 - up) ** 3 + np.array([0.78, 0.50, 0.27], np.float32) * (
        1 - (1 - up) ** 3
    )
    u, v = 6 * d[:, 0] / (up[:, 0] + 0.25), 6 * d[:, 2] / (up[:, 0] + 0.25)
    cloud = np.sin(u + 1.3 * np.sin(0.7 * v)) + np.sin(1.9 * u - 0.8 * v + 2) + 0.6 * np.sin(4.1 * u + 3.3 * v)
    cloud = np.clip(0.28 * cloud, 0, 0.6)[:, None]
    return np.asarray(colour + cloud * (0.95 - colour), dtype=np.float32)


def _borders(hit: NDArray[np.int16]) -> NDArray[np.bool_]:
    """Pixels (H, W) next to one that shows another solid."""
    edge = np.zeros(hit.shape, bool)
    across, down = hit[:, 1:] != hit[:, :-1], hit[1:] != hit[:-1]
    edge[:, 1:] |= across
    edge[:, :-1] |= across
    edge[1:] |= down
    edge[:-1] |= down
    return edge
