"""Film the scene with a simulated ZED: raw frames through real-looking lenses, inertial rows, calibration, truth.

Files: `demo.svo2` (H.264 in MCAP), `SN<serial>.conf`, and `ground_truth.json`:
{"format": "fovea-ground-truth", "version": 1, "seed", "fps", "camera": {width, height, fx, fy, cx, cy, baseline},
 "classes": [{"id", "name", "typical_size_hwl"}],
 "frames": [{"index", "timestamp_ns", "gravity": [x, y, z],
             "objects": [{"object_id", "class_id", "class_name", "box": [x, y, z, h, w, l, rotation_y],
                          "visible_pixels", "bbox_xywh"}]}]}
Everything is in the rectified left camera: `box` is a row of `pipeline.geometry.boxes3d` (upright along `gravity`),
`bbox_xywh` surrounds the visible pixels (null where there are none).
"""

import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from pipeline.geometry.boxes3d import level_rotation
from pipeline.recordings.base import ImuSample
from pipeline.recordings.svo2_writer import Svo2Writer
from pipeline.simulation.render import Eye, Stage
from pipeline.simulation.scene import CLASSES, Scene, street_corner
from pipeline.stereo.calibration import CameraIntrinsics, StereoCalibration
from pipeline.stereo.calibration_files import write_zed_conf
from pipeline.stereo.rectification import Rectifier
from pipeline.storage.atomic import write_json

SERIAL: Final = 20_260_007
FPS: Final = 15
IMU_RATE: Final = 400
START_NS: Final = 1_767_261_600_000_000_000
GRAVITY: Final = 9.81
SIZES: Final = {"VGA": (672, 376), "HD": (1280, 720)}
IMAGE_NOISE: Final = 1.6
"""Standard deviation of the sensor's noise, grey levels."""

Matrix = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class DemoRecording:
    """The three files of a written recording."""

    recording: Path
    calibration: Path
    ground_truth: Path


@lru_cache(maxsize=4)
def calibration(resolution: str = "VGA") -> StereoCalibration:
    """The rig as its factory would have measured it: lenses with distortion, the right eye slightly turned."""
    width, height = SIZES[resolution]
    s = height / 376
    left = CameraIntrinsics(
        width, height, 350.4 * s, 350.1 * s, 338.2 * s, 185.6 * s, (-0.172, 0.026, 0.0004, -0.0003, 0.0)
    )
    right = CameraIntrinsics(
        width, height, 350.9 * s, 350.7 * s, 333.5 * s, 190.3 * s, (-0.170, 0.025, -0.0002, 0.0005, 0.0)
    )
    if resolution == "HD":  # the sensor's crop is a little wider there
        left, right = (
            CameraIntrinsics(width, height, e.fx, e.fy, e.cx - 3.4, e.cy, e.distortion) for e in (left, right)
        )
    turn = Rotation.from_rotvec([0.0031, -0.0048, 0.0017]).as_matrix()
    return StereoCalibration(
        left,
        right,
        tuple(float(value) for value in turn.ravel()),
        (-0.11985, 0.00021, -0.00034),
        source="simulated factory calibration",
        serial=str(SERIAL),
    )


class _Camera:
    """The rig with everything that does not change from frame to frame."""

    def __init__(self, seed: int, resolution: str) -> None:
        self.scene: Scene = street_corner(seed)
        self.rig = calibration(resolution)
        self.eyes = Eye.of(self.rig.left), Eye.of(self.rig.right)
        self.rectifier = Rectifier(self.rig)
        self.maps = cv2.initUndistortRectifyMap(
            self.rig.left.matrix,
            np.array(self.rig.left.distortion),
            self.rectifier.rotation_left,
            self.rectifier.camera.matrix,
            (self.rig.left.width, self.rig.left.height),
            cv2.CV_32FC1,
        )

    def film(self, index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8], dict[str, Any]]:
        """Raw left and right image and the frame's entry of the ground truth."""
        time = index / FPS
        axes, centre = self.scene.rig_pose(time)
        # X_right = R X_left + T, so the right eye's axes in the world are A R^T, its centre -A R^T T further.
        turn = axes @ self.rig.rotation_matrix.T
        right_centre = centre - turn @ np.array(self.rig.translation)
        stage = Stage(self.scene, time)
        left = stage.picture(self.eyes[0], axes, centre)
        right = stage.picture(self.eyes[1], turn, right_centre)
        images = [self._sensor(picture.image, index, eye) for eye, picture in enumerate((left, right))]
        instances = cv2.remap(left.instances, *self.maps, interpolation=cv2.INTER_NEAREST)
        return images[0], images[1], self._truth(index, time, instances)

    def _sensor(self, image: NDArray[np.uint8], index: int, eye: int) -> NDArray[np.uint8]:
        rng = np.random.default_rng([self.scene.seed, index, eye])
        noise = rng.standard_normal(image.shape, dtype=np.float32) * np.float32(IMAGE_NOISE)
        return np.clip(image + noise + 0.5, 0, 255).astype(np.uint8)

    def _truth(self, index: int, time: float, instances: NDArray[Any]) -> dict[str, Any]:
        axes, centre = self.scene.rig_pose(time)
        to_camera = self.rectifier.rotation_left @ axes.T
        down = to_camera @ np.array([0.0, 1.0, 0.0])
        objects = []
        for actor in self.scene.actors:
            x, z, heading = actor.path.at(time)
            location = to_camera @ (np.array([x, 0.0, z]) - centre)
            ahead = level_rotation(down) @ to_camera @ np.array([np.cos(heading), 0.0, -np.sin(heading)])
            rows, columns = np.nonzero(instances == actor.id)
            bounds = None
            if rows.size:
                u, v = int(columns.min()), int(rows.min())
                bounds = [u, v, int(columns.max()) - u + 1, int(rows.max()) - v + 1]
            objects.append(
                {
                    "object_id": actor.id,
                    "class_id": next(each.id for each in CLASSES if each.name == actor.class_name),
                    "class_name": actor.class_name,
                    "box": [round(float(v), 5) for v in (*location, *actor.size_hwl, np.arctan2(-ahead[2], ahead[0]))],
                    "visible_pixels": int(rows.size),
                    "bbox_xywh": bounds,
                }
            )
        return {
            "index": index,
            "timestamp_ns": _timestamp(time),
            "gravity": [round(float(v), 7) for v in down],
            "objects": objects,
        }


