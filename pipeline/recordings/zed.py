"""SVO files read through the ZED SDK, which adds its own rectification and depth and reads what nothing else can.

The SDK runs in a subprocess (`zed_worker`) with a time limit for every answer: it is known to crash and to hang.
"""

import contextlib
import json
import os
import select
import struct
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import RecordingError
from pipeline.recordings.base import ImuSample, RecordingMetadata, StereoFrame
from pipeline.recordings.limits import LARGEST_EYE_PIXELS, check_size
from pipeline.stereo.calibration import CameraIntrinsics, StereoCalibration

OPEN_TIMEOUT_S: Final = 120.0  # the first run of a neural depth mode optimises its network
FRAME_TIMEOUT_S: Final = 30.0
TIMEOUTS_ALLOWED: Final = 5
"""Frames of a recording the SDK may hang on: each costs its time limit and the opening of another process."""
LARGEST_HEADER: Final = 1 << 20


class _NoAnswerError(RecordingError):
    """The SDK hangs; its process was ended."""


class ZedRecording:
    """An SVO or SVO2 file through `pyzed.sl`: rectified images, and depth in metres with NaN where unknown.

    Where the file is an SVO2 that can be walked without the SDK, its frames are counted that way and every inertial row
    is given; otherwise the SDK's own count stands and there is one inertial row per frame. A frame the SDK hangs on is
    left out, `timeouts_allowed` times. Raises RecordingError if the SDK refuses the file, dies, does not open it in
    time, or hangs more often.
    """

    def __init__(
        self,
        path: Path,
        *,
        calibration_file: Path | None = None,
        calibration_folders: Iterable[Path] = (),
        depth_mode: str = "NEURAL",
        open_timeout_s: float = OPEN_TIMEOUT_S,
        frame_timeout_s: float = FRAME_TIMEOUT_S,
        timeouts_allowed: int = TIMEOUTS_ALLOWED,
    ) -> None:
        self.path = path
        self._request = {
            "command": "open",
            "path": str(path.resolve()),
            "settings": _settings_folder(path, calibration_file, calibration_folders),
            "depth_mode": depth_mode,
        }
        self._open_timeout_s, self._frame_timeout_s = open_timeout_s, frame_timeout_s
        self._timeouts_left = timeouts_allowed
        self._process: subprocess.Popen[bytes] | None = None
        self._description = self._start()
        try:
            check_size(path.name, self._description["width"], self._description["height"])
        except BaseException:
            self.close()
            raise

    def _start(self) -> dict[str, Any]:
        paths = [entry or str(Path.cwd()) for entry in sys.path]
        root = str(Path(__file__).resolve().parents[2])
        self._process = subprocess.Popen(
            [sys.executable, "-m", "pipeline.recordings.zed_worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=os.environ | {"PYTHONPATH": os.pathsep.join((root, *paths))},
        )
        try:
            return self._ask(self._request, self._open_timeout_s)[0]
        except BaseException:
            self._kill()
            raise

    @cached_property
    def _walked(self) -> RecordingMetadata | None:
        """What the SDK-free reader counts, or None if it cannot read the file."""
        from pipeline.recordings.svo2 import Svo2Recording

        try:
            with Svo2Recording(self.path) as recording:
                return recording.metadata
        except RecordingError:
            return None

    @cached_property
    def metadata(self) -> RecordingMetadata:
        found, walked = self._description, self._walked
        count = min(found["frame_count"], walked.frame_count) if walked else found["frame_count"]
        fps = walked.fps if walked else found["fps"] or 1.0
        return RecordingMetadata(
            kind="zed",
            frame_count=count,
            width=found["width"],
            height=found["height"],
            fps=fps,
            duration_s=count / fps if fps else 0.0,
            stereo=True,
            codec=walked.codec if walked else "",
            camera_model=found["model"].replace("_", " "),
            camera_serial=found["serial"],
            imu_count=walked.imu_count if walked else count,
            truncated=walked.truncated if walked else False,
            warnings=walked.warnings if walked else (),
            extra={"sdk_version": found["sdk_version"], "declared_frames": found["frame_count"]},
        )

    @cached_property
    def calibration(self) -> StereoCalibration:
        """That of the rectified images, as the SDK uses it."""
        found = self._description
        left, right = (CameraIntrinsics(found["width"], found["height"], **found[eye]) for eye in ("left", "right"))
        return StereoCalibration(
            left,
            right,
            translation=(-abs(found["baseline"]), 0.0, 0.0),
            rectified=True,
            source="zed-sdk",
            serial=found["serial"],
        )

    def frames(self, indices: Iterable[int] | None = None) -> Iterator[StereoFrame]:
        for index in range(self.metadata.frame_count) if indices is None else indices:
            document, arrays = self._ask_of_frame("frame", index)
            if document["readable"]:
                left, right, *depth = arrays
                yield StereoFrame(index, document["timestamp_ns"], left, right, depth[0] if depth else None)

    def imu(self) -> Iterator[ImuSample]:
        if self._walked is not None:
            from pipeline.recordings.svo2 import Svo2Recording

            with Svo2Recording(self.path) as recording:
                yield from recording.imu()
            return
        for index in range(self.metadata.frame_count):
            row, _ = self._ask_of_frame("imu", index)
            if row["readable"]:
                orientation = row["orientation"]
                yield ImuSample(
                    row["timestamp_ns"],
                    tuple(row["acceleration"]),
                    tuple(row["angular_velocity"]),
                    tuple(orientation) if orientation else None,
                )

    def _ask_of_frame(self, command: str, index: int) -> tuple[dict[str, Any], list[NDArray[Any]]]:
        """The answer; that of an unreadable frame where the SDK hangs and still may."""
        if self._process is None:
            self._start()  # here, so that a file that no longer opens in time is not taken for a frame
        try:
            return self._ask({"command": command, "index": index}, self._frame_timeout_s)
        except _NoAnswerError:
            if self._timeouts_left == 0:
                raise
            self._timeouts_left -= 1
            return {"readable": False}, []

    def _ask(self, request: dict[str, Any], timeout_s: float) -> tuple[dict[str, Any], list[NDArray[Any]]]:
        """One request and its answer; after a failure the next request starts a new process."""
        if self._process is None:
            self._start()
        process = self._process
        if process is None or process.stdin is None:
            raise RecordingError(f"{self.path.name}: the ZED SDK could not be started.")
        deadline = time.monotonic() + timeout_s
        try:
            process.stdin.write(json.dumps(request).encode() + b"\n")
            process.stdin.flush()
            (length,) = struct.unpack("<I", self._read(4, deadline))
            document = json.loads(self._read(min(length, LARGEST_HEADER), deadline))
            arrays = [self._array(description, deadline) for description in document.get("arrays", ())]
        except TimeoutError as error:
            self._kill()
            raise _NoAnswerError(f"{self.path.name}: the ZED SDK did not answer within {timeout_s:g} s.") from error
        except (BrokenPipeError, EOFError, ValueError) as error:
            code = self._kill()
            raise RecordingError(f"{self.path.name}: the ZED SDK ended unexpectedly (exit code {code}).") from error
        if "error" in document:
            self._kill()
            raise RecordingError(f"{self.path.name}: the ZED SDK cannot read it ({document['error']}).")
        return document, arrays

    def _array(self, description: dict[str, Any], deadline: float) -> NDArray[Any]:
        dtype, shape = np.dtype(description["dtype"]), tuple(description["shape"])
        if dtype.hasobject or np.prod(shape) > 4 * LARGEST_EYE_PIXELS:
            raise ValueError("the answer describes no image")
        return np.frombuffer(self._read(int(np.prod(shape)) * dtype.itemsize, deadline), dtype).reshape(shape)

    def _read(self, count: int, deadline: float) -> bytearray:
        """Exactly `count` bytes, written into a buffer that the array then owns."""
        if self._process is None or self._process.stdout is None:
            raise EOFError
        descriptor = self._process.stdout.fileno()
        buffer = bytearray(count)
        view, at = memoryview(buffer), 0
        while at < count:
            ready, _, _ = select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                raise TimeoutError
            got = os.readv(descriptor, [view[at:]])
            if got == 0:
                raise EOFError
            at += got
        return buffer

    def _kill(self) -> int | None:
        process, self._process = self._process, None
        if process is None:
            return None
        # One that has ended by itself gets a moment, so that its own exit code is reported.
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.2)
        process.kill()
        self._shut_pipes(process)
        return process.wait()

    @staticmethod
    def _shut_pipes(process: subprocess.Popen[bytes]) -> None:
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()

    def close(self) -> None:
        """Let the SDK close the file, then end the process."""
        process, self._process = self._process, None
        if process is None:
            return
        self._shut_pipes(process)
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _settings_folder(path: Path, calibration_file: Path | None, folders: Iterable[Path]) -> str:
    """A folder with an `SN*.conf`: of the file given, beside the recording, or configured; "" for the SDK's own."""
    if calibration_file is not None and calibration_file.suffix.lower() == ".conf":
        return str(calibration_file.resolve().parent)
    candidates = (path.parent, *map(Path, folders))
    return next((str(folder.resolve()) for folder in candidates if any(folder.glob("SN*.conf"))), "")
