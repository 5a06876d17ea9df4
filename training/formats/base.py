"""What every format is written from: frames and annotations as plain values, and the folder they go to."""

import errno
import hashlib
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, ClassVar, Final, Protocol

from pipeline.errors import ConfigurationError, PipelineError

if TYPE_CHECKING:
    from training.formats.masks import CroppedMask

SPLITS: Final = ("train", "val", "test")
FORMATS: Final = ("kitti", "coco")
SEGMENTATIONS: Final = ("rle", "polygons")
MANIFEST: Final = "manifest-sha256.txt"


class ExportError(PipelineError):
    """A training dataset cannot be written; the message names the file."""

    code = "export_failed"


@dataclass(frozen=True, slots=True)
class ExportClass:
    """A label class; `id` counts from 1 and becomes COCO's category id."""

    id: int
    name: str


@dataclass(frozen=True, slots=True)
class Box3D:
    """KITTI conventions: location is the centre of the bottom face, rectified left camera, metres; radians about +Y."""

    location: tuple[float, float, float]
    dimensions_hwl: tuple[float, float, float]
    rotation_y: float


@dataclass(frozen=True, slots=True)
class ExportAnnotation:
    """One object in one frame. bbox_xywh in pixels; area in mask pixels, 0 without a mask.

    `mask_path` is a full-frame PNG (0 and 255) that shows exactly `mask`; where there is no such file, it is drawn.
    """

    class_id: int
    class_name: str
    bbox_xywh: tuple[float, float, float, float]
    confidence: float
    area: int = 0
    mask: "CroppedMask | None" = None
    mask_path: str | None = None
    box: Box3D | None = None
    truncated: float = 0.0
    occluded: int = 0
    track_id: int | None = None


@dataclass(frozen=True, slots=True)
class ExportFrame:
    """One frame and the files that belong to it, each a path or None where there is none.

    gravity: unit vector pointing down in the camera, along which 3D boxes stand; None: along the camera's +Y.
    """

    sequence: str
    number: int
    timestamp_ns: int
    width: int
    height: int
    image: str
    gravity: Sequence[float] | None = None
    depth: str | None = None
    calib: str | None = None
    velodyne: str | None = None
    annotations: Sequence[ExportAnnotation] = ()


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """What goes in. segmentation: how COCO holds masks. Raises ConfigurationError naming the field."""

    include_masks: bool = True
    include_depth: bool = True
    include_3d_boxes: bool = True
    include_velodyne: bool = False
    segmentation: str = "rle"

    def __post_init__(self) -> None:
        if self.segmentation not in SEGMENTATIONS:
            raise ConfigurationError("segmentation", f"{self.segmentation!r} is not one of {', '.join(SEGMENTATIONS)}.")


class ExportFolder:
    """The folder an export is written to. Each file is hashed as it goes in; the manifest lists them (`sha256sum -c`).

    Files of the job are hard-linked, so an export costs no space; stages replace files rather than change them, so an
    export keeps what it was given. Across file systems they are copied. Going on at `state` forgets what came after it.
    """

    def __init__(self, root: Path, state: dict[str, Any] | None = None) -> None:
        self.root = root
        root.mkdir(parents=True, exist_ok=True)
        self._prefix = f"{root}/"
        self._folders: set[str] = set()
        self._hashes: dict[str, tuple[str, int]] = {}
        self.size_bytes: int = (state or {}).get("size_bytes", 0)
        self._manifest = open_at(root / MANIFEST, (state or {}).get("manifest_bytes", 0))

    def state(self) -> dict[str, Any]:
        self._manifest.flush()
        return {"manifest_bytes": self._manifest.tell(), "size_bytes": self.size_bytes}

    def forget_sources(self) -> None:
        """Call after each batch: its files are not linked again."""
        self._hashes.clear()

    def link(self, source: str, relative: str) -> None:
        """Put the file `source` in as `relative`. Raises ExportError if it cannot be read."""
        if not self.link_if_there(source, relative):
            raise _unreadable(source, os.strerror(errno.ENOENT))

    def link_if_there(self, source: str, relative: str) -> bool:
        """As `link`; False if there is no file `source`."""
        try:
            _link(source, self._target(relative))
            known = self._hashes.get(source)
            if known is None:
                known = self._hashes[source] = _hash(source)
        except FileNotFoundError:
            return False
        except OSError as error:
            raise _unreadable(source, error.strerror or str(error)) from error
        self._record(relative, *known)
        return True

    def write(self, relative: str, content: bytes) -> None:
        target = self._target(relative)
        try:
            handle = os.open(target, _NEW_FILE, 0o666)
        except FileExistsError:
            # Never through a link: what was there may be the job's own file.
            os.unlink(target)  # noqa: PTH108 - Path costs as much as the work here
            handle = os.open(target, _NEW_FILE, 0o666)
        with open(handle, "wb", buffering=0) as stream:  # noqa: PTH123
            stream.write(content)
        self._record(relative, hashlib.sha256(content).hexdigest(), len(content))

    def add(self, relative: str) -> None:
        """Record a file that was written in place."""
        self._record(relative, *_hash(self._target(relative)))

    def close(self) -> None:
        self._manifest.close()

    def _target(self, relative: str) -> str:
        folder = relative.rpartition("/")[0]
        if folder not in self._folders:
            (self.root / folder).mkdir(parents=True, exist_ok=True)
            self._folders.add(folder)
        return self._prefix + relative

    def _record(self, relative: str, digest: str, size: int) -> None:
        self._manifest.write(f"{digest}  {relative}\n".encode())
        self.size_bytes += size


Placed = tuple[ExportFrame, str, int]
"""A frame, its split, and its number within the split (from 0)."""


class Writer(Protocol):
    """Writes frames as they come. `state` is plain JSON with which a writer of the same folder goes on after a kill."""

    name: ClassVar[str]

    def write(self, batch: Sequence[Placed]) -> None:
        """Write some frames, each to its place; writing one again replaces it."""
        ...

    def state(self) -> dict[str, Any]:
        """Bring everything to disk and say where that is."""
        ...

    def finish(self) -> None:
        """Write what can only be written at the end. To be called once."""
        ...


def open_at(path: Path, offset: int) -> IO[bytes]:
    """Open a file to append to, cut to its first `offset` bytes. Raises ExportError if it is shorter than that."""
    path.parent.mkdir(parents=True, exist_ok=True)
    stream = path.open("a+b")
    if stream.seek(0, os.SEEK_END) < offset:
        stream.close()
        raise ExportError(f"{path.name} is shorter than it was: something else changed the export folder; restart it.")
    stream.truncate(offset)
    stream.seek(offset)
    return stream


_NEW_FILE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0)


def _unreadable(source: str, reason: str) -> ExportError:
    return ExportError(f"{'/'.join(Path(source).parts[-3:])} cannot be exported: {reason}.")


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except FileExistsError:
        os.unlink(target)  # noqa: PTH108
        _link(source, target)
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP):
            raise
        shutil.copyfile(source, target)


def _hash(path: str) -> tuple[str, int]:
    """(SHA-256 in hex, size in bytes)."""
    handle = os.open(path, os.O_RDONLY)
    try:
        # Most files are small, and a buffer of a megabyte costs more than reading them.
        content = os.read(handle, _SMALL)
        digest, size = hashlib.sha256(content), len(content)
        if size == _SMALL:
            while content := os.read(handle, _BLOCK):
                digest.update(content)
                size += len(content)
    finally:
        os.close(handle)
    return digest.hexdigest(), size


_SMALL: Final = 1 << 16
_BLOCK: Final = 1 << 20
