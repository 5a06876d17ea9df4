"""Looking for recordings below a folder: each file or folder that some reader may open, and nothing twice."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from django.conf import settings

from pipeline.errors import PipelineError

DEEPEST: Final = 32
MOST: Final = 100_000
LONGEST_PATH: Final = 1000


@dataclass(slots=True)
class Findings:
    """`skipped` maps what was left out to the reason, in a sentence."""

    skipped: dict[str, str] = field(default_factory=dict)

    def skip(self, path: str, reason: str) -> None:
        if len(self.skipped) < 100:
            self.skipped[path.encode("utf-8", "replace").decode()[:300]] = reason


def find_recordings(root: Path, findings: Findings) -> Iterator[Path]:
    """Yield recordings below `root` (or `root` itself) in the order of their names; hidden entries are left out.

    A folder that is a recording of its own (a stereo sequence) is not searched further. Links are followed where they
    stay below the data roots.
    """
    for number, path in enumerate(_walk(root, 0, set(), findings)):
        if number == MOST:
            findings.skip(str(root), f"Only the first {MOST:,} recordings were taken: scan its subfolders one by one.")
            return
        yield path


def _walk(path: Path, depth: int, seen: set[tuple[int, int]], findings: Findings) -> Iterator[Path]:
    kind = _kind_of(path)
    if kind is not None:
        yield path
    # Loose images may lie beside recordings; the other kinds of folders are one recording as a whole.
    is_whole = kind is not None and (kind != "images" or (path / "image_2").is_dir())
    if is_whole or not path.is_dir():
        return
    if depth == DEEPEST:
        findings.skip(str(path), f"The folder lies more than {DEEPEST} levels deep.")
        return
    facts = path.stat()
    if (facts.st_dev, facts.st_ino) in seen:
        return
    seen.add((facts.st_dev, facts.st_ino))
    try:
        with os.scandir(path) as entries:
            names = sorted(entry.name for entry in entries if not entry.name.startswith("."))
    except OSError as error:
        findings.skip(str(path), f"The folder cannot be read: {error.strerror}.")
        return
    for name in names:
        child = path / name
        if reason := _unfit(child):
            findings.skip(str(child), reason)
            continue
        yield from _walk(child, depth + 1, seen, findings)


def _unfit(path: Path) -> str:
    """Why `path` is left out; empty if it is not."""
    text = str(path)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return "The name is not valid UTF-8."
    if len(text) > LONGEST_PATH:
        return f"The path has more than {LONGEST_PATH} characters."
    if path.is_symlink():
        try:
            target = path.resolve(strict=True)
        except (OSError, RuntimeError):
            return "The link leads nowhere."
        if not any(target.is_relative_to(folder) for folder in settings.DATA_ROOTS):
            return "The link leads out of the folders this server may read."
    return ""


def _kind_of(path: Path) -> str | None:
    """The kind of reader that feels responsible."""
    from pipeline.recordings import kind_of

    try:
        return kind_of(path)
    except (PipelineError, OSError):
        return None


def state_of(path: Path) -> str:
    """Size and last change of a file, or of all files below a folder: another text after any ordinary change."""
    files = [path] if path.is_file() else [Path(place) / name for place, _, names in os.walk(path) for name in names]
    facts = [file.stat() for file in files]
    newest = max((fact.st_mtime_ns for fact in facts), default=0)
    return f"{len(facts)}:{sum(fact.st_size for fact in facts)}:{newest}"


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files below a folder."""
    if path.is_file():
        return path.stat().st_size
    return sum((Path(folder) / name).stat().st_size for folder, _, names in os.walk(path) for name in names)
