"""SVO2 recordings of ZED cameras, read without the ZED SDK: MCAP around H.264, H.265 or JPEG, and inertial records.

The lens calibration is not in the file: it comes from `SN<serial>.conf` (see `pipeline.stereo.calibration_files`).
"""

import base64
import binascii
import json
import struct
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

import numpy as np

from pipeline.errors import RecordingError
from pipeline.recordings.base import ImuSample, RecordingMetadata, StereoFrame
from pipeline.recordings.limits import check_size
from pipeline.recordings.svo2_container import Container
from pipeline.recordings.svo2_payload import Codec, EncodedFrame, decoder, parse_message, sniff_codec
from pipeline.recordings.svo2_sensors import parse_sensors
from pipeline.stereo.calibration import StereoCalibration
from pipeline.stereo.calibration_files import find_calibration

HEADER_TOPIC: Final = "svo_header"
FOOTER_TOPIC: Final = "svo_footer"
IMAGE_TOPIC: Final = "side_by_side"
SENSOR_TOPIC: Final = "sensors"
INTEGRATED_TOPICS: Final = ("integrated_sensors", "sensors_integrated")
CAMERA_MODELS: Final = {1: "ZED", 2: "ZED Mini", 3: "ZED 2", 4: "ZED 2i", 5: "ZED X", 6: "ZED X Mini"}
HEADER: Final = struct.Struct("<9I12f4f7I")
PROBED_FRAMES: Final = 30  # how many frames may fail before a recording counts as undecodable


@dataclass(frozen=True, slots=True)
class Svo2Header:
    """What the camera says of itself; every value may be missing (0 or empty) in a damaged file."""

    width: int = 0
    height: int = 0
    serial: int = 0
    nominal_fps: int = 0
    model: str = ""
    sensor_firmware: int = 0
    camera_firmware: int = 0
    svo_version: str = ""
    sdk_version: str = ""
    camera_imu_transform: tuple[float, ...] = ()
    """(12,) row-major 3x4, millimetres, image axes."""

    @classmethod
    def parse(cls, message: bytes | memoryview) -> Self:
        try:
            document = json.loads(bytes(message))
            versions = str(document.get("version", "")), str(document.get("ZED_SDK_version", ""))
            values = HEADER.unpack_from(base64.b64decode(document["header"]))
        except (ValueError, KeyError, TypeError, AttributeError, struct.error, binascii.Error):
            return cls()
        width, height, serial, fps, _, _, _, sensor_firmware, camera_firmware = values[:9]
        return cls(
            width,
            height,
            serial,
            fps,
            CAMERA_MODELS.get(values[25], ""),
            sensor_firmware,
            camera_firmware,
            *versions,
            values[9:21],
        )


class _Entry(NamedTuple):
    """Where one encoded frame lies; 40 bytes each in the index."""

    chunk: int
    offset: int
    length: int
    timestamp_ns: int
    start: int
    """Position of the frame that decoding has to begin with to reach this one."""


class _FrameIndex(Sequence[_Entry]):
    """All frames of a recording, in five integers each."""

    def __init__(self) -> None:
        self._values = array("q")

    def append(self, entry: _Entry) -> None:
        self._values.extend(entry)

    def __len__(self) -> int:
        return len(self._values) // 5

    def __getitem__(self, position: Any) -> Any:
        if position < 0 or position >= len(self):
            raise IndexError(position)
        return _Entry(*self._values[5 * position : 5 * position + 5])


