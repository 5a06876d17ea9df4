"""Disparity error on the Middlebury pairs, against `cv2.StereoSGBM` with its defaults; the floor of a ZED recording.

    python -m benchmarks.stereo [FOLDER]

FOLDER (default: FOVEA_TEST_DATA or ../shared/data) holds stereo_middlebury and svo2_zed2i. EPE is the mean absolute
error in pixels where a disparity was given; bad-2 the share of these that are off by more than 2 px; coverage the share
of ground-truth pixels that got one.
"""

import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks._stereo_scenes import NUM_DISPARITIES, load_pair
from pipeline.geometry.plane import angle_between_deg, fit_ground_plane
from pipeline.geometry.pointcloud import back_project
from pipeline.recordings.opening import open_recording
from pipeline.stereo.inertial import Gravity
from pipeline.stereo.matching import SemiGlobalMatcher, disparity_to_depth
from pipeline.stereo.rectification import Rectifier


@dataclass(frozen=True)
class Score:
    epe: float
    bad_2: float
    coverage: float
    seconds: float


def score(found: NDArray[np.float32], truth: NDArray[np.float32], seconds: float = 0.0) -> Score:
    known = np.isfinite(truth)
    given = known & np.isfinite(found)
    error = np.abs(found[given] - truth[given])
    return Score(float(error.mean()), float((error > 2).mean()), float(given.sum() / known.sum()), seconds)


def ours(left: NDArray[np.uint8], right: NDArray[np.uint8], num_disparities: int) -> NDArray[np.float32]:
    return SemiGlobalMatcher(num_disparities=num_disparities).match(left, right)


def baseline(left: NDArray[np.uint8], right: NDArray[np.uint8], num_disparities: int) -> NDArray[np.float32]:
    fixed = cv2.StereoSGBM.create(numDisparities=num_disparities).compute(left, right)
    disparity = fixed.astype(np.float32) / 16
    disparity[fixed < 0] = np.nan
    return disparity


def score_middlebury(data: Path) -> None:
    print(f"{'pair':<10}{'method':<20}{'EPE px':>8}{'bad-2':>8}{'coverage':>10}{'ms':>8}")
    means: dict[str, list[float]] = {}
    for name, num_disparities in NUM_DISPARITIES.items():
        left, right, truth = load_pair(data / "stereo_middlebury" / name)
        for label, match in (("fovea", ours), ("StereoSGBM defaults", baseline)):
            started = time.perf_counter()
            found = match(left, right, num_disparities)
            result = score(found, truth, time.perf_counter() - started)
            means.setdefault(label, []).append(result.epe)
            print(
                f"{name:<10}{label:<20}{result.epe:>8.3f}{result.bad_2:>8.1%}{result.coverage:>10.1%}"
                f"{result.seconds * 1000:>8.0f}"
            )
    for label, errors in means.items():
        print(f"{'mean':<10}{label:<20}{np.mean(errors):>8.3f}")
    print(f"ratio of mean EPE to the baseline: {np.mean(means['fovea']) / np.mean(means['StereoSGBM defaults']):.2f}")


def score_zed(recording_path: Path) -> None:
    """Depth of a real ZED recording: the floor's normal against gravity of the inertial unit, frame by frame."""
    with open_recording(recording_path, prefer_sdk=False) as recording:
        if recording.calibration is None:
            print(f"{recording_path.name} has no calibration: not scored")
            return
        rectifier = Rectifier(recording.calibration)
        camera = rectifier.camera
        matcher, noise = SemiGlobalMatcher.for_camera(camera), 0.5 / (camera.fx * (camera.baseline or 1))
        samples = list(recording.imu())
        gravity = Gravity((item.timestamp_ns, tuple(rectifier.rotation_left @ item.acceleration)) for item in samples)
        angles, seconds, coverage, with_depth = [], [], [], 0
        for frame in recording.frames():
            if frame.right is None:
                continue
            started = time.perf_counter()
            disparity = matcher.match(*rectifier.rectify(frame.left, frame.right))
            seconds.append(time.perf_counter() - started)
            depth = disparity_to_depth(disparity, camera)
            coverage.append(float(np.isfinite(depth).mean()))
            with_depth += coverage[-1] > 0.1
            down = gravity.down(frame.timestamp_ns)
            floor = fit_ground_plane(back_project(depth, camera, stride=3), down, inverse_depth_noise=noise)
            angles.append(np.nan if floor is None or down is None else angle_between_deg(-floor.normal, down))
        print(
            f"\n{recording_path.name}: {with_depth} of {recording.metadata.frame_count} frames with depth "
            f"(coverage {np.mean(coverage):.0%}, {np.mean(seconds) * 1000:.0f} ms), {len(samples)} inertial rows; "
            f"floor against gravity: median {np.median(angles):.2f}°, largest {np.max(angles):.2f}°"
        )


def main(data: Path) -> None:
    score_middlebury(data)
    score_zed(data / "svo2_zed2i" / "test.svo2")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else os.environ.get("FOVEA_TEST_DATA") or "../shared/data"))
