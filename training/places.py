"""Where an export lies: finished, under way, and what is only of use while it is under way."""

import fcntl
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from django.conf import settings

from pipeline.storage.journal import JournalBusyError
from training.models import TrainingDataset


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
        with (self.parts / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise JournalBusyError("The export is being written by another worker.") from error
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
