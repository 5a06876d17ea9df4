"""Files appear whole or not at all: written under a temporary name, then moved."""

import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray


@contextmanager
def atomic_open(path: Path, mode: str = "wb", *, shared: bool = False) -> Iterator[IO[Any]]:
    """Open a file that replaces `path` when the block ends well, and vanishes when it does not.

    A path has one writer (stages hold their journal's lock), so the temporary name is always the same: what a killed
    writer left is overwritten by the one that goes on. Say `shared` where several may write the same path at once.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    owner = f".{os.getpid()}-{threading.get_ident()}" if shared else ""
    temporary = path.with_name(f".{path.name}{owner}.tmp")
    try:
        with temporary.open(mode) as stream:
            yield stream
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_bytes(path: Path, content: bytes | memoryview, *, shared: bool = False) -> None:
    with atomic_open(path, shared=shared) as stream:
        stream.write(content)


def write_text(path: Path, content: str, *, shared: bool = False) -> None:
    write_bytes(path, content.encode(), shared=shared)


def write_json(path: Path, value: object, *, shared: bool = False) -> None:
    """Write canonical JSON: keys sorted, NaN refused, so that equal values give equal bytes."""
    write_text(path, json.dumps(value, sort_keys=True, allow_nan=False, indent=1) + "\n", shared=shared)


def write_npy(path: Path, array: "NDArray[Any]") -> None:
    import numpy as np

    with atomic_open(path) as stream:
        np.save(stream, array, allow_pickle=False)
