"""The first stage: a recording becomes numbered images, depth maps and point clouds."""

import json
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Final, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.diversity.filter import DiversityFilter, Fingerprint
from pipeline.errors import CalibrationError, PipelineError, RecordingError
from pipeline.geometry.kitti import KittiCalibration, velodyne_bytes
from pipeline.geometry.pointcloud import velodyne_points
from pipeline.recordings.base import Recording, StereoFrame
from pipeline.recordings.opening import open_recording
from pipeline.stages.base import StageContext
from pipeline.stages.ordered import ordered_map, read_ahead
from pipeline.stages.run import journal_path
from pipeline.stereo.base import StereoMatcher
from pipeline.stereo.calibration import StereoCalibration
from pipeline.stereo.camera import RectifiedCamera
from pipeline.stereo.inertial import Gravity, read_accelerations, write_imu
from pipeline.stereo.matching import disparity_to_depth
from pipeline.stereo.methods import matcher_for, provenance
from pipeline.stereo.rectification import Rectifier
from pipeline.storage.atomic import atomic_open, write_bytes, write_json, write_npy, write_text
from pipeline.storage.journal import Commit, read_journal
from pipeline.storage.records import FrameRecord
from pipeline.storage.sequence import REGISTRY_VERSION

Image = NDArray[np.uint8]

_PAETH: Final = (cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_PAETH) if hasattr(cv2, "IMWRITE_PNG_FILTER") else ()
_PNG_PARAMETERS: Final = (
    *(cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE),
    *_PAETH,
)
"""A third faster than trying every filter with level 1, and a tenth smaller; lossless all the same."""
_JPEG_PARAMETERS: Final = (cv2.IMWRITE_JPEG_QUALITY, 95)
_GUESSED_FOCAL: Final = 0.8
"""Focal length over width where nothing is known of the lens: a horizontal field of view of 64°."""


@dataclass(frozen=True, slots=True)
class Extraction:
    """Rectified images, depth (float32 metres, NaN holes) with its confidence, KITTI clouds and calibration, inertial
    rows, registry.

    frame_skip: take every n-th frame. image_format: "png" or "jpeg". The diversity filter drops frames that are too
    similar to the last kept one; kept frames are numbered from 0 without gaps. Without calibration only the images are
    written, as recorded, and the camera is marked as not metric. depth_method: "auto" takes the depth that the reader
    supplies as it is, else matches like "sgbm"; "sgbm" and "neural" always match (see `pipeline.stereo.methods`).

    A thread decodes, `workers` threads rectify, match, encode and write, a few frames ahead; commits come in order.
    """

    frame_skip: int = 1
    enable_diversity_filter: bool = False
    similarity_threshold: float = 4
    motion_threshold: float = 0.01
    image_format: Literal["png", "jpeg"] = "png"
    write_point_clouds: bool = True
    depth_method: str = "auto"

    name: ClassVar[str] = "extraction"
    requires: ClassVar[tuple[str, ...]] = ()
    weight: ClassVar[int] = 25

    def total(self, context: StageContext) -> int:
        with _open(context) as recording:
            return len(self._indices(recording))

    def run(self, context: StageContext, cursor: int, state: dict[str, Any]) -> Iterator[Commit]:
        with _open(context) as recording:
            indices = self._indices(recording)[cursor:]
            if not indices:
                return
            views = _Views.of(recording, self.depth_method, context.models_folders)
            gravity = _write_sequence_files(context, recording, views)
            selection = _Selection(self, state)
            writer = _FrameWriter(self, context, views, gravity)
            ahead = max(1, context.workers) + 1
            with (
                ThreadPoolExecutor(max(1, context.workers), thread_name_prefix="extraction") as pool,
                closing(read_ahead(_decoded(recording, indices), ahead)) as decoded,
                closing(ordered_map(pool, views.prepare, decoded, ahead)) as prepared,
                closing(ordered_map(pool, writer.write, map(selection.decide, prepared), ahead)) as written,
            ):
                for done, (frame, record) in enumerate(written, start=cursor + 1):
                    yield Commit(
                        cursor=done,
                        records=[record.to_json()] if record else [],
                        state=frame.state,
                        elapsed_s=frame.elapsed_s,
                        error=frame.error,
                    )

    def finish(self, context: StageContext) -> None:
        """Write frame_registry.json from the journal, one line per frame."""
        kept, inputs, failed = 0, 0, []
        with atomic_open(context.layout.registry, "w") as stream:
            head = {
                "version": REGISTRY_VERSION,
                "recording": context.recording.name,
                "depth": provenance(self.depth_method, context.models_folders),
            }
            stream.write(json.dumps(head)[:-1] + ', "frames": [')
            for commit in read_journal(journal_path(context.layout, self.name)):
                inputs = commit.cursor
                if commit.error:
                    failed.append({"input": commit.cursor - 1, "error": commit.error})
                for record in commit.records:
                    stream.write((",\n" if kept else "\n") + json.dumps(record, sort_keys=True, allow_nan=False))
                    kept += 1
            tail = {"frame_count": kept, "input_count": inputs, "failed": failed}
            stream.write("\n], " + json.dumps(tail)[1:] + "\n")

    def _indices(self, recording: Recording) -> range:
        return range(0, recording.metadata.frame_count, self.frame_skip)


