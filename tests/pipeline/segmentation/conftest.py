"""A moment of the simulated street as a segmenter sees it, with its instances known to the pixel; and a short film."""

from typing import NamedTuple

import numpy as np
import pytest

from pipeline.errors import RecordingError
from pipeline.segmentation.base import View
from pipeline.simulation.render import Eye, Stage
from pipeline.simulation.scene import street_corner
from pipeline.stereo.calibration import CameraIntrinsics
from pipeline.stereo.camera import RectifiedCamera
from pipeline.stereo.matching import SemiGlobalMatcher, disparity_to_depth

BASELINE = 0.12
EYE = CameraIntrinsics(672, 376, 340.0, 340.0, 335.5, 187.5)


class Moment(NamedTuple):
    view: View
    instances: np.ndarray
    names: dict[int, str]


@pytest.fixture(scope="session")
def street() -> Moment:
    """The scene at 1.6 s: depth by stereo matching of two rendered eyes, as a real recording has it."""
    scene = street_corner()
    stage, eye = Stage(scene, 1.6), Eye.of(EYE)
    axes, centre = scene.rig_pose(1.6)
    left = stage.picture(eye, axes, centre)
    right = stage.picture(eye, axes, centre + axes @ np.array([BASELINE, 0.0, 0.0]))
    camera = RectifiedCamera(EYE.width, EYE.height, EYE.fx, EYE.fy, EYE.cx, EYE.cy, BASELINE, metric=True)
    depth = disparity_to_depth(SemiGlobalMatcher.for_camera(camera).match(left.image, right.image), camera)
    gravity = axes.T @ np.array([0.0, 1.0, 0.0])
    names = {actor.id: actor.class_name for actor in scene.actors}
    return Moment(View(left.image, depth, EYE.matrix, gravity), left.instances, names)


class Film:
    """A bright square that moves to the right by two pixels a frame; counts what is read."""

    def __init__(self, frames: int, broken: int = -1) -> None:
        self._frames, self._broken = frames, broken
        self.read: list[int] = []

    def __len__(self) -> int:
        return self._frames

    def __getitem__(self, index: int) -> np.ndarray:
        self.read.append(index)
        if index == self._broken:
            raise RecordingError(f"frame {index} cannot be read.")
        image = np.full((96, 160, 3), 40, np.uint8)
        image[30:60, 20 + 2 * index % 100 : 50 + 2 * index % 100] = (30, 200, 220)
        return image


@pytest.fixture
def film():
    return Film
