"""A finished training dataset as a ZIP that is made while it is sent."""

import os
import re
from collections.abc import Iterator
from datetime import UTC
from pathlib import Path

from django.http import StreamingHttpResponse
from zipstream import ZIP_STORED, ZipStream

from core.errors import NotFoundError
from core.media import streamed_response
from training.formats.base import MANIFEST
from training.formats.export import formats_of
from training.models import TrainingDataset
from training.selectors import finished_folder


def download(row: TrainingDataset, choice: str) -> StreamingHttpResponse:
    """The archive of one format (or "both"), its length known beforehand. Raises as `archive` does."""
    stream = archive(row, choice)
    name = re.sub(r"[^\w.-]+", "-", row.name).strip("-.") or "training-dataset"
    return streamed_response(stream, "application/zip", attachment=f"{name}-{choice}.zip", length=len(stream))


def archive(row: TrainingDataset, choice: str) -> ZipStream:
    """A ZIP of one format (or "both") with lineage and manifest, stored uncompressed; `len` is its size in bytes.

    Raises ConflictError until the export is complete, NotFoundError for a format that was not exported.
    """
    folder = finished_folder(row)
    if choice not in TrainingDataset.Format.values or not set(formats_of(choice)) <= set(formats_of(row.format)):
        raise NotFoundError(f"It was not exported as {choice}.")
    stream = ZipStream(sized=True, compress_type=ZIP_STORED)
    for name in ("lineage.json", MANIFEST):
        stream.add_path(str(folder / name), name)
    for part in formats_of(choice):
        for path in _files(folder / part):
            stream.add_path(path, os.path.relpath(path, folder))
    stream.comment = f"Fovea training dataset {row.pk}, {row.created_at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
    return stream


def _files(folder: Path) -> Iterator[str]:
    with os.scandir(folder) as found:
        entries = sorted(found, key=lambda entry: entry.name)
    for entry in entries:
        if entry.is_dir():
            yield from _files(Path(entry.path))
        else:
            yield entry.path
