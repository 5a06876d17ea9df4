"""Writes SVO2 files as a ZED camera does: MCAP with LZ4 chunks, side-by-side video, sensor records, a footer index.

What is not written is the lens calibration, because no SVO2 file holds it; see `calibration_files.write_zed_conf`.
The same frames give the same bytes wherever they are written: encoders run with a fixed number of threads.
"""

import base64
import json
import struct
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal, Self

import numpy as np
from numpy.typing import NDArray

from pipeline.recordings.base import ImuSample
from pipeline.recordings.svo2 import CAMERA_MODELS, HEADER
from pipeline.recordings.svo2_payload import encode_jpeg_strips, frame_message
from pipeline.recordings.svo2_sensors import sensors_message
from pipeline.storage.atomic import atomic_open

CHUNK_BYTES: Final = 786_432
SLICES: Final = 4
CODEC_BITS: Final = {"jpeg": 2, "h264": 4, "h265": 8}
IDENTITY_POSE: Final = (1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0)
# 18 floats: three rows of bias terms, then a 3x3 scale matrix.
IDENTITY_SENSOR_CALIBRATION: Final = struct.pack("<18f", *[0.0] * 9, 1, 0, 0, 0, 1, 0, 0, 0, 1)
_JSON_SCHEMA: Final = b'{"properties":{"__title__":{"type":"string"},"data":{"type":"string"}},"type":"object"}'
_HEADER_SCHEMA: Final = (
    b'{"properties":{"Calib_acc":{"type":"string"},"Calib_gyro":{"type":"string"},'
    b'"header":{"type":"string"},"version":{"type":"string"}},"type":"object"}'
)


