"""The third stage: masks and depth become upright 3D boxes and KITTI labels."""

import time
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from typing import Any, ClassVar, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.errors import PipelineError
from pipeline.geometry.box_fit import Box3D, fit_box
from pipeline.geometry.boxes3d import alpha_of, level_rotation
from pipeline.geometry.ego_motion import camera_motion
from pipeline.geometry.kitti import UNKNOWN_OCCLUSION, format_labels
from pipeline.geometry.own_pixels import cut_sides, own_pixels
from pipeline.geometry.plane import Plane, fit_ground_plane
from pipeline.geometry.pointcloud import back_project
from pipeline.segmentation.rle import decode
from pipeline.stages.base import StageContext
from pipeline.stages.labels import how_seen, kitti_label
from pipeline.stages.ordered import ordered_map
from pipeline.stages.run import journal_path
from pipeline.stereo.camera import RectifiedCamera
from pipeline.storage.atomic import write_text
from pipeline.storage.journal import Commit, read_journal
from pipeline.storage.records import BoxRecord, DetectionRecord, FrameRecord
from pipeline.storage.sequence import (
    SequenceFileError,
    load_confidence,
    load_depth,
    load_image,
    read_camera,
    read_frames,
)

Mask = NDArray[np.bool_]
Depth = NDArray[np.float32]
Size = tuple[float, float, float]

_GROUND_STRIDE: Final = 4
_GROUND_TRUSTED: Final = 0.5
"""Least confidence of its pixels."""
_GROUND_NOISE_PX: Final = 0.5
_SURFACE_NOISE_PX: Final = 0.2
"""Of a disparity: the outliers a ground plane must bear, and the standard deviation on one surface."""
_FAILURES: Final = (cv2.error, ArithmeticError, ValueError, IndexError)
"""What the numbers of one frame may make a fit die of (a singular matrix is a ValueError): the others go on."""


@dataclass(frozen=True, slots=True)
class Reconstruction:
    """A BoxRecord for every detection and a label_2 file for every frame.

    A detection without a box (no depth, too few points, a fit that failed, camera not metric) says why in `reason`, and
    has KITTI's values for "unknown" in its label: dimensions -1, location -1000, rotation -10, alpha -10, occluded 3.
    `truncated` is the share of the projected box outside the image; without a box 0. `occluded` is 0, 1 or 2 by the
    share of the box's image where something nearer was measured.

    Boxes stand upright along gravity (from the IMU; along +Y without): on a tilted camera rotation_y counts about the
    vertical in the levelled camera, which for a level one is KITTI's definition.
    """

    min_points: int = 30

    name: ClassVar[str] = "reconstruction"
    requires: ClassVar[tuple[str, ...]] = ("segmentation",)
    weight: ClassVar[int] = 15

    def total(self, context: StageContext) -> int:
        return sum(1 for _ in read_frames(context.layout))

    def run(self, context: StageContext, cursor: int, state: dict[str, Any]) -> Iterator[Commit]:
        worker = _Worker(self, context, read_camera(context.layout))
        inputs = _inputs(context, cursor)
        ahead = max(1, context.workers) + 1
        with (
            ThreadPoolExecutor(max(1, context.workers), thread_name_prefix="reconstruction") as pool,
            closing(ordered_map(pool, worker.reconstruct, inputs, ahead)) as commits,
        ):
            yield from commits

    def finish(self, context: StageContext) -> None:
        """Nothing to sum up: the labels are the output."""


@dataclass(frozen=True, slots=True)
class _Input:
    """A frame with its detections, and the one before it, from which the camera's motion is told."""

    frame: FrameRecord
    detections: list[DetectionRecord]
    before: "tuple[FrameRecord, list[DetectionRecord]] | None"


def _inputs(context: StageContext, cursor: int) -> Generator[_Input, None, None]:
    """Each frame from `cursor` on with its detections. Segmentation commits one line per frame, in the same order."""
    commits = read_journal(journal_path(context.layout, "segmentation"))
    commit = next(commits, None)
    before = None
    for frame in islice(read_frames(context.layout), max(0, cursor - 1), None):
        detections: list[DetectionRecord] = []
        while commit is not None and commit.cursor <= frame.number + 1:
            detections += [
                DetectionRecord.from_json(value) for value in commit.records if value["number"] == frame.number
            ]
            commit = next(commits, None)
        if frame.number >= cursor:
            yield _Input(frame, detections, before)
        before = frame, detections


