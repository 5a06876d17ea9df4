"""Room on the disk, asked for before anything large is written."""

import shutil
from pathlib import Path
from typing import ClassVar, Final

from core.errors import ApplicationError

RESERVE: Final = 512 * 1024**2
"""Bytes that are always left free, for the database."""


class StorageFullError(ApplicationError):
    code: ClassVar[str] = "disk_full"
    status: ClassVar[int] = 507


def require_space(folder: Path, needed: int, what: str) -> None:
    """Raise StorageFullError, naming `what`, unless `needed` bytes fit below `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free - RESERVE
    if needed > free:
        raise StorageFullError(f"There is no room for {what}: {max(0, free):,} bytes are free, {needed:,} are needed.")
