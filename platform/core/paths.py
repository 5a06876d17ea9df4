"""Paths that users give: only below the configured folders, symbolic links resolved first."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import ClassVar

from django.conf import settings

from core.errors import FieldError

MAX_ENTRIES = 2000


class PathError(FieldError):
    code: ClassVar[str] = "invalid_path"


@dataclass(frozen=True, slots=True)
class FolderEntry:
    name: str
    path: Path
    is_folder: bool
    size_bytes: int
    modified_at: datetime


@dataclass(frozen=True, slots=True)
class FolderListing:
    """What a folder holds, folders first; `truncated` if there was more than was read."""

    path: Path | None
    parent: Path | None
    entries: list[FolderEntry]
    truncated: bool


def resolve_allowed(path: str | os.PathLike[str], *, field: str = "path") -> Path:
    """The real path of a file or folder below DATA_ROOTS that exists, for a path a user has given.

    Raises PathError naming `field`. A path outside is refused in the same words whether or not it exists.
    """
    return _resolve(path, settings.DATA_ROOTS, field)


def resolve_stored(path: str | os.PathLike[str], *, field: str = "path") -> Path:
    """As resolve_allowed, for a path that a row holds and the user may see: it may also lie in Fovea's own media."""
    return _resolve(path, [*settings.DATA_ROOTS, settings.MEDIA_ROOT], field)


def list_folder(path: str | os.PathLike[str] = "", *, limit: int = MAX_ENTRIES, field: str = "path") -> FolderListing:
    """The entries of a folder below DATA_ROOTS, or the roots themselves if `path` is empty.

    Hidden entries and links that lead outside are left out. Raises PathError.
    """
    if not os.fspath(path):
        roots = [root for root in settings.DATA_ROOTS if root.is_dir()]
        return FolderListing(None, None, [_entry(root, str(root)) for root in roots], truncated=False)
    folder = resolve_allowed(path, field=field)
    if not folder.is_dir():
        raise PathError(field, f"{folder} is not a folder.")
    entries: list[FolderEntry] = []
    truncated = False
    try:
        with os.scandir(folder) as found:
            for item in found:
                if item.name.startswith(".") or not _is_storable(item.name):
                    continue
                if len(entries) == limit:
                    truncated = True
                    break
                target = Path(item.path).resolve() if item.is_symlink() else Path(item.path)
                if item.is_symlink() and not _is_below(target, settings.DATA_ROOTS):
                    continue
                try:
                    entries.append(_entry(target, item.name, Path(item.path)))
                except OSError:
                    continue
    except PermissionError as error:
        raise PathError(field, f"{folder} may not be read by the server.") from error
    entries.sort(key=lambda entry: (not entry.is_folder, entry.name.casefold(), entry.name))
    parent = folder.parent if _is_below(folder.parent, settings.DATA_ROOTS) else None
    return FolderListing(folder, parent, entries, truncated)


def _resolve(path: str | os.PathLike[str], roots: Iterable[Path], field: str) -> Path:
    text = os.fspath(path)
    if not text:
        raise PathError(field, "Give a path.")
    if not _is_storable(text):
        raise PathError(field, "The path holds characters that no file name can have.")
    if ".." in Path(text).parts:
        raise PathError(field, "The path must not climb with “..”.")
    roots = list(roots)
    given = Path(text)
    candidates = [given] if given.is_absolute() else [root / given for root in roots]
    try:
        inside = [real for real in (item.resolve() for item in candidates) if _is_below(real, roots)]
        found = next((real for real in inside if real.exists()), None)
    except (OSError, RuntimeError) as error:  # a name too long, links in a circle
        raise PathError(field, "The path cannot be followed.") from error
    if not inside:
        raise PathError(field, f"{text} is outside the folders this server may read (FOVEA_DATA_ROOTS).")
    if found is None:
        raise PathError(field, f"{text} does not exist.")
    return found


def _is_below(path: Path, roots: Iterable[Path]) -> bool:
    return any(path.is_relative_to(root.resolve()) for root in roots)


def _is_storable(text: str) -> bool:
    return "\x00" not in text and not any("\ud800" <= character <= "\udfff" for character in text)


def _entry(target: Path, name: str, shown: Path | None = None) -> FolderEntry:
    facts = target.stat()
    folder = target.is_dir()
    return FolderEntry(
        name=name,
        path=shown or target,
        is_folder=folder,
        size_bytes=0 if folder else facts.st_size,
        modified_at=datetime.fromtimestamp(facts.st_mtime, UTC),
    )
