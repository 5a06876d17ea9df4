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

from pipeline.geometry.box_fit import Box3D, fit_box
from pipeline.geometry.boxes3d import alpha_of, project_boxes
from pipeline.geometry.kitti import UNKNOWN_ALPHA, UNKNOWN_OCCLUSION, KittiObject, format_labels
from pipeline.geometry.plane import Plane, fit_ground_plane
from pipeline.geometry.pointcloud import back_project
from pipeline.segmentation.rle import decode
from pipeline.stages.base import StageContext
from pipeline.stages.ordered import ordered_map
from pipeline.stages.run import journal_path
from pipeline.stereo.camera import RectifiedCamera
from pipeline.storage.atomic import write_text
from pipeline.storage.journal import Commit, read_journal
from pipeline.storage.records import BoxRecord, DetectionRecord, FrameRecord
from pipeline.storage.sequence import SequenceFileError, load_depth, read_camera, read_frames

Mask = NDArray[np.bool_]
Depth = NDArray[np.float32]
Size = tuple[float, float, float]

_GROUND_STRIDE: Final = 4
_GROUND_NOISE_PX: Final = 0.5
_SURFACE_NOISE_PX: Final = 0.2
"""Of a disparity: the outliers a ground plane must bear, and the standard deviation on one surface."""
_RIM_SHARE: Final = 0.008
"""Of the mask's diagonal: the rim is where depth of the background leaks in."""
_PARTLY: Final = 0.1
_LARGELY: Final = 0.5
"""Share of the box's image hidden by nearer things from which KITTI's occlusion is 1 and 2."""
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


def _inputs(context: StageContext, cursor: int) -> Generator[tuple[FrameRecord, list[DetectionRecord]], None, None]:
    """Each frame from `cursor` on with its detections. Segmentation commits one line per frame, in the same order."""
    commits = read_journal(journal_path(context.layout, "segmentation"))
    commit = next(commits, None)
    for frame in islice(read_frames(context.layout), cursor, None):
        detections: list[DetectionRecord] = []
        while commit is not None and commit.cursor <= frame.number + 1:
            detections += [
                DetectionRecord.from_json(value) for value in commit.records if value["number"] == frame.number
            ]
            commit = next(commits, None)
        yield frame, detections


