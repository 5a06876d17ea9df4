"""One side-by-side message of an SVO2 file: its framing, its codec, and the decoder that turns it into two images.

Layout, measured on a ZED 2i recording (little-endian):
    u32 total size (message - 4), u32 payload size, payload, 56-byte footer with width of both eyes, height, timestamp,
    frame type (3 key, 0 delta), index of the last key frame, frame index.
Payloads are Annex-B H.264 or H.265 access units of the left|right image, or four strips of grey JPEG that hold YUYV
bytes.
"""

import struct
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import RecordingError, UnsupportedRecordingError
from pipeline.recordings.limits import LARGEST_EYE_PIXELS, check_size

Codec = Literal["h264", "hevc", "jpeg"]
Picture = tuple[int, Callable[[], NDArray[np.uint8]]]
"""The position a frame was given under, and its image on demand: uint8 BGR (H, 2W, 3)."""

HEAD: Final = struct.Struct("<II")
FOOTER: Final = struct.Struct("<IIIiiiQIiIIQ")
KEY_FRAME: Final = 3
DELTA_FRAME: Final = 0
JPEG_STRIPS: Final = 4
_STRIP_SIZES: Final = struct.Struct(f"<{JPEG_STRIPS}Q")
_JPEG_START: Final = b"\xff\xd8\xff"


class EncodedFrame(NamedTuple):
    """`width` is of both eyes side by side."""

    width: int
    height: int
    timestamp_ns: int
    key: bool
    frame_index: int
    payload: memoryview


def parse_message(message: bytes | memoryview) -> EncodedFrame:
    """Take the framing off one side-by-side message; raises ValueError where its sizes contradict each other."""
    view = memoryview(message)
    if len(view) < HEAD.size + FOOTER.size:
        raise ValueError("the message is shorter than its framing")
    total, size = HEAD.unpack_from(view)
    if total != len(view) - 4 or size != total - 4 - FOOTER.size or size == 0:
        raise ValueError("the sizes of the message contradict each other")
    width, height, _, _, _, _, timestamp, _, kind, _, index, _ = FOOTER.unpack_from(view, HEAD.size + size)
    return EncodedFrame(width, height, timestamp, kind == KEY_FRAME, index, view[HEAD.size : HEAD.size + size])


def frame_message(
    payload: bytes, *, width: int, height: int, timestamp_ns: int, index: int, key: tuple[int, int]
) -> bytes:
    """The reverse of `parse_message`; `key` is (frame index, timestamp) of the last key frame, maybe this one."""
    kind = KEY_FRAME if key[0] == index else DELTA_FRAME
    footer = FOOTER.pack(width, height, 0, 0, 2, 0, timestamp_ns, len(payload), kind, key[0], index, key[1])
    return HEAD.pack(len(payload) + 4 + FOOTER.size, len(payload)) + payload + footer


def sniff_codec(payload: bytes | memoryview, name: str) -> Codec:
    """Tell the codec by the first bytes of a key frame. Raises UnsupportedRecordingError for SDK-only ones."""
    start = bytes(payload[:64])
    if start[_STRIP_SIZES.size :].startswith(_JPEG_START):
        return "jpeg"
    if start.startswith((b"\x00\x00\x00\x01", b"\x00\x00\x01")):
        unit = start[start.index(b"\x01") + 1]
        # The two codecs number their units differently: in H.265 the type is six bits after a zero bit.
        if unit >> 1 in (32, 33, 34, 35, 39) and unit & 0x81 == 0:
            return "hevc"
        if unit & 0x1F in (1, 5, 6, 7, 8, 9) and unit & 0x80 == 0:
            return "h264"
    if b"\x89PNG" in start or start.startswith(b"\x28\xb5\x2f\xfd"):
        raise UnsupportedRecordingError(
            f"{name} was recorded with LOSSLESS compression (PNG/ZSTD), which only the ZED SDK can decode."
        )
    raise UnsupportedRecordingError(
        f"{name} holds frames in an unknown compression, or encrypted ones; only the ZED SDK can decode it."
    )


