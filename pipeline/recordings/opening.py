"""Chooses the reader for a path. Nothing heavy is imported before a recording is opened."""

import hashlib
import importlib.util
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final, get_args

from pipeline.errors import RecordingError, UnsupportedRecordingError
from pipeline.recordings.base import Kind, Recording, RecordingMetadata

SVO_SUFFIXES: Final = frozenset((".svo", ".svo2"))
VIDEO_SUFFIXES: Final = frozenset((".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm"))
STEREO_WORDS: Final = ("_sbs", "-sbs", ".sbs", "side_by_side", "side-by-side", "sidebyside", "stereo", "_lr.", "-lr.")
PLAUSIBLE_EYE: Final = (1.2, 2.4)
"""Width over height of one eye in a side-by-side video: from 5:4 to a little more than 21:9."""
_BLOCK: Final = 1 << 20


def kind_of(path: Path) -> Kind | None:
    """What a path is, by its name and neighbours alone, without opening it; None for what is no recording.

    - `.svo2` and `.svo`: "svo2". - Video files: "stereo_video" if the name says so (`side_by_side`, `stereo`, `_sbs`,
    `_lr`) or a calibration made for it
      lies beside it (`<name>.conf`, `<name>.calibration.json`, or the `SN<serial>.conf` its name mentions); else
      "video".
    - Folders: "stereo_images" for KITTI, EuRoC or left/right; "images" where images lie in them (or in `image_2`
    alone).
    """
    from pipeline.recordings.images import SUFFIXES
    from pipeline.recordings.stereo_images import euroc_root, image_folders

    suffix = path.suffix.lower()
    try:
        if path.is_dir():
            if euroc_root(path) is not None or image_folders(path) is not None:
                return "stereo_images"
            folder = path / "image_2" if (path / "image_2").is_dir() else path
            return "images" if any(entry.suffix.lower() in SUFFIXES for entry in folder.iterdir()) else None
    except OSError:
        return None
    if suffix in SVO_SUFFIXES:
        return "svo2"
    if suffix in VIDEO_SUFFIXES:
        return "stereo_video" if _says_stereo(path) else "video"
    return None


def _says_stereo(path: Path) -> bool:
    from pipeline.stereo.calibration_files import serial_in_name

    names = [f"{path.stem}.conf", f"{path.stem}.calibration.json", f"{path.name}.calibration.json"]
    if serial := serial_in_name(path):
        names.append(f"SN{serial}.conf")
    return any(word in path.name.lower() for word in STEREO_WORDS) or any(
        (path.parent / name).is_file() for name in names
    )


def open_recording(
    path: Path,
    *,
    kind: Kind | None = None,
    calibration_file: Path | None = None,
    calibration_folders: Iterable[Path] = (),
    prefer_sdk: bool = True,
) -> Recording:
    """Open a recording with the reader of its kind (`kind_of` by default; a given one decides).

    SVO files are read through the ZED SDK where that is installed and `prefer_sdk` is set, and without it otherwise; if
    the SDK fails on a file, the reader without it tries as well. A video that only seems to be side by side (its halves
    have an implausible shape, or are odd) is opened as "video". Raises RecordingError, UnsupportedRecordingError.
    """
    path = Path(path)
    if not path.exists():
        raise RecordingError(f"{path.name} does not exist.")
    if kind is not None and kind not in get_args(Kind):
        raise RecordingError(f"unknown kind of recording {kind!r}: expected one of {', '.join(get_args(Kind))}.")
    chosen = kind or kind_of(path)
    if chosen is None:
        if path.is_dir():
            raise UnsupportedRecordingError(f"{path.name} is a folder without images or stereo pairs.")
        if path.stat().st_size == 0:
            raise RecordingError(f"{path.name} is empty (0 bytes).")
        raise UnsupportedRecordingError(
            f"{path.name} is no recording: expected .svo2, .mp4, .mov, .avi, .mkv, .webm or a folder of images."
        )
    folders = tuple(calibration_folders)
    openers: dict[Kind, Callable[[], Recording]] = {
        "svo2": lambda: _open_svo(path, calibration_file, folders, sdk=prefer_sdk and kind is None),
        "zed": lambda: _open_zed(path, calibration_file, folders),
        "stereo_video": lambda: _open_stereo_video(path, calibration_file, folders, certain=kind is not None),
        "video": lambda: _open_video(path),
        "stereo_images": lambda: _open_stereo_images(path, calibration_file, folders),
        "images": lambda: _open_images(path),
    }
    return openers[chosen]()


