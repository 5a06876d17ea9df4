"""Starting and steering the background work on a dataset's files: scans and preparations."""

import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import Sum

from accounts.models import User
from core.audit import record
from core.errors import ConflictError, FieldError
from core.paths import resolve_allowed
from core.work import transition
from labeling.datasets.models import Dataset, DatasetFile, Operation
from labeling.datasets.naming import DEFAULT_PATTERN
from labeling.datasets.space import require_space

USABLE = (DatasetFile.Status.READY, DatasetFile.Status.SALVAGED)


def scan_dataset(*, user: User, dataset: Dataset, path: str = "") -> Operation:
    """Look for recordings in `path`, or else the dataset's source folder, and all below it."""
    path = path or dataset.source_folder
    if not path:
        raise FieldError("path", "Give a folder, or set the dataset's source folder.")
    folder = resolve_allowed(path)
    return start_operation(user=user, dataset=dataset, kind=Operation.Kind.SCAN, parameters={"path": str(folder)})


def prepare_dataset(
    *,
    user: User,
    dataset: Dataset,
    mode: str = "copy",
    rename: str = DEFAULT_PATTERN,
    file_ids: Sequence[uuid.UUID] | None = None,
) -> Operation:
    """Bring the readable recordings in that are not prepared yet, or those of `file_ids` among them.

    mode: "copy", "link" or "register". Raises ConflictError where there is nothing to do, StorageFullError where a
    copy would not fit.
    """
    files = dataset.files.filter(status__in=USABLE, prepared_at=None)
    parameters: dict[str, Any] = {"mode": mode, "rename": rename}
    if file_ids:
        unknown = set(file_ids) - set(dataset.files.filter(pk__in=file_ids).values_list("pk", flat=True))
        if unknown:
            raise FieldError("file_ids", f"{min(unknown)} is no file of this dataset.")
        parameters["file_ids"] = [str(pk) for pk in file_ids]
        files = files.filter(pk__in=file_ids)
    if not files.exists():
        raise ConflictError("There is nothing to prepare: scan for recordings first, or all are prepared already.")
    if mode == "copy":
        needed = files.aggregate(total=Sum("size_bytes"))["total"] or 0
        require_space(settings.DATASETS_ROOT, needed, "the copies (link the recordings instead)")
    return start_operation(user=user, dataset=dataset, kind=Operation.Kind.PREPARE, parameters=parameters)


@transaction.atomic
def start_operation(
    *,
    user: User,
    dataset: Dataset,
    kind: str,
    parameters: Mapping[str, Any],
    files: Iterable[DatasetFile] | None = None,
) -> Operation:
    """Create the operation and hand it to the workers. `files` fixes what is done; None leaves it to the first step.

    Raises ConflictError while another of its kind goes over the whole dataset.
    """
    Dataset.objects.select_for_update().get(pk=dataset.pk)
    active = dataset.operations.filter(kind=kind, status__in=("pending", "running", "paused"))
    if files is None and active.exclude(parameters__has_key="uploaded").exists():
        raise ConflictError(f"Another {kind} of this dataset has not ended yet: let it end, or cancel it.")
    work_list = None if files is None else [str(file.pk) for file in files]
    operation = Operation.objects.create(
        dataset=dataset,
        kind=kind,
        parameters=dict(parameters),
        created_by=user,
        work_list=work_list,
        total=len(work_list or ()),
    )
    record(user, f"dataset.{kind}", operation, after=dict(parameters))
    return transition(operation, "start")


def control_operation(*, user: User, operation: Operation, verb: str) -> Operation:
    """pause, resume, cancel or restart; InvalidTransitionError (409) where the state does not allow it."""
    changes: dict[str, Any] = {}
    if verb == "restart":
        changes = {"cursor": 0, "result": {}}
        if "uploaded" not in operation.parameters:
            changes |= {"work_list": None, "total": 0}
    with transaction.atomic():
        operation = transition(operation, verb, **changes)
        record(user, f"operation.{verb}", operation)
    return operation
