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
from pipeline.geometry.boxes3d import alpha_of
from pipeline.geometry.ego_motion import camera_motion
from pipeline.geometry.kitti import UNKNOWN_OCCLUSION, format_labels
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
from pipeline.storage.sequence import SequenceFileError, load_depth, load_image, read_camera, read_frames

Mask = NDArray[np.bool_]
Depth = NDArray[np.float32]
Size = tuple[float, float, float]

_GROUND_STRIDE: Final = 4
_GROUND_NOISE_PX: Final = 0.5
_SURFACE_NOISE_PX: Final = 0.2
"""Of a disparity: the outliers a ground plane must bear, and the standard deviation on one surface."""
_RIM_SHARE: Final = 0.008
"""Of the mask's diagonal: the rim is where depth of the background leaks in."""
_IN_FRONT_M: Final = 0.3
_BESIDE_PX: Final = (4, 8, 14, 20)
_HIDDEN_SHARE: Final = 0.3
"""How far beside a mask something nearer is looked for, and along which share of its height it must be found."""
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
        ground = None
        try:
            ground = self._ground(depth, down) if detections else None
        except _FAILURES as problem:
            error = f"Frame {frame.number}: the ground could not be fitted: {problem}."
        facts: dict[str, Any] = {}
        if ground is not None:
            facts["ground"] = [round(float(value), 6) for value in (*ground.normal, ground.offset)]
        motion = self._motion(item)
        if motion is not None:
            facts["motion"] = motion
        boxes, labels = [], []
        for detection in detections:
            box = self._box(detection, frame, depth, down, ground)
            boxes.append(box)
            labels.append(kitti_label(detection, box))
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

    def _ground(self, depth: Depth | None, down: NDArray[np.float64] | None) -> Plane | None:
        if depth is None or not self._camera.metric:
            return None
        points = back_project(depth, self._camera, stride=_GROUND_STRIDE)
        return fit_ground_plane(points, down, inverse_depth_noise=_GROUND_NOISE_PX * self._per_pixel)

    def _box(
        self,
        detection: DetectionRecord,
        frame: FrameRecord,
        depth: Depth | None,
        down: NDArray[np.float64] | None,
        ground: Plane | None,
    ) -> BoxRecord:
        if not self._camera.metric:
            return _without(detection, "The camera is not calibrated: there are no metres.")
        if depth is None:
            return _without(detection, "The frame has no depth.")
        try:
            return self._fitted(detection, frame, depth, down, ground)
        except _FAILURES as problem:
            return _without(detection, f"The box could not be fitted: {problem}.")

    def _fitted(
        self,
        detection: DetectionRecord,
        frame: FrameRecord,
        depth: Depth,
        down: NDArray[np.float64] | None,
        ground: Plane | None,
    ) -> BoxRecord:
        mask = decode(detection.rle)
        if mask.shape != depth.shape:
            return _without(detection, "The mask does not have the size of the image.")
        inner, radius = without_rim(mask)
        points = back_project(depth, self._camera, inner)
        if len(points) < self._stage.min_points:
            return _without(detection, "Too few pixels of the mask have a depth.", len(points))
        # The ground is steadier than the IMU's gravity, into which every step of whoever carries the camera goes.
        up = ground.normal if ground is not None else np.array([0.0, -1.0, 0.0]) if down is None else -down
        size, noise = self._sizes.get(detection.class_id), _SURFACE_NOISE_PX * self._per_pixel
        cut, rim = cut_sides(mask, depth), radius / self._camera.fx
        box = fit_box(points, up, size, ground, self._stage.min_points, noise, cut, rim)
        if box is None:
            return _without(detection, "Too few points remain once the background is taken away.", len(points))
        if not np.isfinite(box.row).all():
            return _without(detection, "The box could not be fitted: it is not finite.", len(points))
        return self._record(detection, frame, box, mask, depth)

    def _record(
        self,
        detection: DetectionRecord,
        frame: FrameRecord,
        box: Box3D,
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
            outline=None if box.outline is None else box.outline.to_json(),
        )


def _without(detection: DetectionRecord, reason: str, points: int = 0) -> BoxRecord:
    return BoxRecord(
        detection.number,
        detection.instance,
        occluded=UNKNOWN_OCCLUSION,
        points_used=points,
        score=detection.confidence,
        reason=reason,
    )


def without_rim(mask: Mask) -> tuple[Mask, int]:
    """The mask without its outermost pixels, and how many of them; as it is, and 0, if too little would remain."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return mask, 0
    window = (slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1))
    inner = np.pad(mask[window].astype(np.uint8), 1)
    radius = max(1, round(_RIM_SHARE * float(np.hypot(*inner.shape))))
    inner = np.asarray(cv2.erode(inner, np.ones((2 * radius + 1,) * 2, np.uint8)), np.uint8)[1:-1, 1:-1]
    if inner.sum() < 0.4 * mask[window].sum():
        return mask, 0
    result = np.zeros_like(mask)
    result[window] = inner > 0
    return result, radius


def cut_sides(mask: Mask, depth: Depth) -> tuple[bool, bool]:
    """Whether an object may go on out of sight to the left, and to the right.

    That is where the mask ends at the image border or at something nearer along a good part of its height. Beside what
    is near the matcher has no answer for some pixels, so the first known depth counts.
    """
    rows = np.flatnonzero(mask.any(axis=1))
    if not rows.size:
        return False, False
    first, last = mask.argmax(axis=1)[rows], mask.shape[1] - 1 - mask[:, ::-1].argmax(axis=1)[rows]
    own = float(np.nanmedian(depth[mask])) if np.isfinite(depth[mask]).any() else np.inf
    shares = []
    for ends, step, border in ((first, -1, 0), (last, 1, mask.shape[1] - 1)):
        beside = np.full(rows.size, np.nan)
        for pixels in _BESIDE_PX:
            columns = np.clip(ends + step * pixels, 0, mask.shape[1] - 1)
            beside = np.where(np.isnan(beside), depth[rows, columns], beside)
        cut = (np.abs(ends - border) <= 2) | (beside < own - _IN_FRONT_M - 0.006 * own**2)
        shares.append(float(np.mean(cut)))
    return shares[0] > _HIDDEN_SHARE, shares[1] > _HIDDEN_SHARE
