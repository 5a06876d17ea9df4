"""How right depth is: true disparities, the floor of a ZED recording, agreement left to right and over time.

    python -m benchmarks.stereo [FOLDER]

FOLDER (default: FOVEA_TEST_DATA or ../shared/data) holds stereo_middlebury, stereo_aloe, svo2_zed2i, euroc_micro and
kitti_vo00. Baselines: `cv2.StereoSGBM` with its defaults, and with the parameters of OpenCV's own stereo sample.

EPE: mean absolute error in pixels where a disparity was given; bad-2: the share of these that are off by more than
2 px; coverage: the share of ground-truth pixels that got one; "at its": our EPE when only our most certain disparities
count, as many as the sample gives. ECE: calibration error of the confidence, see `benchmarks.stereo_confidence`.
left=right: share of matches that the right image's own matches confirm. over time, < 1 px: difference of the disparity
that a point has and the one that the camera's motion from the frame before lets expect, see `_stereo_motion`.
"""

import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks._stereo_motion import Match, load_rectified, steadiness
from benchmarks._stereo_scenes import Scene, aloe, middlebury, simulated
from benchmarks.stereo_confidence import calibration_error
from pipeline.geometry.plane import angle_between_deg, fit_ground_plane
from pipeline.geometry.pointcloud import back_project
from pipeline.recordings.opening import open_recording
from pipeline.stereo.base import StereoMatch
from pipeline.stereo.inertial import Gravity
from pipeline.stereo.matching import SemiGlobalMatcher, disparity_to_depth
from pipeline.stereo.rectification import Rectifier

TARGET_EPE_PX = 0.7
TARGET_BAD_2 = 0.06
TARGET_COVERAGE = 0.8
TARGET_ECE = 0.03
TARGET_FLOOR_DEG = 1.0
TARGET_WITHIN_1PX = 0.85
RECORDINGS = ("euroc_micro", "kitti_vo00")

Image = NDArray[np.uint8]
Disparity = NDArray[np.float32]


@dataclass(frozen=True)
class Score:
    epe: float
    bad_2: float
    coverage: float


def score(found: Disparity, truth: Disparity) -> Score:
    known = np.isfinite(truth)
    given = known & np.isfinite(found)
    error = np.abs(found[given] - truth[given])
    return Score(float(error.mean()), float((error > 2).mean()), float(given.sum() / known.sum()))


def at_coverage(match: StereoMatch, truth: Disparity, coverage: float) -> float:
    """EPE of the most certain disparities that cover so much of the truth."""
    known = np.isfinite(truth)
    given = known & np.isfinite(match.disparity)
    order = np.argsort(-match.confidence[given], kind="stable")[: int(coverage * known.sum())]
    return float(np.abs(match.disparity - truth)[given][order].mean())


def defaults(left: Image, right: Image, num_disparities: int) -> Disparity:
    return _in_pixels(cv2.StereoSGBM.create(numDisparities=num_disparities).compute(left, right))


def sample(left: Image, right: Image, num_disparities: int) -> Disparity:
    """With the parameters of OpenCV's samples/cpp/stereo_match.cpp."""
    area = 9 * (left.shape[2] if left.ndim == 3 else 1)
    matcher = cv2.StereoSGBM.create(
        minDisparity=0,
        numDisparities=num_disparities,
        blockSize=3,
        P1=8 * area,
        P2=32 * area,
        disp12MaxDiff=1,
        preFilterCap=63,
        uniquenessRatio=10,
        speckleWindowSize=100,
        speckleRange=32,
    )
    return _in_pixels(matcher.compute(left, right))


def _in_pixels(fixed: NDArray[np.int16]) -> Disparity:
    disparity = fixed.astype(np.float32) / 16
    disparity[fixed < 0] = np.nan
    return disparity