class SideBySideDecoder(Protocol):
    """Frames in, pictures out, each with the position it was given under; a frame that cannot be decoded gives none."""

    def decode(self, position: int, frame: EncodedFrame) -> Iterator[Picture]: ...

    def flush(self) -> Iterator[Picture]: ...


def decoder(codec: Codec, name: str) -> SideBySideDecoder:
    return JpegStripDecoder() if codec == "jpeg" else VideoDecoder(codec, name)


class VideoDecoder:
    """H.264 or H.265. Raises RecordingError where their size is beyond the limit."""

    def __init__(self, codec: Codec, name: str) -> None:
        import av

        self._name = name
        self._error = av.error.FFmpegError
        self._packet = av.Packet
        self._context: Any = av.CodecContext.create(codec, "r")
        # Slice threads share one picture; frame threads would hold back several and delay a seek.
        self._context.thread_type = "SLICE"
        self._context.thread_count = 2
        self._context.options = {"max_pixels": str(2 * LARGEST_EYE_PIXELS)}

    def decode(self, position: int, frame: EncodedFrame) -> Iterator[Picture]:
        packet = self._packet(bytes(frame.payload))
        packet.pts = packet.dts = position
        yield from self._pictures(packet)

    def flush(self) -> Iterator[Picture]:
        yield from self._pictures(None)

    def _pictures(self, packet: Any) -> Iterator[Picture]:
        try:
            pictures = self._context.decode(packet)
        except (self._error, EOFError):
            return
        for picture in pictures:
            if picture.is_corrupt or picture.pts is None:
                continue
            check_size(self._name, picture.width // 2, picture.height)
            yield picture.pts, partial(picture.to_ndarray, format="bgr24")


class JpegStripDecoder:
    """`u64 size[4]`, then four grey JPEGs of (4W, H/4) that stacked are the bytes of a YUYV picture (H, 2W)."""

    def decode(self, position: int, frame: EncodedFrame) -> Iterator[Picture]:
        import cv2

        payload = frame.payload
        if len(payload) < _STRIP_SIZES.size:
            return
        strips, at = [], _STRIP_SIZES.size
        for size in _STRIP_SIZES.unpack_from(payload):
            strip = payload[at : at + size]
            at += size
            if size == 0 or len(strip) < size or _jpeg_size(strip) != (2 * frame.width, frame.height // JPEG_STRIPS):
                return
            grey = cv2.imdecode(np.frombuffer(strip, np.uint8), cv2.IMREAD_GRAYSCALE)
            if grey is None or grey.shape != (frame.height // JPEG_STRIPS, 2 * frame.width):
                return
            strips.append(grey)
        yuyv = np.vstack(strips).astype(np.uint8, copy=False).reshape(frame.height, frame.width, 2)
        yield position, partial(_yuyv_to_bgr, yuyv)

    def flush(self) -> Iterator[Picture]:
        return iter(())


def _yuyv_to_bgr(yuyv: NDArray[np.uint8]) -> NDArray[np.uint8]:
    import cv2

    return np.asarray(cv2.cvtColor(yuyv, cv2.COLOR_YUV2BGR_YUYV), np.uint8)


def encode_jpeg_strips(image: NDArray[np.uint8], quality: int = 90) -> bytes:
    """A JPEG payload of a side-by-side BGR picture (H, 2W, 3); H must be divisible by 4 and 2W by 2."""
    import cv2

    height, width = image.shape[:2]
    rows = cv2.cvtColor(image, cv2.COLOR_BGR2YUV_YUYV).reshape(height, 2 * width)
    encoded = []
    for strip in np.split(rows, JPEG_STRIPS):
        done, buffer = cv2.imencode(".jpg", strip, [cv2.IMWRITE_JPEG_QUALITY, quality])
        if not done:
            raise RecordingError("a strip could not be encoded as JPEG.")
        encoded.append(buffer.tobytes())
    return _STRIP_SIZES.pack(*(len(strip) for strip in encoded)) + b"".join(encoded)


def _jpeg_size(jpeg: memoryview) -> tuple[int, int] | None:
    """(width, height) from a JPEG's frame header, without decoding."""
    import io

    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(jpeg), formats=("JPEG",)) as image:
            return image.size
    except (UnidentifiedImageError, OSError, SyntaxError, Image.DecompressionBombError):
        return None