def probe(
    path: Path,
    *,
    kind: Kind | None = None,
    calibration_file: Path | None = None,
    calibration_folders: Iterable[Path] = (),
    prefer_sdk: bool = True,
) -> RecordingMetadata:
    """The metadata of a recording; arguments and errors are those of `open_recording`."""
    with open_recording(
        path,
        kind=kind,
        calibration_file=calibration_file,
        calibration_folders=calibration_folders,
        prefer_sdk=prefer_sdk,
    ) as recording:
        return recording.metadata


def fingerprint(path: Path) -> str:
    """SHA-256 in hexadecimal: of a file's bytes, or of a folder's sorted relative names, each with its file's SHA-256.

    Raises RecordingError if something cannot be read. Links are not followed out of a folder.
    """
    path = Path(path)
    try:
        if not path.is_dir():
            return _sha256(path)
        digest = hashlib.sha256()
        files = (file for file in path.rglob("*") if file.is_file() and not file.is_symlink())
        for name, file in sorted((file.relative_to(path).as_posix(), file) for file in files):
            digest.update(name.encode("utf-8", "surrogateescape") + b"\0" + bytes.fromhex(_sha256(file)))
        return digest.hexdigest()
    except OSError as error:
        raise RecordingError(f"{path.name} cannot be read: {error.strerror}.") from error


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def sdk_available() -> bool:
    """Whether `pyzed.sl` of the ZED SDK is installed (PyPI's `pyzed` is something else and has no `sl`)."""
    try:
        return importlib.util.find_spec("pyzed.sl") is not None
    except (ImportError, ValueError):
        return False


def _open_svo(path: Path, calibration: Path | None, folders: tuple[Path, ...], *, sdk: bool) -> Recording:
    from pipeline.recordings.svo2 import Svo2Recording

    fault: RecordingError | None = None
    if sdk and sdk_available():
        try:
            return _open_zed(path, calibration, folders)
        except RecordingError as error:
            fault = error
    try:
        return Svo2Recording(path, calibration_file=calibration, calibration_folders=folders)
    except RecordingError as error:
        raise error from fault


def _open_zed(path: Path, calibration: Path | None, folders: tuple[Path, ...]) -> Recording:
    from pipeline.recordings.zed import ZedRecording

    return ZedRecording(path, calibration_file=calibration, calibration_folders=folders)


def _open_stereo_video(path: Path, calibration: Path | None, folders: tuple[Path, ...], *, certain: bool) -> Recording:
    from pipeline.recordings.video import VideoRecording

    try:
        recording = VideoRecording(path, side_by_side=True, calibration_file=calibration, calibration_folders=folders)
    except RecordingError:
        if certain:
            raise
        return VideoRecording(path)
    narrowest, widest = PLAUSIBLE_EYE
    if certain or narrowest <= recording.metadata.width / recording.metadata.height <= widest:
        return recording
    recording.close()
    return VideoRecording(path)


def _open_video(path: Path) -> Recording:
    from pipeline.recordings.video import VideoRecording

    return VideoRecording(path)


def _open_stereo_images(path: Path, calibration: Path | None, folders: tuple[Path, ...]) -> Recording:
    from pipeline.recordings.stereo_images import StereoImagesRecording

    return StereoImagesRecording(path, calibration_file=calibration, calibration_folders=folders)


def _open_images(path: Path) -> Recording:
    from pipeline.recordings.images import ImagesRecording

    return ImagesRecording(path / "image_2" if (path / "image_2").is_dir() else path)
