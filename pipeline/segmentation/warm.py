"""Models kept loaded between uses: what was used last stays longest; all of it goes when memory is wanted elsewhere.

A worker does one job after another with the same segmenter, a person clicks again and again on the same frame: neither
should wait for a model that was there a moment ago.
"""

import ctypes
import gc
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

from pipeline.segmentation import registry
from pipeline.segmentation.base import ClassSpec, Segmenter

logger = logging.getLogger(__name__)
Kept = TypeVar("Kept")

IDLE_SECONDS: Final = 600.0
SHARE_OF_MEMORY: Final = 0.4
"""Of what the machine has, that kept models may take together."""
LEAST_FREE: Final = 0.08
"""Share of the machine's memory below which nothing is kept but what is being used."""
_PAGE: Final = 4096


@dataclass(slots=True)
class _Entry(Generic[Kept]):
    value: Kept
    size_bytes: int
    used_at: float


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes of this machine and of this process. All 0 where /proc is not there: then only idle time counts."""

    total: int
    available: int
    own: int

    @classmethod
    def now(cls) -> "Memory":
        try:
            lines = Path("/proc/meminfo").read_text().splitlines()
            found = {line.partition(":")[0]: int(line.split()[1]) * 1024 for line in lines[:8]}
            own = int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE
            return cls(found["MemTotal"], found["MemAvailable"], own)
        except (OSError, KeyError, ValueError, IndexError):
            return cls(0, 0, 0)


class WarmModels(Generic[Kept]):
    """A cache by key. limit_bytes: of all that is kept (None: SHARE_OF_MEMORY); idle_s: after which a value goes.

    A value's size is what the process grew by while it was loaded. Values in use live on with whoever holds them;
    eviction only forgets them here. Used by one thread at a time; the sweep may come from another.
    """

    def __init__(
        self,
        *,
        limit_bytes: int | None = None,
        idle_s: float = IDLE_SECONDS,
        memory: Callable[[], Memory] = Memory.now,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._entries: OrderedDict[Hashable, _Entry[Kept]] = OrderedDict()
        self._limit = limit_bytes
        self._idle_s = idle_s
        self._memory = memory
        self._clock = clock
        self._lock = threading.RLock()

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: Hashable) -> bool:
        return key in self._entries

    def use(self, key: Hashable, load: Callable[[], Kept]) -> Kept:
        """The value of `key`, from `load` if it is not kept. What `load` raises is raised, and nothing is kept."""
        with self._lock:
            entry = self._entries.get(key)
            if entry is None:
                self.make_room(keep=None)
                before = self._memory().own
                value = load()
                entry = _Entry(value, max(self._memory().own - before, 0), 0.0)
                self._entries[key] = entry
            entry.used_at = self._clock()
            self._entries.move_to_end(key)
            self.make_room(keep=key)
            return entry.value

    def make_room(self, keep: Hashable | None = None) -> int:
        """Forget what is idle, then the least recently used while too much is kept or too little is free; but not
        `keep`. Gives how many were forgotten."""
        with self._lock:
            now, memory = self._clock(), self._memory()
            limit = self._limit if self._limit is not None else int(memory.total * SHARE_OF_MEMORY)
            gone = [key for key, entry in self._entries.items() if key != keep and now - entry.used_at > self._idle_s]
            left = [key for key in self._entries if key not in gone and key != keep]
            size = sum(entry.size_bytes for key, entry in self._entries.items() if key not in gone)
            free = memory.available + sum(self._entries[key].size_bytes for key in gone)
            for key in left:
                too_much = memory.total > 0 and size > limit
                too_little_free = memory.total > 0 and free < memory.total * LEAST_FREE
                if not too_much and not too_little_free:
                    break
                gone.append(key)
                size -= self._entries[key].size_bytes
                free += self._entries[key].size_bytes
            for key in gone:
                del self._entries[key]
                logger.info("forgot %s", key[0] if isinstance(key, tuple) else key)
        if gone:
            give_back()
        return len(gone)

    def clear(self) -> None:
        with self._lock:
            self._entries.clear()
        give_back()


def give_back() -> None:
    """Return freed memory to the system, as far as the C library knows how."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


_segmenters: WarmModels[Any] = WarmModels()
_sweeper: threading.Thread | None = None


def segmenter(
    name: str, classes: Sequence[ClassSpec], models_folders: Sequence[Path], variant: str = "tiny"
) -> Segmenter:
    """As `registry.load`, from what this process keeps if it is there and its files are as they were."""
    key = (name, variant, tuple(classes), tuple(models_folders), file_state(models_folders))
    found: Segmenter = _segmenters.use(key, lambda: registry.load(name, classes, models_folders, variant))
    _sweep_now_and_then()
    return found


def file_state(models_folders: Sequence[Path]) -> tuple[tuple[str, int, int], ...]:
    """Name, time and size of what lies in the models folders: weights that were replaced are loaded anew.

    What is derived from weights lies in hidden folders, and changes while they are loaded: it does not count.
    """
    found = (path for folder in models_folders for path in [*folder.glob("*"), *folder.glob("[!.]*/*.*")])
    paths = [path for path in found if path.is_file() and not path.name.startswith(".")]
    return tuple(sorted((str(path), path.stat().st_mtime_ns, path.stat().st_size) for path in paths))


def _sweep_now_and_then() -> None:
    """Let a thread forget what has become idle, though nobody asks for a model any more."""
    global _sweeper

    def sweep() -> None:
        while len(_segmenters):
            time.sleep(IDLE_SECONDS / 10)
            _segmenters.make_room()

    if _sweeper is None or not _sweeper.is_alive():
        _sweeper = threading.Thread(target=sweep, name="warm models", daemon=True)
        _sweeper.start()