class _Worker:
    def __init__(self, stage: Reconstruction, context: StageContext, camera: RectifiedCamera) -> None:
        self._stage, self._layout, self._camera = stage, context.layout, camera
        self._sizes: dict[int, Size | None] = {item.id: item.typical_size_hwl for item in context.classes}
        self._per_pixel = 1 / (camera.fx * camera.baseline) if camera.baseline else 0.0

    def reconstruct(self, item: tuple[FrameRecord, list[DetectionRecord]]) -> Commit:
        frame, detections = item
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
        boxes, labels = [], []
        for detection in detections:
            box = self._box(detection, frame, depth, down, ground)
            boxes.append(box)
            labels.append(_label(detection, box))
        write_text(self._layout.label(frame.number), format_labels(labels))
        return Commit(
            cursor=frame.number + 1,
            records=[box.to_json() for box in boxes],
            elapsed_s=time.perf_counter() - started,
            error=error,
        )

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
        points = back_project(depth, self._camera, without_rim(mask))
        if len(points) < self._stage.min_points:
            return _without(detection, "Too few pixels of the mask have a depth.", len(points))
        up = np.array([0.0, -1.0, 0.0]) if down is None else -down
        size, noise = self._sizes.get(detection.class_id), _SURFACE_NOISE_PX * self._per_pixel
        box = fit_box(points, up, size, ground, self._stage.min_points, noise, hidden_side(mask, depth))
        if box is None:
            return _without(detection, "Too few points remain once the background is taken away.", len(points))
        if not np.isfinite(box.row).all():
            return _without(detection, "The box could not be fitted: it is not finite.", len(points))
        return self._record(detection, frame, box, mask, depth, down)

    def _record(
        self,
        detection: DetectionRecord,
        frame: FrameRecord,
        box: Box3D,
        mask: Mask,
        depth: Depth,
        down: NDArray[np.float64] | None,
    ) -> BoxRecord:
        clipped, whole = project_boxes(box.row, self._camera.matrix, (frame.width, frame.height), down)
        return BoxRecord(
            number=detection.number,
            instance=detection.instance,
            location=[round(float(value), 4) for value in box.location],
            dimensions_hwl=[round(float(value), 4) for value in box.dimensions_hwl],
            rotation_y=round(box.rotation_y, 4),
            alpha=round(alpha_of(box.rotation_y, box.location), 4),
            truncated=round(_truncation(clipped[0], whole[0]), 4),
            occluded=_occlusion(clipped[0], mask, depth),
            points_used=box.points_used,
            score=detection.confidence,
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


def without_rim(mask: Mask) -> Mask:
    """The mask without its outermost pixels, unless too little would remain."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return mask
    window = (slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1))
    inner = np.pad(mask[window].astype(np.uint8), 1)
    radius = max(1, round(_RIM_SHARE * float(np.hypot(*inner.shape))))
    inner = np.asarray(cv2.erode(inner, np.ones((2 * radius + 1,) * 2, np.uint8)), np.uint8)[1:-1, 1:-1]
    if inner.sum() < 0.4 * mask[window].sum():
        return mask
    result = np.zeros_like(mask)
    result[window] = inner > 0
    return result


def hidden_side(mask: Mask, depth: Depth) -> int:
    """Where an object goes on out of sight: -1 to the left, 1 to the right, 0 to neither or both.

    That is where the mask ends at the image border or at something nearer along a good part of its height. Beside what
    is near the matcher has no answer for some pixels, so the first known depth counts.
    """
    rows = np.flatnonzero(mask.any(axis=1))
    if not rows.size:
        return 0
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
    left, right = (share > _HIDDEN_SHARE for share in shares)
    return int(right) - int(left)


def _truncation(clipped: NDArray[np.float64], whole: NDArray[np.float64]) -> float:
    """Share of the projected box (x1, y1, x2, y2) that lies outside the image."""
    area = float(np.prod(whole[2:] - whole[:2]))
    inside = float(np.prod(np.clip(clipped[2:] - clipped[:2], 0, None)))
    return float(np.clip(1 - inside / area, 0, 1)) if np.isfinite(area) and area > 0 else 0.0


def _occlusion(clipped: NDArray[np.float64], mask: Mask, depth: Depth) -> int:
    """KITTI's 0, 1, 2 by the share of the box's image, outside the mask, where something nearer was measured."""
    x1, y1, x2, y2 = np.rint(clipped).astype(int)
    part, inside = depth[y1 : y2 + 1, x1 : x2 + 1], mask[y1 : y2 + 1, x1 : x2 + 1]
    own = part[inside & np.isfinite(part)]
    if not len(own):
        return 0
    near = float(np.quantile(own, 0.05)) - _IN_FRONT_M
    with np.errstate(invalid="ignore"):
        hidden = float((~inside & (part < near)).mean())
    return 2 if hidden >= _LARGELY else 1 if hidden >= _PARTLY else 0


def _label(detection: DetectionRecord, box: BoxRecord) -> KittiObject:
    x, y, width, height = detection.bbox_xywh
    flat = KittiObject(
        type=detection.class_name,
        truncated=box.truncated,
        occluded=box.occluded,
        alpha=UNKNOWN_ALPHA,
        bbox_xyxy=(x, y, x + width, y + height),
        score=detection.confidence,
    )
    if box.location is None or box.dimensions_hwl is None or box.rotation_y is None or box.alpha is None:
        return flat
    return KittiObject(
        flat.type,
        flat.truncated,
        flat.occluded,
        box.alpha,
        flat.bbox_xyxy,
        (box.dimensions_hwl[0], box.dimensions_hwl[1], box.dimensions_hwl[2]),
        (box.location[0], box.location[1], box.location[2]),
        box.rotation_y,
        detection.confidence,
    )