class Svo2Writer:
    """Writes one recording; the file appears when the `with` block ends well. Width and height are of one eye.

    `quality` is the encoder's constant rate factor (0 lossless to 51), for "jpeg" 100 minus it is the JPEG quality.
    Raises ValueError for odd sizes, images of another size and timestamps that do not ascend.
    """

    def __init__(
        self,
        path: Path,
        *,
        width: int,
        height: int,
        fps: int,
        serial: int,
        codec: Literal["h264", "h265", "jpeg"] = "h264",
        model: str = "ZED 2i",
        quality: int = 17,
        key_interval: int = 30,
    ) -> None:
        if width <= 0 or height <= 0 or width % 2 or height % 4:
            raise ValueError(f"an SVO2 recording needs an even width and a height divisible by 4, not {width}x{height}")
        if model not in CAMERA_MODELS.values():
            raise ValueError(f"unknown camera model {model!r}; known are {', '.join(CAMERA_MODELS.values())}")
        self.width, self.height, self.fps, self.serial, self.codec = width, height, fps, serial, codec
        self._quality = quality
        self._model = next(number for number, name in CAMERA_MODELS.items() if name == model)
        self._prefix = f"Camera_SN{serial}"
        self._index: dict[str, list[int]] = {
            f"{self._prefix}/{topic}": [] for topic in ("integrated_sensors", "sensors", "side_by_side")
        }
        self._key = (0, 0)
        self._imu: ImuSample | None = None
        self._pending: list[int] = []
        self._frames = 0
        self._files = ExitStack()
        self._encoder = None if codec == "jpeg" else _encoder(codec, 2 * width, height, fps, quality, key_interval)
        self._open(path)

    def _open(self, path: Path) -> None:
        from mcap.writer import CompressionType, Writer

        self._writer: Any = Writer(
            self._files.enter_context(atomic_open(path)), chunk_size=CHUNK_BYTES, compression=CompressionType.LZ4
        )
        self._writer.start(profile="", library="fovea")
        images = f"{self._prefix}/side_by_side"
        self._channels = {}
        for topic, encoding, schema, schema_encoding, content in (
            ("svo_header", "json", "sl.type", "jsonschema", _HEADER_SCHEMA),
            (images, "zed_sdk_encoded", images, "zed_sdk_encoded", b""),
            (f"{self._prefix}/sensors", "json", "sensors", "jsonschema", _JSON_SCHEMA),
            (f"{self._prefix}/integrated_sensors", "json", "sensors", "jsonschema", _JSON_SCHEMA),
            ("svo_footer", "json", "sl.type", "jsonschema", b'{"type":"object"}'),
        ):
            schema_id = self._writer.register_schema(schema, schema_encoding, content)
            self._channels[topic] = self._writer.register_channel(topic, encoding, schema_id)
        self._sequences = dict.fromkeys(self._channels, 0)
        self._header_written = False

    def add_frame(self, timestamp_ns: int, left_bgr: NDArray[np.uint8], right_bgr: NDArray[np.uint8]) -> None:
        """Encode one stereo frame; both images are uint8 BGR (height, width, 3)."""
        for image in (left_bgr, right_bgr):
            if image.shape != (self.height, self.width, 3) or image.dtype != np.uint8:
                raise ValueError(f"expected uint8 images of shape {(self.height, self.width, 3)}, got {image.shape}")
        if self._pending and timestamp_ns <= self._pending[-1]:
            raise ValueError(f"timestamp {timestamp_ns} does not follow {self._pending[-1]}")
        self._pending.append(timestamp_ns)
        both = np.ascontiguousarray(np.hstack((left_bgr, right_bgr)))
        if self._encoder is None:
            self._write_frame(encode_jpeg_strips(both, 100 - self._quality), key=True)
            return
        import av

        picture = av.VideoFrame.from_ndarray(both, format="bgr24").reformat(format="yuv420p")
        picture.pts = len(self._pending) - 1
        for packet in self._encoder.encode(picture):
            self._write_frame(bytes(packet), key=packet.is_keyframe)

    def add_imu(self, sample: ImuSample) -> None:
        """Add one inertial row, in the axes of the left image."""
        self._write("sensors", sample.timestamp_ns, sensors_message(sample))
        self._imu = sample

    def _write_frame(self, payload: bytes, *, key: bool) -> None:
        index, timestamp = self._frames, self._pending[self._frames]
        self._frames += 1
        if key:
            self._key = (index, timestamp)
        if self._imu is not None:
            self._write("integrated_sensors", timestamp, sensors_message(self._imu, integrated=True))
        message = frame_message(
            payload, width=2 * self.width, height=self.height, timestamp_ns=timestamp, index=index, key=self._key
        )
        self._write("side_by_side", timestamp, message)

    def _write(self, topic: str, timestamp_ns: int, message: bytes) -> None:
        if not self._header_written:
            self._header_written = True
            self._add("svo_header", timestamp_ns, self._header())
        topic = f"{self._prefix}/{topic}"
        self._index[topic].append(timestamp_ns)
        self._add(topic, timestamp_ns, message)

    def _add(self, topic: str, timestamp_ns: int, message: bytes) -> None:
        self._sequences[topic] += 1
        self._writer.add_message(self._channels[topic], timestamp_ns, message, timestamp_ns, self._sequences[topic])

    def _header(self) -> bytes:
        slices = SLICES if self.codec != "h265" else 0
        values = (self.width, self.height, self.serial, self.fps, 0, CODEC_BITS[self.codec], slices, 777, 1523)
        header = HEADER.pack(*values, *IDENTITY_POSE, 0, 0, 0, 1, self._model, 0, 0, 0, 0, 1, 0)
        calibration = base64.b64encode(IDENTITY_SENSOR_CALIBRATION).decode()
        return _json(
            {
                "Calib_acc": calibration,
                "Calib_gyro": calibration,
                "header": base64.b64encode(header).decode(),
                "version": "2.0.3",
            }
        )

    def close(self) -> None:
        """Write what the encoder still holds, the footer index and the summary."""
        if self._encoder is not None:
            for packet in self._encoder.encode(None):
                self._write_frame(bytes(packet), key=packet.is_keyframe)
        if self._pending:
            self._add("svo_footer", self._pending[0], _json(self._index))
        self._writer.finish()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            with self._files:
                self.close()
        else:
            self._files.__exit__(kind, error, trace)


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _encoder(codec: str, width: int, height: int, fps: int, quality: int, key_interval: int) -> Any:
    """An encoder without B-frames and lookahead, so that every frame gives one Annex-B access unit at once."""
    import av

    context = av.CodecContext.create("libx264" if codec == "h264" else "libx265", "w")
    context.width, context.height, context.pix_fmt = width, height, "yuv420p"
    context.time_base, context.framerate = Fraction(1, fps), Fraction(fps)
    context.gop_size, context.max_b_frames = key_interval, 0
    options = {"preset": "veryfast", "tune": "zerolatency", "crf": str(quality)}
    if codec == "h264":
        context.profile = "High"
        options["x264-params"] = f"threads=2:sliced-threads=1:slices={SLICES}:scenecut=0"
    else:
        options["x265-params"] = "frame-threads=1:pools=2:repeat-headers=1:scenecut=0:info=0:log-level=error"
    context.options = options
    context.open()
    return context
