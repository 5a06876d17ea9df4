"""Rectified pairs whose disparity is known: Middlebury, Aloe, and the simulated street."""

import json
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.simulation.recording import FPS, _Camera
from pipeline.simulation.render import Eye, Stage
from pipeline.stereo.calibration import CameraIntrinsics
from pipeline.stereo.matching import SemiGlobalMatcher

NUM_DISPARITIES = {"cones": 64, "venus": 32, "tsukuba": 32, "sawtooth": 32}
ALOE_DISPARITIES = 272
FILMED = {"VGA": (0, 20, 40, 60), "HD": (20,)}


@dataclass(frozen=True)
class Scene:
    """left, right: uint8 BGR (H, W, 3). truth: the left disparity, float32 (H, W), pixels, NaN where unknown.
    Scenes of one group show the same things."""

    name: str
    group: str
    left: NDArray[np.uint8]
    right: NDArray[np.uint8]
    truth: NDArray[np.float32]
    matcher: SemiGlobalMatcher


def load_pair(folder: Path) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.float32]]:
    """A Middlebury pair: left, right (uint8 BGR) and the left disparity (float32 pixels, NaN where unknown)."""
    scale = json.loads((folder.parent / "scales.json").read_text())["gt_disparity = disp2.png / scale"][folder.name]
    left, right = (cv2.imread(str(folder / name)) for name in ("im2.png", "im6.png"))
    return left, right, _truth(folder / "disp2.png", scale)


def middlebury(data: Path) -> list[Scene]:
    return [
        Scene(name, name, *load_pair(data / "stereo_middlebury" / name), SemiGlobalMatcher(num_disparities=most))
        for name, most in NUM_DISPARITIES.items()
    ]


def aloe(data: Path) -> list[Scene]:
    """At its own size and at half of it."""
    folder = data / "stereo_aloe"
    left, right = (cv2.imread(str(folder / name)) for name in ("aloeL.jpg", "aloeR.jpg"))
    truth = _truth(folder / "aloeGT.png", 1)
    size = left.shape[1] // 2, left.shape[0] // 2
    small = [cv2.resize(image, size, interpolation=cv2.INTER_AREA) for image in (left, right)]
    return [
        Scene("aloe", "aloe", left, right, truth, SemiGlobalMatcher(num_disparities=ALOE_DISPARITIES)),
        Scene("aloe 1/2", "aloe", *small, truth[::2, ::2] / 2, SemiGlobalMatcher(num_disparities=144)),
    ]


def simulated() -> list[Scene]:
    """Frames of the demo's street, filmed raw with noise, then rectified; truth is rendered in the rectified eye."""
    scenes = []
    for resolution, frames in FILMED.items():
        film = _Camera(7, resolution)
        rectifier, camera = film.rectifier, film.rectifier.camera
        eye = Eye.of(CameraIntrinsics(camera.width, camera.height, camera.fx, camera.fy, camera.cx, camera.cy))
        for index in frames:
            left, right, _ = film.film(index)
            axes, centre = film.scene.rig_pose(index / FPS)
            depth = Stage(film.scene, index / FPS).picture(eye, axes @ rectifier.rotation_left.T, centre).depth
            truth = (camera.fx * (camera.baseline or 0) / depth).astype(np.float32)
            truth[truth < 1] = np.nan
            scenes.append(
                Scene(
                    f"street {resolution} {index}",
                    "street",
                    *rectifier.rectify(left, right),
                    truth,
                    SemiGlobalMatcher.for_camera(camera),
                )
            )
    return scenes


def _truth(path: Path, scale: float) -> NDArray[np.float32]:
    truth = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE).astype(np.float32) / scale
    truth[truth == 0] = np.nan
    return truth