@dataclass(slots=True)
class _Frame:
    """A frame on its way: as decoded, then as it will be stored, then with what was decided on it."""

    index: int
    timestamp_ns: int = 0
    left: Image | None = None
    right: Image | None = None
    depth: NDArray[np.float32] | None = None
    fingerprint: Fingerprint | None = None
    number: int | None = None
    motion_score: float = 0.0
    state: dict[str, Any] = field(default_factory=dict)
    elapsed_s: float = 0.0
    error: str = ""


@dataclass(frozen=True)
class _Views:
    """How raw frames become stored ones: rectified where there is a calibration."""

    camera: RectifiedCamera
    stereo: bool
    rectifier: Rectifier | None = None
    matcher: StereoMatcher | None = None
    takes_depth: bool = True

    @classmethod
    def of(cls, recording: Recording, depth_method: str, models_folders: Sequence[Path]) -> "_Views":
        metadata, calibration = recording.metadata, recording.calibration
        width, height = metadata.width, metadata.height
        if calibration is not None and metadata.stereo:
            rectifier = Rectifier(_sized(calibration, width, height))
            camera = rectifier.camera
            matcher = matcher_for(depth_method, camera, models_folders)
            return cls(camera, True, rectifier, matcher, takes_depth=depth_method == "auto")
        guess = _GUESSED_FOCAL * width
        camera = RectifiedCamera(
            width,
            height,
            guess,
            guess,
            (width - 1) / 2,
            (height - 1) / 2,
            baseline=None,
            metric=False,
            source="guessed",
        )
        return cls(camera, metadata.stereo)

    @property
    def rotation_left(self) -> NDArray[np.float64]:
        return np.eye(3) if self.rectifier is None else self.rectifier.rotation_left

    def prepare(self, raw: "StereoFrame | _Missing") -> _Frame:
        started = time.perf_counter()
        if isinstance(raw, _Missing):
            return _Frame(raw.index, error=f"Frame {raw.index} could not be decoded.")
        frame = _Frame(raw.index, raw.timestamp_ns)
        try:
            self._fill(frame, raw)
        except (PipelineError, ValueError, cv2.error) as error:
            frame.error = f"Frame {raw.index}: {error}"
        frame.elapsed_s = time.perf_counter() - started
        return frame

    def _fill(self, frame: _Frame, raw: StereoFrame) -> None:
        left, right, depth = raw.left, raw.right, raw.depth if self.takes_depth else None
        if self.stereo and right is None:
            raise RecordingError("the right image is missing.")
        if depth is not None:
            depth = np.where(np.isfinite(depth) & (depth > 0), depth, np.nan).astype(np.float32, copy=False)
            if depth.shape != left.shape[:2]:
                raise RecordingError("depth and image differ in size.")
        elif self.rectifier is not None and right is not None:
            left, right = self.rectifier.rectify(left, right)
        if right is not None and right.shape != left.shape:
            raise RecordingError("the two eyes differ in size.")
        frame.fingerprint = Fingerprint.of(left)
        frame.left, frame.right, frame.depth = left, right, depth

    def depth_of(self, frame: _Frame) -> tuple[NDArray[np.float32] | None, NDArray[np.uint8] | None]:
        """Depth and, where it was measured here, its confidence in 255ths."""
        if frame.depth is not None or self.matcher is None or frame.left is None or frame.right is None:
            return frame.depth, None
        match = self.matcher.measure(frame.left, frame.right)
        depth = disparity_to_depth(match.disparity, self.camera)
        confidence = np.clip(np.rint(match.confidence * 255), 1, 255).astype(np.uint8)
        confidence[np.isnan(depth)] = 0
        return depth, confidence


class _Selection:
    """Numbers the frames that are kept. Its state after each frame travels with the frame, into the commit."""

    def __init__(self, stage: Extraction, state: dict[str, Any]) -> None:
        enabled = stage.enable_diversity_filter
        self._filter = (
            DiversityFilter(  # nothing is dropped below 0 bits and 0 motion; the scores are told all the same
                stage.similarity_threshold if enabled else -1, stage.motion_threshold if enabled else 0
            )
        )
        self._filter.restore(state.get("filter", {}))
        self._kept = int(state.get("kept", 0))
        self._state = self._snapshot()

    def decide(self, frame: _Frame) -> _Frame:
        if frame.fingerprint is not None:
            decision = self._filter.offer(frame.fingerprint)
            frame.motion_score = decision.motion
            if decision.keep:
                frame.number = self._kept
                self._kept += 1
                self._state = self._snapshot()
        frame.state = self._state
        return frame

    def _snapshot(self) -> dict[str, Any]:
        return {"kept": self._kept, "filter": self._filter.state()}


