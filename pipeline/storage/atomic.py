"""Files appear whole or not at all: written under a temporary name, then moved."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray


@contextmanager
def atomic_open(path: Path, mode: str = "wb") -> Iterator[IO[Any]]:
    """Open a file that replaces `path` when the block ends well, and vanishes when it does not."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open(mode) as stream:
            yield stream
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_bytes(path: Path, content: bytes | memoryview) -> None:
    with atomic_open(path) as stream:
        stream.write(content)


def write_text(path: Path, content: str) -> None:
    write_bytes(path, content.encode())


def write_json(path: Path, value: object) -> None:
    """Write canonical JSON: keys sorted, NaN refused, so that equal values give equal bytes."""
    write_text(path, json.dumps(value, sort_keys=True, allow_nan=False, indent=1) + "\n")


def write_npy(path: Path, array: "NDArray[Any]") -> None:
    import numpy as np

    with atomic_open(path) as stream:
        np.save(stream, array, allow_pickle=False)
