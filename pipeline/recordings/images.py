"""A folder of images as a recording, in natural order of their names (`2.png` before `10.png`)."""

import re
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from pipeline.errors import RecordingError
from pipeline.recordings.base import ImuSample, RecordingMetadata, StereoFrame
from pipeline.recordings.limits import LARGEST_EYE_PIXELS
from pipeline.stereo.calibration import StereoCalibration

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SUFFIXES: Final = frozenset((".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"))
FORMATS: Final = ("PNG", "JPEG", "BMP", "TIFF", "WEBP")
ASSUMED_FPS: Final = 10.0
_ENDINGS: Final = {"PNG": b"IEND\xaeB`\x82", "JPEG": b"\xff\xd9"}
_ORIENTATION: Final = 0x0112
_DIGITS: Final = re.compile(r"(\d+)")


def natural_key(path: Path) -> tuple[tuple[int, int | str], ...]:
    """Sort key that compares runs of digits by their value."""
    parts = _DIGITS.split(path.name.lower())
    return tuple((0, int(part)) if part.isdigit() else (1, part) for part in parts if part)


def list_images(folder: Path) -> list[Path]:
    """The image files directly in `folder`, naturally sorted; hidden ones are left out."""
    files = (path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and not path.name.startswith("."))
    return sorted((path for path in files if path.is_file()), key=natural_key)


def refuse_links_outside(folder: Path, files: Iterable[Path]) -> None:
    """Raise RecordingError if one of `files`, all in the recording `folder`, is really outside the folder's parent.

    Who may open a recording may not thereby read whatever a link in it leads to; to its neighbours a link may lead, as
    those of a split into sequences do.
    """
    root = folder.resolve().parent
    for file in files:
        try:
            inside = file.resolve().is_relative_to(root)
        except (OSError, RuntimeError):  # links in a circle
            inside = False
        if not inside:
            name = file.relative_to(folder).as_posix()
            raise RecordingError(f"{folder.name}: {name} is a link that leads out of the recording's folder.")


def image_size(path: Path) -> tuple[int, int]:
    """(width, height) as displayed, from the header; of a file without its proper end only if it decodes all the same.

    Raises RecordingError if it is no image of a known format, too large, or broken.
    """
    from PIL import Image

    try:
        # Pillow warns of every oddity in a header; what matters is whether the image can be read.
        with warnings.catch_warnings(action="ignore"), Image.open(path, formats=FORMATS) as image:
            width, height = image.size
            if image.format in ("JPEG", "TIFF", "PNG", "WEBP") and image.getexif().get(_ORIENTATION, 1) in (5, 6, 7, 8):
                width, height = height, width
            kind = image.format or ""
    except Image.DecompressionBombError as error:
        raise RecordingError(f"{path.name} is larger than the limit: {error}.") from error
    except Exception as error:  # a broken file makes Pillow raise anything
        raise RecordingError(f"{path.name} is not a readable image.") from error
    if width * height > LARGEST_EYE_PIXELS:
        limit = LARGEST_EYE_PIXELS // 1_000_000
        raise RecordingError(f"{path.name} has {width}x{height} pixels, more than the {limit} megapixels allowed.")
    if not _ends_properly(path, kind):
        read_image(path)
    return width, height


def _ends_properly(path: Path, kind: str) -> bool:
    """Whether the last bytes are the format's end mark (formats without one count as cut, to be on the safe side)."""
    if kind not in _ENDINGS:
        return False
    with path.open("rb") as stream:
        stream.seek(max(0, path.stat().st_size - 64))
        return _ENDINGS[kind] in stream.read()


def read_image(path: Path) -> "NDArray[np.uint8]":
    """The image upright as uint8 BGR (H, W, 3); call `image_size` first. Raises RecordingError."""
    import cv2
    import numpy as np

    try:
        image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    except cv2.error as error:
        raise RecordingError(f"{path.name} cannot be decoded.") from error
    if image is None:
        raise RecordingError(f"{path.name} cannot be decoded.")
    return np.asarray(image, np.uint8)


def times_of(files: Sequence[Path], fps: float) -> list[int]:
    """Nanoseconds: the names themselves where they are such times (16 digits and more, ascending), else by `fps`."""
    if files and all(path.stem.isdigit() and len(path.stem) >= 16 for path in files):
        times = [int(path.stem) for path in files]
        if all(a < b for a, b in pairwise(times)) and times[-1] < 1 << 63:
            return times
    return [round(index * 1e9 / fps) for index in range(len(files))]


def measured_fps(times: Sequence[int], fallback: float) -> float:
    span = times[-1] - times[0] if times else 0
    return (len(times) - 1) * 1e9 / span if span > 0 else fallback


class ImagesRecording:
    """The images of one folder, one eye. Those that are broken, or of another size than most, are left out and counted.

    Raises RecordingError if the folder holds no readable image, or a link that leads out of it.
    """

    def __init__(self, path: Path, *, fps: float = ASSUMED_FPS) -> None:
        self.path = path
        if not path.is_dir():
            raise RecordingError(f"{path.name} is not a folder of images.")
        files = list_images(path)
        refuse_links_outside(path, files)
        sizes: dict[Path, tuple[int, int]] = {}
        fault = ""
        for file in files:
            try:
                sizes[file] = image_size(file)
            except RecordingError as error:
                fault = fault or str(error)
        if not sizes:
            raise RecordingError(f"{path.name} holds no readable image.{' ' + fault if fault else ''}")
        self._size = Counter(sizes.values()).most_common(1)[0][0]
        self._files = [file for file in sizes if sizes[file] == self._size]
        self._times = times_of(self._files, fps)
        self._fps = measured_fps(self._times, fps)
        self._warnings = []
        if broken := len(files) - len(sizes):
            others = f" and {broken - 1} more" if broken > 1 else ""
            self._warnings.append(f"{path.name}: {fault.rstrip('.')}{others}; left out.")
        if odd := len(sizes) - len(self._files):
            width, height = self._size
            self._warnings.append(f"{path.name}: {odd} images are not of {width}x{height} pixels and were left out.")

    @cached_property
    def metadata(self) -> RecordingMetadata:
        return RecordingMetadata(
            kind="images",
            frame_count=len(self._files),
            width=self._size[0],
            height=self._size[1],
            fps=self._fps,
            duration_s=len(self._files) / self._fps,
            stereo=False,
            codec=self._files[0].suffix.lower().lstrip("."),
            warnings=tuple(self._warnings),
        )

    @property
    def calibration(self) -> StereoCalibration | None:
        return None

    def frames(self, indices: Iterable[int] | None = None) -> Iterator[StereoFrame]:
        for index in range(len(self._files)) if indices is None else indices:
            refuse_links_outside(self.path, (self._files[index],))
            try:
                image = read_image(self._files[index])
            except RecordingError:
                continue
            yield StereoFrame(index, self._times[index], image)

    def imu(self) -> Iterator[ImuSample]:
        return iter(())

    def close(self) -> None:
        """Nothing stays open between two images."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