def write_demo_recording(
    folder: Path,
    *,
    frames: int = 60,
    seed: int = 7,
    resolution: str = "VGA",
    workers: int | None = None,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> DemoRecording:
    """Write the recording, its calibration and its ground truth into `folder`; the same `seed` gives the same scene.

    resolution: "VGA" (672x376 per eye) or "HD" (1280x720). workers: processes that render (default: one per core).
    progress: told (frames done, frames in all). Raises ValueError for frames below 1 and unknown resolutions.
    """
    if frames < 1:
        raise ValueError(f"frames: {frames} is not a positive number.")
    if resolution not in SIZES:
        raise ValueError(f"resolution: {resolution!r} is not one of {', '.join(SIZES)}.")
    folder.mkdir(parents=True, exist_ok=True)
    paths = DemoRecording(folder / "demo.svo2", folder / f"SN{SERIAL}.conf", folder / "ground_truth.json")
    width, height = SIZES[resolution]
    write_zed_conf(calibration(resolution), paths.calibration)
    truth = []
    inertial = _inertial(street_corner(seed), frames / FPS)
    pending = next(inertial, None)
    with Svo2Writer(paths.recording, width=width, height=height, fps=FPS, serial=SERIAL) as writer:
        for done, (left, right, entry) in enumerate(_film(frames, seed, resolution, workers), start=1):
            while pending is not None and pending.timestamp_ns <= entry["timestamp_ns"]:
                writer.add_imu(pending)
                pending = next(inertial, None)
            writer.add_frame(entry["timestamp_ns"], left, right)
            truth.append(entry)
            progress(done, frames)
    camera = {
        key: value
        for key, value in asdict(Rectifier(calibration(resolution)).camera).items()
        if key not in ("metric", "source")
    }
    write_json(
        paths.ground_truth,
        {
            "format": "fovea-ground-truth",
            "version": 1,
            "seed": seed,
            "fps": FPS,
            "camera": camera,
            "classes": [
                {"id": c.id, "name": c.name, "typical_size_hwl": list(c.typical_size_hwl or ())} for c in CLASSES
            ],
            "frames": truth,
        },
    )
    return paths


_camera: _Camera | None = None


def _start(seed: int, resolution: str) -> None:
    """Once per rendering process."""
    global _camera
    cv2.setNumThreads(1)
    _camera = _Camera(seed, resolution)


def _film_one(index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8], dict[str, Any]]:
    assert _camera is not None  # noqa: S101 - the pool's initializer ran
    return _camera.film(index)


def _film(
    frames: int, seed: int, resolution: str, workers: int | None
) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.uint8], dict[str, Any]]]:
    workers = min(workers or len(os.sched_getaffinity(0)), frames)
    # A daemonic process (a queue's worker) may not have children; few frames are not worth starting any.
    if workers == 1 or frames < 8 or multiprocessing.current_process().daemon:
        camera = _Camera(seed, resolution)
        yield from map(camera.film, range(frames))
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, _start, (seed, resolution)) as pool:
        yield from pool.map(_film_one, range(frames), chunksize=2)


def _timestamp(time: float) -> int:
    return START_NS + round(time * 1e9)


def _inertial(scene: Scene, duration: float) -> Iterator[ImuSample]:
    """What an inertial unit in the left camera feels, by differences of the rig's pose over 2 ms; with noise."""
    rng = np.random.default_rng([scene.seed, 99])
    step = 2e-3
    for i in range(int(duration * IMU_RATE)):
        time = i / IMU_RATE
        (before, p0), (now, p1), (after, p2) = (scene.rig_pose(time + shift) for shift in (-step, 0.0, step))
        motion = (p2 - 2 * p1 + p0) / step**2
        felt = now.T @ (motion - np.array([0.0, GRAVITY, 0.0])) + rng.normal(0, 0.03, 3)
        spin = Rotation.from_matrix(before.T @ after).as_rotvec() / (2 * step) + rng.normal(0, 0.0015, 3)
        quaternion = Rotation.from_matrix(now).as_quat()
        yield ImuSample(
            _timestamp(time), _triple(felt), _triple(spin), (*_triple(quaternion[:3]), float(quaternion[3]))
        )


def _triple(values: Matrix) -> tuple[float, float, float]:
    return float(values[0]), float(values[1]), float(values[2])
