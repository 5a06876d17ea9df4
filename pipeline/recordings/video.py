"""Video files (mp4, mov, m4v, avi, mkv, webm) of one eye, or of two side by side, read with FFmpeg through PyAV."""

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from fractions import Fraction
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import RecordingError, UnsupportedRecordingError
from pipeline.recordings.base import ImuSample, RecordingMetadata, StereoFrame
from pipeline.recordings.limits import LARGEST_EYE_PIXELS, check_size
from pipeline.stereo.calibration import StereoCalibration
from pipeline.stereo.calibration_files import find_calibration, serial_in_name

# Playlists and the like would let a file make FFmpeg open other files and addresses.
CONTAINER_OPTIONS: Final = {
    "format_whitelist": "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi",
    "protocol_whitelist": "file",
}
OPEN_TIMEOUT_S: Final = 20
DECODE_ALL_BELOW: Final = 200_000_000  # pixels in all: about half a second of decoding


class VideoRecording:
    """A video file; with `side_by_side` its left half is the left eye and its right half the right one.

    Opening reads all packets without decoding them and decodes the last group of pictures (all of a short or suspicious
    file): the frames counted are those that decode, whatever the header says. Images are turned upright as the file's
    display matrix asks. Timestamps are the presentation times, so a variable frame rate stays as recorded. Raises
    RecordingError if there is no readable frame, UnsupportedRecordingError for a codec without decoder.
    """

    def __init__(
        self,
        path: Path,
        *,
        side_by_side: bool = False,
        calibration_file: Path | None = None,
        calibration_folders: Iterable[Path] = (),
    ) -> None:
        self.path = path
        self._side_by_side = side_by_side
        self._calibration_file = calibration_file
        self._calibration_folders = tuple(calibration_folders)
        self._rotation = 0
        self._warnings: list[str] = []
        self._threads = "AUTO"
        container, stream = _open(path, self._threads)
        with container:
            self._codec = str(stream.codec_context.name)
            self._time_base: Fraction = stream.time_base or Fraction(1, 1000)
            self._declared_frames = int(stream.frames or 0)
            self._declared_fps = float(stream.average_rate or 0)
            self._width, self._height = int(stream.width or 0), int(stream.height or 0)
            check_size(path.name, self._width // 2 if side_by_side else self._width, self._height)
            times, keys, healthy = self._read_packets(container, stream)
        self._scan(times, keys, healthy)
        self._prove()

    def _read_packets(self, container: Any, stream: Any) -> tuple["array[int]", "array[int]", bool]:
        """Presentation times of all packets and of key frames, and whether the file is as it should be."""
        times, keys = array("q"), array("q")
        healthy = ended = True
        for packet in _packets(container, stream):
            if packet is None:
                ended = False
            elif packet.size and not packet.is_discard:
                healthy = healthy and not packet.is_corrupt and packet.pts is not None
                if packet.pts is not None:
                    times.append(packet.pts)
                    if packet.is_keyframe:
                        keys.append(packet.pts)
        self._cut = not ended or 0 < len(times) < self._declared_frames
        return times, keys, healthy and not self._cut

    def _scan(self, times: "array[int]", keys: "array[int]", healthy: bool) -> None:
        """Find the presentation time of every decodable frame."""
        name, declared = self.path.name, self._declared_frames
        ordered = array("q", sorted(times))
        self._seekable = True
        if healthy and keys and self._width * self._height * len(ordered) > DECODE_ALL_BELOW:
            last = bisect_left(ordered, max(keys))
            tail = [pts for pts, _ in self._decoded(from_pts=max(keys)) if pts is not None and pts >= max(keys)]
            if len(set(ordered)) == len(ordered) and len(tail) == len(ordered) - last:
                self._times = ordered
                return
        decoded = [pts for pts, _ in self._decoded()] if healthy else []
        if len(decoded) != len(ordered) or not healthy:
            # Where decoding fails, frame threads lose the frames in flight as well.
            self._threads = "SLICE"
            decoded = [pts for pts, _ in self._decoded()]
        known = [pts for pts in decoded if pts is not None]
        self._seekable = len(known) == len(decoded) and all(a < b for a, b in pairwise(known))
        # Without ascending times frames are told apart by their order alone, and reading starts at the front.
        self._times = array("q", known if self._seekable else range(len(decoded)))
        lost = max(declared, len(ordered)) - len(decoded)
        if self._cut and lost > 0:
            self._warnings.append(
                f"{name} is cut off: {len(decoded)} of {declared or len(ordered)} frames were recovered."
            )
        elif lost > 0:
            self._warnings.append(f"{name}: {lost} frames cannot be decoded and were left out.")

    def _prove(self) -> None:
        """Decode the first frame: its size is the truth."""
        first = next(self._images([0]), None) if len(self._times) else None
        if first is None:
            raise RecordingError(f"{self.path.name}: none of its frames can be decoded ({self._codec}).")
        self._height, self._width = first[1].shape[:2]
        if self._side_by_side:
            if self._width % 2:
                raise RecordingError(
                    f"{self.path.name} is {self._width} pixels wide: it cannot hold two eyes side by side."
                )
            self._width //= 2
        check_size(self.path.name, self._width, self._height)

    @cached_property
    def metadata(self) -> RecordingMetadata:
        count = len(self._times)
        span = float((self._times[-1] - self._times[0]) * self._time_base) if self._seekable else 0.0
        fps = (count - 1) / span if count > 1 and span > 0 else self._declared_fps or 1.0
        return RecordingMetadata(
            kind="stereo_video" if self._side_by_side else "video",
            frame_count=count,
            width=self._width,
            height=self._height,
            fps=fps,
            duration_s=count / fps,
            stereo=self._side_by_side,
            codec=self._codec,
            camera_serial=serial_in_name(self.path) if self._side_by_side else "",
            truncated=self._cut,
            warnings=tuple(self._warnings),
            extra={
                "declared_frames": self._declared_frames,
                "declared_fps": self._declared_fps,
                "rotation": self._rotation,
            },
        )

    @cached_property
    def calibration(self) -> StereoCalibration | None:
        if not self._side_by_side:
            return None
        return find_calibration(
            self.path,
            serial_in_name(self.path),
            self._calibration_folders,
            self._width,
            self._height,
            calibration_file=self._calibration_file,
        )

    def frames(self, indices: Iterable[int] | None = None) -> Iterator[StereoFrame]:
        for index, image in self._images(range(len(self._times)) if indices is None else indices):
            left, right = image, None
            if self._side_by_side:
                left = np.ascontiguousarray(image[:, : self._width])
                right = np.ascontiguousarray(image[:, self._width : 2 * self._width])
            yield StereoFrame(index, self._timestamp_ns(index), left, right)

    def _timestamp_ns(self, index: int) -> int:
        if not self._seekable:
            return round(index * 1e9 / self.metadata.fps)
        return round(self._times[index] * self._time_base * 1_000_000_000)

    def _images(self, indices: Iterable[int]) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """Upright BGR images of ascending `indices`; jumps to a later one only where a key frame lies in between."""
        decoding: Iterator[tuple[int | None, Any]] = iter(())
        position, previous = -1, -1
        held: tuple[int, Any] | None = None
        for index in indices:
            if not previous < index < len(self._times):
                raise IndexError(f"frame {index} of {self.path.name}: indices ascend and are below {len(self._times)}")
            if position < 0 or (self._seekable and index - position > self._worth_seeking):
                decoding, held = self._numbered(index), None
            previous = index
            while held is None or held[0] < index:
                number, frame = next(decoding, (None, None))
                if number is None:
                    break
                held = (number, frame)
                position = number
            if held is not None and held[0] == index:
                yield index, self._upright(held[1])

    _worth_seeking: Final = 60  # frames; decoding on is quicker than seeking for fewer

    def _numbered(self, index: int) -> Iterator[tuple[int, Any]]:
        """(index, frame) from the key frame at or before `index` on."""
        if not self._seekable:
            yield from enumerate(frame for _, frame in self._decoded())
            return
        wanted, start = self._times[index], self._times[index] if index else None
        for attempt in (start, None):
            decoding = self._decoded(from_pts=attempt)
            first = next(decoding, None)
            # Some files seek to a key frame that lies after the wanted one; then only the front will do.
            if attempt is not None and (first is None or first[0] is None or first[0] > wanted):
                continue
            while first is not None:
                pts, frame = first
                number = bisect_left(self._times, pts) if pts is not None else len(self._times)
                if number < len(self._times) and self._times[number] == pts:
                    yield number, frame
                first = next(decoding, None)
            return

    def _decoded(self, from_pts: int | None = None) -> Iterator[tuple[int | None, Any]]:
        """(pts, frame) in presentation order; what cannot be decoded is left out."""
        import av

        container, stream = _open(self.path, self._threads)
        with container:
            if from_pts is not None:
                try:
                    container.seek(from_pts, stream=stream, backward=True)
                except av.error.FFmpegError:
                    return
            for packet in _packets(container, stream):
                try:
                    frames = packet.decode() if packet is not None else stream.codec_context.decode(None)
                except (av.error.FFmpegError, EOFError):
                    continue
                for frame in frames:
                    if not frame.is_corrupt:
                        yield frame.pts, frame

    def _upright(self, frame: Any) -> NDArray[np.uint8]:
        image: NDArray[np.uint8] = frame.to_ndarray(format="bgr24")
        rotation = int(frame.rotation)
        if rotation % 90 == 0 and rotation % 360:
            self._rotation = rotation % 360
            # The display matrix counts counter-clockwise, as numpy does.
            image = np.ascontiguousarray(np.rot90(image, rotation // 90))
        return image

    def imu(self) -> Iterator[ImuSample]:
        return iter(())

    def close(self) -> None:
        """Nothing stays open between two iterations."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _packets(container: Any, stream: Any) -> Iterator[Any]:
    """Packets to the end, the last one empty to flush the decoder; None at the end where the file breaks off."""
    import av

    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets)
        except StopIteration:
            return
        except (av.error.FFmpegError, EOFError):
            yield None
            return
        yield packet


def _open(path: Path, threads: str) -> tuple[Any, Any]:
    """The container and its first video stream."""
    import av

    name = path.name
    try:
        if path.stat().st_size == 0:
            raise RecordingError(f"{name} is empty (0 bytes).")
        container = av.open(
            f"file:{path}", options=CONTAINER_OPTIONS, timeout=OPEN_TIMEOUT_S, metadata_errors="replace"
        )
    except OSError as error:
        # PyAV's errors are OSErrors and ValueErrors too, according to their number.
        if isinstance(error, av.error.FFmpegError):
            raise RecordingError(f"{name} is not a readable video file: {error.strerror}.") from error
        raise RecordingError(f"{name} cannot be opened: {error.strerror}.") from error
    except (av.error.FFmpegError, ValueError) as error:
        raise RecordingError(f"{name} is not a readable video file.") from error
    try:
        stream = next((stream for stream in container.streams.video if not _is_cover(stream)), None)
        if stream is None:
            raise RecordingError(f"{name} holds no video stream.")
        if stream.codec_context is None:
            raise UnsupportedRecordingError(f"{name} is encoded with a codec that cannot be decoded here.")
        stream.codec_context.options = {"max_pixels": str(2 * LARGEST_EYE_PIXELS)}
        stream.thread_type = threads
        stream.codec_context.thread_count = 2
    except BaseException:
        container.close()
        raise
    return container, stream


def _is_cover(stream: Any) -> bool:
    """A still picture attached to the file, such as a title image."""
    return bool(stream.disposition & type(stream.disposition).attached_pic)