@dataclass(frozen=True, slots=True)
class _View:
    """What is known of a frame. down: of gravity, in camera axes."""

    frame: FrameRecord
    depth: Depth | None
    down: NDArray[np.float64] | None
    ground: Plane | None


class _Worker:
    def __init__(self, stage: Reconstruction, context: StageContext, camera: RectifiedCamera) -> None:
        self._stage, self._layout, self._camera = stage, context.layout, camera
        self._sizes: dict[int, Size | None] = {item.id: item.typical_size_hwl for item in context.classes}
        self._per_pixel = 1 / (camera.fx * camera.baseline) if camera.baseline else 0.0

    def reconstruct(self, item: _Input) -> Commit:
        frame, detections = item.frame, item.detections
        started = time.perf_counter()
        error = ""
        try:
            depth = load_depth(self._layout, frame.number) if frame.has_depth else None
            if depth is not None and depth.shape != (frame.height, frame.width):
                raise SequenceFileError(f"depth/{frame.number:06d}.npy does not have the size of the image.")
        except SequenceFileError as problem:
            depth, error = None, str(problem)
        down = None if frame.gravity is None else np.array(frame.gravity, dtype=np.float64)
        confidence = self._confidence(frame, depth)
        ground = None
        try:
            ground = self._ground(depth, confidence, down) if detections else None
        except _FAILURES as problem:
            error = f"Frame {frame.number}: the ground could not be fitted: {problem}."
        view = _View(frame, depth, down, ground)
        facts: dict[str, Any] = {}
        if ground is not None:
            facts["ground"] = [round(float(value), 6) for value in (*ground.normal, ground.offset)]
        motion = self._motion(item)
        if motion is not None:
            facts["motion"] = motion
        boxes = self._boxes(view, confidence, detections)
        labels = [kitti_label(detection, box) for detection, box in zip(detections, boxes, strict=True)]
        write_text(self._layout.label(frame.number), format_labels(labels))
        return Commit(
            cursor=frame.number + 1,
            records=[box.to_json() for box in boxes],
            elapsed_s=time.perf_counter() - started,
            error=error,
            frame=facts,
        )

    def _motion(self, item: _Input) -> list[float] | None:
        """How the camera moved since the kept frame before: rotation vector and translation, where it can be told."""
        if item.before is None or not self._camera.metric or not item.before[0].has_depth:
            return None
        earlier, seen = item.before
        try:
            depth = load_depth(self._layout, earlier.number)
            pictures = [
                np.asarray(cv2.cvtColor(load_image(self._layout, each), cv2.COLOR_BGR2GRAY), np.uint8)
                for each in (earlier, item.frame)
            ]
            if depth is None or any(each.shape != depth.shape for each in pictures):
                return None
            moving = np.zeros(depth.shape, dtype=bool)
            for each in seen:
                mask = decode(each.rle)
                if mask.shape == moving.shape:
                    moving |= mask
            motion = camera_motion(pictures[0], pictures[1], depth, self._camera, moving)
        except (PipelineError, *_FAILURES):
            return None
        if motion is None:
            return None
        turn = np.asarray(cv2.Rodrigues(motion.rotation)[0]).ravel()
        return [round(float(value), 7) for value in (*turn, *motion.translation)]

    def _confidence(self, frame: FrameRecord, depth: Depth | None) -> NDArray[np.float32] | None:
        try:
            confidence = None if depth is None else load_confidence(self._layout, frame.number)
        except SequenceFileError:
            return None
        return confidence if depth is not None and confidence is not None and confidence.shape == depth.shape else None

    def _ground(
        self, depth: Depth | None, confidence: NDArray[np.float32] | None, down: NDArray[np.float64] | None
    ) -> Plane | None:
        if depth is None or not self._camera.metric:
            return None
        trusted = None if confidence is None else confidence >= _GROUND_TRUSTED
        points = back_project(depth, self._camera, trusted, stride=_GROUND_STRIDE)
        return fit_ground_plane(points, down, inverse_depth_noise=_GROUND_NOISE_PX * self._per_pixel)

    def _boxes(
        self, view: _View, confidence: NDArray[np.float32] | None, detections: list[DetectionRecord]
    ) -> list[BoxRecord]:
        if not self._camera.metric:
            return [_without(each, "The camera is not calibrated: there are no metres.") for each in detections]
        if view.depth is None:
            return [_without(each, "The frame has no depth.") for each in detections]
        shape = view.depth.shape
        masks = [mask if (mask := decode(each.rle)).shape == shape else None for each in detections]
        fitting = [mask for mask in masks if mask is not None]
        own = iter(own_pixels(fitting, view.depth, confidence))
        return [
            _without(each, "The mask does not have the size of the image.")
            if mask is None
            else self._box(each, view, view.depth, mask, *next(own))
            for each, mask in zip(detections, masks, strict=True)
        ]

    def _box(
        self, detection: DetectionRecord, view: _View, depth: Depth, mask: Mask, own: Mask, radius: int
    ) -> BoxRecord:
        try:
            return self._fitted(detection, view, depth, mask, own, radius)
        except _FAILURES as problem:
            return _without(detection, f"The box could not be fitted: {problem}.")

    def _fitted(
        self, detection: DetectionRecord, view: _View, depth: Depth, mask: Mask, own: Mask, radius: int
    ) -> BoxRecord:
        points = back_project(depth, self._camera, own)
        if len(points) < self._stage.min_points:
            return _without(detection, "Too few pixels of the mask have a depth.", len(points))
        # The ground is steadier than the IMU's gravity, into which every step of whoever carries the camera goes.
        ground, down = view.ground, view.down
        up = ground.normal if ground is not None else np.array([0.0, -1.0, 0.0]) if down is None else -down
        size, noise = self._sizes.get(detection.class_id), _SURFACE_NOISE_PX * self._per_pixel
        cut, rim = cut_sides(mask, depth), radius / self._camera.fx
        box = fit_box(points, up, size, ground, self._stage.min_points, noise, cut, rim, 1 / self._camera.fx)
        if box is None:
            return _without(detection, "Too few points remain once the background is taken away.", len(points))
        if not np.isfinite(box.row).all():
            return _without(detection, "The box could not be fitted: it is not finite.", len(points))
        return self._record(detection, view.frame, box, up, mask, depth)

    def _record(
        self,
        detection: DetectionRecord,
        frame: FrameRecord,
        box: Box3D,
        up: NDArray[np.float64],
        mask: Mask,
        depth: Depth,
    ) -> BoxRecord:
        truncated, occluded = how_seen(box.row, self._camera.matrix, frame, mask, depth)
        return BoxRecord(
            number=detection.number,
            instance=detection.instance,
            location=[round(float(value), 4) for value in box.location],
            dimensions_hwl=[round(float(value), 4) for value in box.dimensions_hwl],
            rotation_y=round(box.rotation_y, 4),
            alpha=round(alpha_of(box.rotation_y, box.location), 4),
            truncated=truncated,
            occluded=occluded,
            points_used=box.points_used,
            score=detection.confidence,
            sigma=_sigma(box, up),
            outline=None if box.outline is None else box.outline.to_json(),
        )


def _sigma(box: Box3D, up: NDArray[np.float64]) -> list[float] | None:
    """(7,) with x, y, z in camera axes; up: what the box was fitted along."""
    if box.sigma is None:
        return None
    in_camera = np.sqrt(np.square(level_rotation(-up).T) @ np.square(box.sigma[:3]))
    return [round(float(value), 4) for value in (*in_camera, *box.sigma[3:])]


def _without(detection: DetectionRecord, reason: str, points: int = 0) -> BoxRecord:
    return BoxRecord(
        detection.number,
        detection.instance,
        occluded=UNKNOWN_OCCLUSION,
        points_used=points,
        score=detection.confidence,
        reason=reason,
    )
