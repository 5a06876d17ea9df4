"""Reads of training datasets."""

import json
from pathlib import Path
from typing import Any

from django.db.models import QuerySet

from accounts.models import User
from core.errors import ConflictError, NotFoundError
from core.models import WorkStatus
from training.models import TrainingDataset
from training.places import ExportPlace


def training_datasets(user: User) -> QuerySet[TrainingDataset]:
    """Those `user` may see, newest first, without what only a worker reads."""
    return TrainingDataset.objects.for_user(user).select_related("job", "job__dataset").defer("export_state")


def finished_folder(row: TrainingDataset) -> Path:
    """Raises ConflictError until the export is complete, NotFoundError if its files are gone."""
    if row.status != WorkStatus.COMPLETED:
        raise ConflictError(f"The export is {row.status}; there is nothing to download yet.")
    folder = ExportPlace(row).final
    if not folder.is_dir():
        raise NotFoundError("The files of this training dataset are not there any more.")
    return folder


def lineage(row: TrainingDataset) -> dict[str, Any]:
    """The content of lineage.json."""
    value: dict[str, Any] = json.loads((finished_folder(row) / "lineage.json").read_text())
    return value