class _FrameWriter:
    def __init__(self, stage: Extraction, context: StageContext, views: _Views, gravity: Gravity) -> None:
        self._stage, self._layout, self._views, self._gravity = stage, context.layout, views, gravity
        self._calibration = KittiCalibration.from_camera(views.camera).text()
        self._extension = "png" if stage.image_format == "png" else "jpg"

    def write(self, frame: _Frame) -> tuple[_Frame, FrameRecord | None]:
        """Compute depth and write the files of a kept frame; its record. Drops the arrays: commits must stay small."""
        started = time.perf_counter()
        record = None
        if frame.number is not None and frame.left is not None and frame.fingerprint is not None:
            depth, confidence = self._views.depth_of(frame)
            self._write_files(frame.number, frame.left, frame.right, depth)
            if confidence is not None:
                write_bytes(self._layout.confidence(frame.number), _png(confidence))
            down = self._gravity.down(frame.timestamp_ns)
            record = FrameRecord(
                number=frame.number,
                source_index=frame.index,
                timestamp_ns=frame.timestamp_ns,
                width=frame.left.shape[1],
                height=frame.left.shape[0],
                dhash=frame.fingerprint.dhash,
                motion_score=round(frame.motion_score, 6),
                image_extension=self._extension,
                has_right=frame.right is not None,
                has_depth=depth is not None,
                depth_coverage=0.0 if depth is None else round(float(np.isfinite(depth).mean()), 6),
                gravity=None if down is None else [round(float(value), 7) for value in down],
            )
        frame.left = frame.right = frame.depth = frame.fingerprint = None
        frame.elapsed_s += time.perf_counter() - started
        return frame, record

    def _write_files(self, number: int, left: Image, right: Image | None, depth: NDArray[np.float32] | None) -> None:
        layout, camera = self._layout, self._views.camera
        write_bytes(layout.image_left(number, self._extension), self._encoded(left))
        if right is not None:
            write_bytes(layout.image_right(number, self._extension), self._encoded(right))
        if depth is not None:
            write_npy(layout.depth(number), depth)
            if self._stage.write_point_clouds:
                grey = np.asarray(cv2.cvtColor(left, cv2.COLOR_BGR2GRAY), dtype=np.uint8)
                write_bytes(layout.velodyne(number), velodyne_bytes(velodyne_points(depth, grey, camera)))
        write_text(layout.calib(number), self._calibration)

    def _encoded(self, image: Image) -> bytes:
        return _png(image) if self._extension == "png" else cv2.imencode(".jpg", image, _JPEG_PARAMETERS)[1].tobytes()


def _png(image: Image) -> bytes:
    return cv2.imencode(".png", image, _PNG_PARAMETERS)[1].tobytes()


@dataclass(frozen=True, slots=True)
class _Missing:
    """A frame that was counted and could not be decoded."""

    index: int


def _open(context: StageContext) -> Recording:
    return open_recording(
        context.recording,
        calibration_file=context.calibration_file,
        calibration_folders=tuple(context.calibration_folders),
    )


def _decoded(recording: Recording, indices: Sequence[int]) -> Iterator[StereoFrame | _Missing]:
    """An item for each index, whatever the reader leaves out."""
    wanted = iter(indices)
    for frame in recording.frames(indices):
        for index in wanted:
            if index >= frame.index:
                break
            yield _Missing(index)
        yield frame
    yield from (_Missing(index) for index in wanted)


def _sized(calibration: StereoCalibration, width: int, height: int) -> StereoCalibration:
    """The calibration at the recording's resolution. Raises CalibrationError for another shape of image."""
    left = calibration.left
    if (left.width, left.height) == (width, height):
        return calibration
    if abs(left.width * height - left.height * width) > 0.01 * left.width * height:
        raise CalibrationError(
            f"{calibration.source or 'The calibration'} is for {left.width}×{left.height} images, "
            f"the recording has {width}×{height}."
        )
    return replace(calibration, left=left.scaled(width, height), right=calibration.right.scaled(width, height))


def _write_sequence_files(context: StageContext, recording: Recording, views: _Views) -> Gravity:
    """calibration.json and imu.csv; gravity is always read back from the file, so that a resumed run has the same."""
    layout = context.layout
    write_json(layout.calibration, views.camera.to_json())
    if not layout.imu.exists():
        rows = write_imu(layout.imu, recording.imu(), views.rotation_left)
        if rows:
            context.log(f"Wrote {rows} inertial rows.")
    return Gravity(read_accelerations(layout.imu))
