"""Where exports and models lie: finished, under way, and what is only of use while they are under way."""

import fcntl
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from django.conf import settings

from pipeline.storage.journal import JournalBusyError
from training.models import ModelVersion, TrainingDataset


class ModelPlace:
    """`checkpoint`: what was trained. `labels`: what it learned from. `parts`: of use while it is being trained."""

    def __init__(self, row: ModelVersion) -> None:
        self.root = Path(settings.MODEL_VERSIONS_ROOT) / str(row.pk)
        self.checkpoint = self.root / "class_head.npz"
        self.labels = self.root / "labels.json"
        self.parts = self.root / "parts"

    @contextmanager
    def held(self) -> Iterator[None]:
        """As ExportPlace.held."""
        self.root.mkdir(parents=True, exist_ok=True)
        with _locked(self.root / "lock", "The model is being trained by another worker."):
            yield

    def clear(self) -> None:
        shutil.rmtree(self.parts, ignore_errors=True)
        for path in (self.checkpoint, self.labels):
            path.unlink(missing_ok=True)


class ExportPlace:
    """`final` appears whole, by one rename; `partial` and `parts` vanish with it."""

    def __init__(self, row: TrainingDataset) -> None:
        root = Path(settings.EXPORTS_ROOT)
        self.final = root / str(row.pk)
        self.partial = root / f".{row.pk}"
        self.parts = root / f".{row.pk}.parts"

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep a worker that lost its lease, but does not know yet, from writing the same files. JournalBusyError."""
        self.parts.mkdir(parents=True, exist_ok=True)
        with _locked(self.parts / "lock", "The export is being written by another worker."):
            yield

    def clear(self) -> None:
        """Forget an earlier attempt."""
        for folder in (self.final, self.partial):
            shutil.rmtree(folder, ignore_errors=True)
        for path in self.parts.iterdir():
            if path.name != "lock":
                path.unlink()

    def publish(self) -> None:
        self.partial.rename(self.final)
        shutil.rmtree(self.parts, ignore_errors=True)


@contextmanager
def _locked(path: Path, otherwise: str) -> Iterator[None]:
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise JournalBusyError(otherwise) from error
        yield
