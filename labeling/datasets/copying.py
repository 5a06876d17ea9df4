"""Bringing a recording into the dataset's own folder: whole or not at all, with its SHA-256, the original untouched."""

import errno
import glob
import hashlib
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, Literal

from pipeline.errors import PipelineError, RecordingError

CHUNK: Final = 4 * 1024 * 1024
BEAT_SECONDS: Final = 3.0
PART: Final = ".part"
Mode = Literal["copy", "link", "register"]


class ChangedWhileCopiedError(RecordingError):
    code = "recording_changing"


class DiskFullError(PipelineError):
    code = "disk_full"


class Beat:
    """Calls `tell` every few seconds; what it raises (Stopped) ends the work at hand."""

    def __init__(self, tell: Callable[[], None]) -> None:
        self._tell, self._last = tell, time.monotonic()

    def __call__(self) -> None:
        if time.monotonic() - self._last > BEAT_SECONDS:
            self._tell()
            self._last = time.monotonic()


def bring(source: Path, target: Path, mode: Mode, beat: Beat, attempt: int = 0) -> str:
    """Make `target` hold what `source` holds and return its SHA-256; "register" leaves it where it is.

    "link" makes a hard link where both lie on one file system and a symbolic link otherwise, and for folders.
    `attempt` (the epoch) keeps apart the temporary names of a worker and of one that was thought dead; what earlier
    ones left is removed. Raises RecordingError and DiskFullError.
    """
    if mode == "register":
        return digest(source, beat)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{attempt}{PART}")
    for leftover in target.parent.glob(f".{glob.escape(target.name)}.*{PART}"):
        remove(leftover)
    try:
        if mode == "link":
            _link(source, temporary)
            sha256 = digest(source, beat)
        elif source.is_dir():
            _copy_folder(source, temporary, beat)
            sha256 = digest(temporary, beat)
        else:
            sha256 = _copy_file(source, temporary, beat)
        if target.is_dir() and not target.is_symlink():
            shutil.rmtree(target)  # left by a run that was killed before it could say so
        temporary.replace(target)
        _sync_folder(target.parent)
    except OSError as error:
        remove(temporary)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFullError(f"The disk is full: {source.name} was not copied.") from error
        raise RecordingError(f"{source.name} cannot be copied: {error.strerror}.") from error
    except BaseException:
        remove(temporary)
        raise
    return sha256


def digest(path: Path, beat: Beat) -> str:
    """What pipeline.recordings.fingerprint gives, with a beat between two reads."""
    if path.is_file():
        state = hashlib.sha256()
        with path.open("rb") as stream:
            while chunk := stream.read(CHUNK):
                state.update(chunk)
                beat()
        return state.hexdigest()
    whole = hashlib.sha256()
    for file in _files(path):
        name = file.relative_to(path).as_posix().encode("utf-8", "surrogateescape")
        whole.update(name + b"\0" + bytes.fromhex(digest(file, beat)))
    return whole.hexdigest()


def _copy_file(source: Path, target: Path, beat: Beat) -> str:
    before = source.stat()
    state = hashlib.sha256()
    with source.open("rb") as reading, target.open("wb") as writing:
        while chunk := reading.read(CHUNK):
            state.update(chunk)
            writing.write(chunk)
            beat()
        writing.flush()
        os.fsync(writing.fileno())
    after = source.stat()
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise ChangedWhileCopiedError(f"{source.name} is still being written: prepare it again when it is complete.")
    os.utime(target, ns=(before.st_atime_ns, before.st_mtime_ns))
    return state.hexdigest()


def _copy_folder(source: Path, target: Path, beat: Beat) -> None:
    for file in _files(source):
        copy = target / file.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        _copy_file(file, copy, beat)


def _files(folder: Path) -> list[Path]:
    """Regular files below `folder` in order; links are not followed, so that nothing from outside comes along."""
    found = (Path(place) / name for place, _, names in os.walk(folder) for name in names)
    regular = (path for path in found if path.is_file() and not path.is_symlink())
    return sorted(regular, key=lambda path: path.relative_to(folder).as_posix())


def _link(source: Path, target: Path) -> None:
    if source.is_file():
        try:
            target.hardlink_to(source)
        except OSError as error:
            if error.errno not in (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EACCES):
                raise
        else:
            return
    target.symlink_to(source, target_is_directory=source.is_dir())


def remove(path: Path) -> None:
    """Delete a file, a link or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
