"""The class head that names what a job finds. Who keeps class heads registers here; jobs only ask.

A job holds a snapshot, {"id", "number", "name", "sha256"}: it uses that very file, or none at all.
"""

import hashlib
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from labeling.datasets.models import Dataset
from pipeline.errors import ClassHeadError


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Which class head a job uses: its id, its number within the dataset, its name, the SHA-256 of its file."""

    id: str
    number: int
    name: str
    sha256: str

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Keeper:
    """active: the class head that new jobs of a dataset use, if there is one. file: where the one of that id lies."""

    active: Callable[[Dataset], Snapshot | None]
    file: Callable[[uuid.UUID], Path | None]


_keeper = Keeper(lambda _dataset: None, lambda _pk: None)


def keep_class_heads(keeper: Keeper) -> None:
    """Register the one that keeps class heads; called in AppConfig.ready."""
    global _keeper  # one for the process, set once
    _keeper = keeper


def active_for(dataset: Dataset | None) -> Snapshot | None:
    """The class head that a new job of `dataset` uses."""
    return None if dataset is None else _keeper.active(dataset)


def verified_file(snapshot: dict[str, Any]) -> Path:
    """Its file. Raises ClassHeadError saying so if it is gone, or not what it was when the job was created."""
    name = f"The class head “{snapshot['name']}” (version {snapshot['number']})"
    path = _keeper.file(uuid.UUID(snapshot["id"]))
    if path is None or not path.is_file():
        raise ClassHeadError(f"{name} is gone: train another one, or create the job without a class head.")
    with path.open("rb") as stream:
        if hashlib.file_digest(stream, "sha256").hexdigest() != snapshot["sha256"]:
            raise ClassHeadError(f"{name} has been altered since it was trained ({path.name}): train another one.")
    return path
