"""Real stereo recordings without true depth: do left and right agree, does a moment agree with the next?"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.recordings.opening import open_recording
from pipeline.stereo.agreement import left_right_difference
from pipeline.stereo.camera import RectifiedCamera
from pipeline.stereo.matching import _grey
from pipeline.stereo.rectification import Rectifier

Match = Callable[[NDArray[np.uint8], NDArray[np.uint8]], NDArray[np.float32]]
STRIDE = 4
ROUND_TRIP_PX = 0.3
"""Flow forth and back must come home this close: elsewhere it says nothing about depth."""
MIN_TRACKS = 200


@dataclass(frozen=True)
class Steadiness:
    """agree: share of the left matches (that point into the right image) whose right match is within 1 px.
    median_px, within_1px: difference of the disparity a point has and the one it should have after the camera's motion,
    over all tracks. tracks: how many."""

    agree: float
    coverage: float
    median_px: float
    within_1px: float
    tracks: int


def load_rectified(path: Path) -> tuple[RectifiedCamera, list[tuple[NDArray[np.uint8], NDArray[np.uint8]]]]:
    with open_recording(path, prefer_sdk=False) as recording:
        rectifier = Rectifier(recording.calibration)
        return rectifier.camera, [rectifier.rectify(frame.left, frame.right) for frame in recording.frames()]


def steadiness(
    match: Match, camera: RectifiedCamera, pairs: list[tuple[NDArray[np.uint8], NDArray[np.uint8]]]
) -> Steadiness:
    found = [match(left, right) for left, right in pairs]
    agreed, pointed = 0, 0
    for (left, right), disparity in zip(pairs, found, strict=True):
        mirrored = match(np.ascontiguousarray(right[:, ::-1]), np.ascontiguousarray(left[:, ::-1]))[:, ::-1]
        there = np.arange(disparity.shape[1]) - disparity >= 0
        agreed += int((left_right_difference(disparity, mirrored) <= 1)[there].sum())
        pointed += int(there.sum())
    errors = np.concatenate(
        [
            _after_motion(camera, _grey(one[0]), _grey(other[0]), before, after)
            for (one, other), (before, after) in zip(pairwise(pairs), pairwise(found), strict=True)
        ]
    )
    coverage = float(np.mean([np.isfinite(disparity).mean() for disparity in found]))
    return Steadiness(agreed / pointed, coverage, float(np.median(errors)), float((errors < 1).mean()), len(errors))


def _after_motion(
    camera: RectifiedCamera,
    before: NDArray[np.uint8],
    after: NDArray[np.uint8],
    disparity_before: NDArray[np.float32],
    disparity_after: NDArray[np.float32],
) -> NDArray[np.float64]:
    """|disparity seen - disparity expected| of the points that flow follows, pixels.

    The camera's motion comes from the same points (PnP with RANSAC on depth before and pixels after); what moves by
    itself stays outside it and counts, alike for every matcher.
    """
    flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    forth, back = flow.calc(before, after, None), flow.calc(after, before, None)
    height, width = before.shape
    rows, columns = np.mgrid[0:height:STRIDE, 0:width:STRIDE].reshape(2, -1)
    target = np.stack([columns, rows], axis=1) + forth[rows, columns]
    u, v = np.rint(target).astype(int).T
    inside = (u >= 0) & (u < width) & (v >= 0) & (v < height)
    rows, columns, target, u, v = (values[inside] for values in (rows, columns, target, u, v))
    home = np.linalg.norm(forth[rows, columns] + back[v, u], axis=1) < ROUND_TRIP_PX
    known = home & (disparity_before[rows, columns] > 1) & (disparity_after[v, u] > 1)
    rows, columns, target, u, v = (values[known] for values in (rows, columns, target, u, v))
    if len(rows) < MIN_TRACKS:
        return np.empty(0)
    focal_baseline = camera.fx * (camera.baseline or 1)
    z = focal_baseline / disparity_before[rows, columns]
    points = np.stack([(columns - camera.cx) / camera.fx * z, (rows - camera.cy) / camera.fy * z, z], axis=1)
    moved, turn, shift, _ = cv2.solvePnPRansac(
        points.astype(np.float64), target.astype(np.float64), camera.matrix, None, reprojectionError=1.0
    )
    if not moved:
        return np.empty(0)
    z_after = (points @ cv2.Rodrigues(turn)[0].T + shift.ravel())[:, 2]
    return np.abs(disparity_after[v, u] - focal_baseline / np.maximum(z_after, 0.1))