class Svo2Recording:
    """An SVO2 file. Opening walks it once (decompressing, not decoding), counts, and decodes the first frame as proof.

    Raises RecordingError if no frame can be read, UnsupportedRecordingError for SVO version 1, encrypted files and
    LOSSLESS compression. A truncated or damaged file gives the frames that are there, with a warning in `metadata`.
    """

    def __init__(
        self, path: Path, *, calibration_file: Path | None = None, calibration_folders: Iterable[Path] = ()
    ) -> None:
        self.path = path
        self._calibration_file = calibration_file
        self._calibration_folders = tuple(calibration_folders)
        self._container = Container(path)
        try:
            self._scan()
            self._prove()
        except BaseException:
            self._container.close()
            raise

    def _scan(self) -> None:
        """One pass over the messages: frame index, number of inertial rows, header, and what the footer promises."""
        self._frames, self._header = _FrameIndex(), Svo2Header()
        self._codec: Codec | None = None
        self._size = (0, 0)
        self._imu_count = self._broken = self._promised = 0
        self._topic_serial, self._other_topics = "", set[str]()
        start, lost = 0, False
        for message in self._container.walk():
            camera, _, name = message.channel.topic.rpartition("/")
            lost = lost or message.after_gap
            if name == IMAGE_TOPIC:
                self._topic_serial = self._topic_serial or camera.removeprefix("Camera_SN")
                try:
                    frame = parse_message(message.data)
                except ValueError:
                    self._broken, lost = self._broken + 1, True
                    continue
                if self._codec is None:
                    self._codec = sniff_codec(frame.payload, self.path.name)
                    self._size = frame.width // 2, frame.height
                if frame.key or self._codec == "jpeg":
                    start, lost = len(self._frames), False
                if lost:
                    # What this frame builds upon is missing: it would decode into smears.
                    self._broken += 1
                    continue
                self._frames.append(
                    _Entry(
                        message.chunk, message.offset, len(message.data), frame.timestamp_ns or message.log_time, start
                    )
                )
            elif name == SENSOR_TOPIC:
                self._imu_count += 1
            elif name == HEADER_TOPIC:
                self._header = Svo2Header.parse(message.data)
            elif name == FOOTER_TOPIC:
                self._promised = _promised_frames(message.data)
            elif name not in INTEGRATED_TOPICS:
                self._other_topics.add(message.channel.topic)

    def _prove(self) -> None:
        """Decode one frame: its size is the truth, and a codec that cannot be decoded is found out at once."""
        name = self.path.name
        if self._codec is None or not len(self._frames):
            cut = " It is cut off before its first frame." if self._container.truncated else ""
            raise RecordingError(f"{name} holds no stereo frames.{cut}")
        check_size(name, *self._size)
        for frame in self.frames(range(min(PROBED_FRAMES, len(self._frames)))):
            self._size = frame.left.shape[1], frame.left.shape[0]
            return
        raise RecordingError(f"{name}: none of its first frames can be decoded ({self._codec}).")

    @cached_property
    def metadata(self) -> RecordingMetadata:
        count, header = len(self._frames), self._header
        span = (self._frames[count - 1].timestamp_ns - self._frames[0].timestamp_ns) / 1e9
        nominal = float(header.nominal_fps)
        fps = (count - 1) / span if count > 1 and span > 0 else nominal
        serial = str(header.serial) if header.serial else self._topic_serial
        return RecordingMetadata(
            kind="svo2",
            frame_count=count,
            width=self._size[0],
            height=self._size[1],
            fps=fps,
            duration_s=count / fps if fps else 0.0,
            stereo=True,
            codec=self._codec or "",
            camera_model=header.model,
            camera_serial=serial,
            imu_count=self._imu_count,
            truncated=self._container.truncated,
            warnings=tuple(self._warnings(nominal)),
            extra={
                "nominal_fps": nominal,
                "first_timestamp_ns": self._frames[0].timestamp_ns,
                "svo_version": header.svo_version,
                "sdk_version": header.sdk_version,
                "camera_firmware": header.camera_firmware,
                "sensor_firmware": header.sensor_firmware,
                "camera_imu_transform_mm": header.camera_imu_transform,
                "other_topics": sorted(self._other_topics),
            },
        )

    def _warnings(self, nominal_fps: float) -> Iterator[str]:
        name, count = self.path.name, len(self._frames)
        if self._container.truncated:
            yield f"{name} is cut off: {count} frames were recovered, the rest is missing."
        if damaged := self._container.damaged_chunks:
            yield f"{name} is damaged in {damaged} place{'s' * (damaged > 1)}: what lies there was left out."
        if self._broken:
            yield f"{name}: {self._broken} frames cannot be decoded and were left out."
        if self._promised > count + self._broken:
            yield f"{name} lists {self._promised} frames in its index but holds {count + self._broken}."
        if dropped := self._dropped(nominal_fps):
            yield f"{name}: about {dropped} frames were dropped while recording at {nominal_fps:g} frames per second."

    def _dropped(self, nominal_fps: float) -> int:
        times = np.array([entry.timestamp_ns for entry in self._frames], np.int64)
        missing = np.rint(np.diff(times) * (nominal_fps / 1e9)).astype(np.int64) - 1
        return int(missing[missing > 0].sum())

    @cached_property
    def calibration(self) -> StereoCalibration | None:
        return find_calibration(
            self.path,
            self.metadata.camera_serial,
            self._calibration_folders,
            *self._size,
            calibration_file=self._calibration_file,
        )

    def frames(self, indices: Iterable[int] | None = None) -> Iterator[StereoFrame]:
        """Decode each wanted frame from the last key frame before it, or on from where decoding stands."""
        pictures, position, previous = None, 0, -1
        pending: set[int] = set()
        for index in range(len(self._frames)) if indices is None else indices:
            if not previous < index < len(self._frames):
                raise IndexError(f"frame {index} of {self.path.name}: indices ascend and are below {len(self._frames)}")
            previous = index
            start = self._frames[index].start
            if pictures is None or start > position:
                if pictures is not None:
                    yield from self._wanted(pictures.flush(), pending)
                pictures, position = decoder(self._codec or "h264", self.path.name), start
            pending.add(index)
            while position <= index:
                yield from self._wanted(pictures.decode(position, self._encoded(position)), pending)
                position += 1
        if pictures is not None:
            yield from self._wanted(pictures.flush(), pending)

    def _wanted(self, pictures: Iterator[Any], pending: set[int]) -> Iterator[StereoFrame]:
        for position, image in pictures:
            if position not in pending:
                continue
            pending.discard(position)
            both = image()
            width = both.shape[1] // 2
            yield StereoFrame(
                index=position,
                timestamp_ns=self._frames[position].timestamp_ns,
                left=np.ascontiguousarray(both[:, :width]),
                right=np.ascontiguousarray(both[:, width : 2 * width]),
            )

    def _encoded(self, position: int) -> EncodedFrame:
        entry = self._frames[position]
        try:
            return parse_message(self._container.read(entry.chunk, entry.offset, entry.length))
        except (OSError, ValueError) as error:
            raise RecordingError(
                f"{self.path.name} changed or became unreadable while it was read: {error}."
            ) from error

    def imu(self) -> Iterator[ImuSample]:
        """The rows of the full-rate `sensors` topic in file order; a damaged row is left out."""
        with Container(self.path) as container:
            for message in container.walk():
                if message.channel.topic.rpartition("/")[2] == SENSOR_TOPIC and (
                    sample := parse_sensors(message.data, message.log_time)
                ):
                    yield sample

    def close(self) -> None:
        self._container.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _promised_frames(message: bytes | memoryview) -> int:
    """How many frames the footer's index lists (integers, or base64 of int64); 0 if it cannot be read."""
    try:
        document = json.loads(bytes(message))
        listed = next(value for topic, value in document.items() if topic.endswith("/" + IMAGE_TOPIC))
        return len(listed) if isinstance(listed, list) else len(base64.b64decode(listed)) // 8
    except (ValueError, StopIteration, TypeError, AttributeError):
        return 0