def score_truth(scenes: list[Scene]) -> dict[str, float]:
    """Print a line per scene and method; the means of ours over Middlebury's pairs, and of ECE over all."""
    print(f"{'pair':<16}{'method':<10}{'EPE px':>8}{'bad-2':>8}{'coverage':>10}{'at its':>8}{'ECE':>7}{'ms':>7}")
    rows: dict[str, list[Score]] = {}
    errors, middlebury_pairs = [], 0
    for scene in scenes:
        middlebury_pairs += scene.group not in ("aloe", "street")
        limit = scene.matcher.num_disparities
        theirs: dict[str, Callable[[Image, Image, int], Disparity]] = {"defaults": defaults, "sample": sample}
        found = {}
        for name, method in theirs.items():
            started = time.perf_counter()
            disparity = method(scene.left, scene.right, limit)
            found[name] = (score(disparity, scene.truth), time.perf_counter() - started)
        started = time.perf_counter()
        match = scene.matcher.measure(scene.left, scene.right)
        found["fovea"] = (score(match.disparity, scene.truth), time.perf_counter() - started)
        known = np.isfinite(match.disparity) & np.isfinite(scene.truth)
        correct = (np.abs(match.disparity - scene.truth)[known] < 1).astype(np.float64)
        errors.append(calibration_error(match.confidence[known], correct))
        alike = f"{at_coverage(match, scene.truth, found['sample'][0].coverage):>8.3f}{errors[-1]:>7.3f}"
        for name, (result, seconds) in found.items():
            rows.setdefault(name, []).append(result)
            print(
                f"{scene.name:<16}{name:<10}{result.epe:>8.3f}{result.bad_2:>8.1%}{result.coverage:>10.1%}"
                f"{alike if name == 'fovea' else '':>15}{seconds * 1000:>7.0f}"
            )
    means = {name: float(np.mean([row.epe for row in results[:middlebury_pairs]])) for name, results in rows.items()}
    ours = rows["fovea"][:middlebury_pairs]
    listed = ", ".join(f"{name} {value:.3f}" for name, value in means.items())
    print(
        f"Middlebury, mean EPE: {listed} (target: at most {TARGET_EPE_PX}); ratio to the sample "
        f"{means['fovea'] / means['sample']:.2f}; mean ECE {np.mean(errors):.3f} (target: at most {TARGET_ECE})"
    )
    return {
        "epe": means["fovea"],
        "bad_2": max(row.bad_2 for row in ours),
        "coverage": min(row.coverage for row in ours),
        "ece": float(np.mean(errors)),
    }


def score_zed(recording_path: Path) -> float:
    """Depth of a real ZED recording: the floor's normal against gravity of the inertial unit; its median in degrees."""
    with open_recording(recording_path, prefer_sdk=False) as recording:
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
            f"(coverage {np.mean(coverage):.0%}, {np.median(seconds) * 1000:.0f} ms), {len(samples)} inertial rows; "
            f"floor against gravity: median {np.median(angles):.2f}°, largest {np.max(angles):.2f}° "
            f"(target: median at most {TARGET_FLOOR_DEG}°)"
        )
        return float(np.median(angles))


def score_motion(data: Path) -> list[tuple[float, float]]:
    """Print how steady depth is on recordings without truth; (ours, the sample's) share within 1 px, for each."""
    print(
        f"\n{'recording':<16}{'method':<10}{'coverage':>9}{'left=right':>12}{'over time':>11}{'< 1 px':>8}{'tracks':>9}"
    )
    shares = []
    for name in RECORDINGS:
        camera, pairs = load_rectified(data / name)
        matcher = SemiGlobalMatcher.for_camera(camera)
        limit = matcher.num_disparities
        methods: dict[str, Match] = {
            "sample": lambda left, right, limit=limit: sample(left, right, limit),
            "fovea": matcher.match,
        }
        within = []
        for label, match in methods.items():
            found = steadiness(match, camera, pairs)
            within.append(found.within_1px)
            print(
                f"{name:<16}{label:<10}{found.coverage:>9.1%}{found.agree:>12.1%}{found.median_px:>8.2f} px"
                f"{found.within_1px:>8.1%}{found.tracks:>9}"
            )
        shares.append((within[1], within[0]))
    return shares


def main(data: Path) -> int:
    truth = score_truth([*middlebury(data), *aloe(data), *simulated()])
    floor = score_zed(data / "svo2_zed2i" / "test.svo2")
    steady = score_motion(data)
    missed = [
        text
        for text, met in (
            (f"mean EPE at most {TARGET_EPE_PX} px", truth["epe"] <= TARGET_EPE_PX),
            (f"bad-2 at most {TARGET_BAD_2:.0%} on every pair", truth["bad_2"] <= TARGET_BAD_2),
            (f"coverage at least {TARGET_COVERAGE:.0%}", truth["coverage"] >= TARGET_COVERAGE),
            (f"ECE at most {TARGET_ECE}", truth["ece"] <= TARGET_ECE),
            (f"floor within {TARGET_FLOOR_DEG}°", floor <= TARGET_FLOOR_DEG),
            (f"{TARGET_WITHIN_1PX:.0%} steady over time", min(ours for ours, _ in steady) >= TARGET_WITHIN_1PX),
            ("at least as steady as the sample", all(ours >= theirs for ours, theirs in steady)),
        )
        if not met
    ]
    print("\n" + (f"missed: {'; '.join(missed)}" if missed else "all targets met"))
    return int(bool(missed))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1] if len(sys.argv) > 1 else os.environ.get("FOVEA_TEST_DATA") or "../shared/data")))
