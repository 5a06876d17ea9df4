"""The journal of a stage: one line per frame done, appended before anything else is told of it.

A line is whole or it is not there: a line cut by a crash is dropped on opening, and the stage continues at the first
frame without a line. Readers (the database, the next stage) keep a cursor of their own and take the lines beyond it.
Line: {"cursor": int, "state": {...}, "records": [...], "frame": {...}, "elapsed_s": float, "error": str}.
Timing never goes further.
"""

import fcntl
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from pipeline.errors import PipelineError


@dataclass(frozen=True, slots=True)
class Commit:
    """One step of a stage. `cursor` is the number of input frames done including this one; `state` is what the stage
    needs to go on from here; `frame` is what was found out about the frame as a whole, by name; `error` is set for a
    frame that was skipped, and says why."""

    cursor: int
    records: list[dict[str, Any]] = field(default_factory=list)
    state: dict[str, Any] = field(default_factory=dict)
    elapsed_s: float = 0.0
    error: str = ""
    frame: dict[str, Any] = field(default_factory=dict)

    def line(self) -> str:
        value = {
            "cursor": self.cursor,
            "records": self.records,
            "frame": self.frame,
            "state": self.state,
            "elapsed_s": round(self.elapsed_s, 6),
            "error": self.error,
        }
        return json.dumps(value, separators=(",", ":"), allow_nan=False) + "\n"


class JournalBusyError(PipelineError):
    """Another process is writing this journal: whoever holds it is still alive."""

    code = "journal_busy"


class Journal:
    """Append-only and held exclusively: a second writer gets JournalBusyError, a killed one lets go by dying."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._stream: IO[bytes] = path.open("a+b")
        try:
            fcntl.flock(self._stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._stream.close()
            raise JournalBusyError(f"{path.name} is being written by another worker.") from error
        self.errors = 0  # how many commits so far are of frames that were skipped
        self.last = self._drop_torn_tail()

    def _drop_torn_tail(self) -> Commit | None:
        last, end = None, 0
        self._stream.seek(0)
        for raw in self._stream:
            commit = _parse(raw)
            if commit is None:
                break
            last, end = commit, end + len(raw)
            self.errors += bool(commit.error)
        self._stream.seek(0, os.SEEK_END)
        self._stream.truncate(end)
        self._stream.seek(end)
        return last

    def append(self, commit: Commit) -> None:
        self._stream.write(commit.line().encode())
        self._stream.flush()
        self.last = commit
        self.errors += bool(commit.error)

    def close(self) -> None:
        self._stream.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def read_journal(path: Path, after: int = 0) -> Iterator[Commit]:
    """The whole commits beyond cursor `after`, oldest first; nothing if there is no journal yet."""
    if not path.exists():
        return
    with path.open("rb") as stream:
        for raw in stream:
            commit = _parse(raw)
            if commit is None:
                return
            if commit.cursor > after:
                yield commit


def _parse(raw: bytes) -> Commit | None:
    if not raw.endswith(b"\n"):
        return None
    try:
        return Commit(**json.loads(raw))
    except (ValueError, TypeError):
        return None
