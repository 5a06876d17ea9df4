"""Arrays and the JSON that explains them in one .npz: no pickles, nothing compressed, equal content in equal bytes."""

import json
import math
import zipfile
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ClassHeadError
from pipeline.storage.atomic import atomic_open

_META: Final = "meta"
_MOST_BYTES: Final = 1 << 30


def rounded(arrays: dict[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
    """In the precision they are stored in."""
    return {name: np.ascontiguousarray(array, dtype=np.float32) for name, array in arrays.items()}


def write(path: Path, meta: dict[str, Any], arrays: dict[str, NDArray[np.float32]]) -> None:
    """`np.load` reads it; the names are those of `arrays`, and `meta`: the JSON in UTF-8, as uint8 (n,)."""
    text = json.dumps(meta, sort_keys=True, allow_nan=False).encode()
    every = {_META: np.frombuffer(text, np.uint8), **dict(sorted(arrays.items()))}
    # savez gives every member the same date, so that nothing but the content decides about the bytes.
    with atomic_open(path) as stream:
        np.savez(stream, **cast("dict[str, Any]", every))


def read(path: Path, kind: str, version: int) -> tuple[dict[str, Any], dict[str, NDArray[np.float32]]]:
    """The JSON and the float32 arrays of a file of that kind and version; raises ClassHeadError naming the file."""
    try:
        size = path.stat().st_size
        with zipfile.ZipFile(path) as container:
            # Stored members cannot be larger than the file they are in.
            if size > _MOST_BYTES or any(each.compress_type != zipfile.ZIP_STORED for each in container.infolist()):
                raise ValueError("its members are not stored as they should be")
            if container.testzip() is not None:
                raise ValueError("a checksum is wrong")
        with np.load(path, allow_pickle=False) as content:
            arrays = {name: content[name] for name in content.files}
        meta = json.loads(arrays.pop(_META).tobytes())
    except FileNotFoundError:
        raise ClassHeadError(f"The class head {path.name} is not there.") from None
    except (OSError, ValueError, KeyError, zipfile.BadZipFile, EOFError, RuntimeError) as error:
        raise ClassHeadError(f"{path.name} is not a class head, or a damaged one: {error}.") from error
    if not isinstance(meta, dict) or meta.get("format") != kind:
        raise ClassHeadError(f"{path.name} is not a class head.")
    if meta.get("version") != version:
        raise ClassHeadError(f"{path.name} is a class head of version {meta.get('version')}; this is {version}.")
    for name, array in arrays.items():
        if array.dtype != np.float32 or not math.prod(array.shape):
            raise ClassHeadError(f"{path.name} is not a class head, or a damaged one: {name} is {array.dtype}.")
    return meta, arrays
