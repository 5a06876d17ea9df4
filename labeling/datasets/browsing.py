"""What lies in the server's data folders, and what single files hold: for those who choose files without a dataset."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from django.conf import settings
from django.core.cache import cache

from core.errors import ApplicationError
from core.paths import PathError, list_folder, resolve_allowed
from labeling.datasets.finding import size_of
from labeling.datasets.probing import Probe, Prober
from pipeline.errors import PipelineError

PROBE_SECONDS: Final = 30
VALIDATE_SECONDS: Final = 90
REMEMBERED_SECONDS: Final = 600


class UnreadableError(ApplicationError):
    """A recording cannot be read; the code is the engine's."""

    status = 422

    def __init__(self, probe: Probe) -> None:
        super().__init__(probe.error)
        self.code = probe.code  # type: ignore[misc]


@dataclass(frozen=True, slots=True)
class BrowseEntry:
    """`kind` is that of a recording and empty for a folder to look into."""

    name: str
    path: str
    type: str
    kind: str
    size_bytes: int
    modified_at: datetime


@dataclass(frozen=True, slots=True)
class Browsed:
    path: str
    parent: str | None
    roots: list[str]
    entries: list[BrowseEntry]
    truncated: bool


def browse(path: str = "") -> Browsed:
    """Folders and recordings in `path`, or the data roots if it is empty. Raises PathError."""
    from pipeline.recordings import kind_of

    listing = list_folder(path)
    entries = []
    for entry in listing.entries:
        try:
            kind = kind_of(entry.path) or ""
        except (PipelineError, OSError):
            kind = "" if entry.is_folder else "unknown"
        if kind or entry.is_folder:
            type_ = "recording" if kind else "folder"
            entries.append(BrowseEntry(entry.name, str(entry.path), type_, kind, entry.size_bytes, entry.modified_at))
    return Browsed(
        path=str(listing.path or ""),
        parent=None if listing.path is None else str(listing.parent or ""),
        roots=[str(root) for root in settings.DATA_ROOTS],
        entries=entries,
        truncated=listing.truncated,
    )


def probe_file(path: str) -> Probe:
    """What the recording at a user's `path` holds; remembered until it changes. Raises PathError, UnreadableError."""
    real = resolve_allowed(path)
    with Prober(settings.CALIBRATION_FOLDERS, timeout=PROBE_SECONDS) as prober:
        probe = _remembered(real, prober)
    if probe.error:
        raise UnreadableError(probe)
    return probe


def validate_files(paths: Sequence[str]) -> list[dict[str, Any]]:
    """For each path in order: ok, kind, frame_count, truncated, warnings, and an error sentence with its code."""
    ends = time.monotonic() + VALIDATE_SECONDS
    results = []
    with Prober(settings.CALIBRATION_FOLDERS, timeout=PROBE_SECONDS) as prober:
        for path in paths:
            try:
                real = resolve_allowed(path, field="paths")
            except PathError as error:
                probe = Probe(path, error.errors["paths"][0], error.code)
            else:
                if time.monotonic() > ends:
                    probe = Probe(path, f"{real.name} was not checked: there was no time left.", "not_checked")
                else:
                    probe = _remembered(real, prober)
            results.append(
                {
                    "path": path,
                    "ok": not probe.error,
                    "kind": probe.metadata.get("kind", ""),
                    "frame_count": probe.metadata.get("frame_count"),
                    "truncated": probe.truncated,
                    "metric": probe.calibration is not None,
                    "warnings": probe.warnings,
                    "error": probe.error,
                    "code": probe.code,
                }
            )
    return results


def _remembered(path: Path, prober: Prober) -> Probe:
    try:
        facts, size = path.stat(), size_of(path)
    except OSError as error:
        return Probe(str(path), f"{path.name} cannot be read: {error.strerror}.", "recording_unreadable")
    key = f"probe:{facts.st_dev}:{facts.st_ino}:{facts.st_mtime_ns}:{size}"
    probe: Probe | None = cache.get(key)
    if probe is None or probe.path != str(path):
        probe = prober.probe(path)
        if probe.code != "recording_timeout":
            cache.set(key, probe, REMEMBERED_SECONDS)
    return probe
