"""Changes to datasets, their members, classes and files. Each is one transaction with its audit entry."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from django.db import transaction
from django.db.models import Max
from django.utils import timezone

from accounts.models import Role, User
from core.audit import record
from core.errors import ConflictError, FieldError, ForbiddenError, NotFoundError
from core.models import LeasedWork, WorkStatus
from core.versioning import save_versioned
from core.work import InvalidTransitionError, transition
from labeling.datasets.catalogue import PALETTE
from labeling.datasets.models import Calibration, Dataset, DatasetFile, LabelClass, Membership

ACTIVE = (WorkStatus.PENDING, WorkStatus.RUNNING, WorkStatus.PAUSED)
CLASS_FIELDS = ("name", "color", "shortcut", "text_prompt", "height_m", "width_m", "length_m", "attributes")


@transaction.atomic
def create_dataset(
    *,
    user: User,
    name: str,
    description: str = "",
    source_folder: str = "",
    classes: Sequence[Mapping[str, Any]] | None = None,
) -> Dataset:
    """Make a dataset that `user` owns, with `classes`, or else a copy of the catalogue's."""
    dataset = Dataset(name=name, description=description, source_folder=source_folder, created_by=user)
    dataset.full_clean(validate_constraints=False)
    dataset.save()
    Membership.objects.create(dataset=dataset, user=user, role=Role.OWNER)
    if classes is None:
        catalogue = LabelClass.objects.filter(dataset=None).order_by("number")
        LabelClass.objects.bulk_create(_copy_of(item, dataset) for item in catalogue)
    else:
        for item in classes:
            _add_class(dataset, **item)
    record(user, "dataset.create", dataset, after=_dataset_values(dataset))
    return dataset


def _copy_of(item: LabelClass, dataset: Dataset) -> LabelClass:
    values = {name: getattr(item, name) for name in ("number", *CLASS_FIELDS)}
    return LabelClass(dataset=dataset, **values)


@transaction.atomic
def update_dataset(*, user: User, dataset: Dataset, expected_version: int | None, **changes: Any) -> Dataset:
    before = _dataset_values(dataset)
    save_versioned(dataset, expected_version, **changes)
    record(user, "dataset.update", dataset, before=before, after=_dataset_values(dataset))
    return dataset


@transaction.atomic
def delete_dataset(*, user: User, dataset: Dataset, expected_version: int | None = None) -> None:
    """Hide the dataset from everyone and end all work on it; its rows and files stay until they are purged."""
    save_versioned(dataset, expected_version, deleted_at=timezone.now())
    for operation in dataset.operations.filter(status__in=ACTIVE):
        _cancel(operation)
    for job in dataset.jobs.filter(status__in=ACTIVE):
        _cancel(job)
    for job in dataset.jobs.filter(training_datasets__status__in=ACTIVE).distinct():
        for export in job.training_datasets.filter(status__in=ACTIVE):
            _cancel(export)
    record(user, "dataset.delete", dataset, before=_dataset_values(dataset))


def _cancel(row: LeasedWork) -> None:
    with suppress(InvalidTransitionError):  # it ended this very moment
        transition(row, "cancel")


def _dataset_values(dataset: Dataset) -> dict[str, Any]:
    return {name: getattr(dataset, name) for name in ("name", "description", "source_folder")}


# --- Members ---------------------------------------------------------------------------------------------------------


@transaction.atomic
def set_member(*, user: User, dataset: Dataset, member: User, role: Role) -> Membership:
    """Give `member` the `role`, new or changed. Only an owner makes or unmakes owners; one owner always stays."""
    Dataset.objects.select_for_update().get(pk=dataset.pk)
    current = Membership.objects.filter(dataset=dataset, user=member).first()
    owner_concerned = role == Role.OWNER or (current is not None and current.role == Role.OWNER)
    if owner_concerned:
        _require_owner(user, dataset)
    if current is not None and current.role == Role.OWNER and role != Role.OWNER:
        _require_another_owner(dataset, member)
    before = {"role": current.role} if current else None
    membership, _ = Membership.objects.update_or_create(dataset=dataset, user=member, defaults={"role": role})
    record(user, "member.set", membership, before=before, after={"user": str(member.pk), "role": role})
    return membership


@transaction.atomic
def remove_member(*, user: User, membership: Membership) -> None:
    """Members may leave by themselves; managers remove others, owners remove owners, and one owner always stays."""
    dataset = Dataset.objects.select_for_update().get(pk=membership.dataset_id)
    if membership.user_id != user.pk:
        require_role(user, dataset, Role.MANAGER)
    if membership.role == Role.OWNER:
        _require_owner(user, dataset)
        _require_another_owner(dataset, membership.user)
    record(user, "member.remove", membership, before={"user": str(membership.user_id), "role": membership.role})
    membership.delete()


def require_role(user: User, dataset: Dataset, role: Role) -> None:
    if not Membership.objects.filter(dataset=dataset, user=user, role__in=Role.at_least(role)).exists():
        raise ForbiddenError(f"Only a {role.label.lower()} of the dataset may do this.")


def _require_owner(user: User, dataset: Dataset) -> None:
    if not Membership.objects.filter(dataset=dataset, user=user, role=Role.OWNER).exists():
        raise ForbiddenError("Only an owner may make or unmake owners.")


def _require_another_owner(dataset: Dataset, member: User) -> None:
    if not Membership.objects.filter(dataset=dataset, role=Role.OWNER).exclude(user=member).exists():
        raise ConflictError("A dataset must keep an owner: make someone else an owner first.")


# --- Classes ---------------------------------------------------------------------------------------------------------


@transaction.atomic
def add_class(*, user: User, dataset: Dataset, expected_version: int | None = None, **values: Any) -> LabelClass:
    """Add a class under the next number (numbers are never given twice), with a colour not used yet by default."""
    save_versioned(dataset, expected_version)
    label_class = _add_class(dataset, **values)
    record(user, "class.create", label_class, after=_class_values(label_class))
    return label_class


def _add_class(dataset: Dataset, **values: Any) -> LabelClass:
    taken = dataset.label_classes.aggregate(last=Max("number"))["last"] or 0
    number = values.pop("number", None) or taken + 1
    used = set(dataset.label_classes.values_list("color", flat=True))
    free = next((color for color in PALETTE if color not in used), PALETTE[(number - 1) % len(PALETTE)])
    values["color"] = (values.get("color") or free).lower()
    label_class = LabelClass(dataset=dataset, number=number, **values)
    _save_class(label_class)
    return label_class


@transaction.atomic
def update_class(
    *, user: User, label_class: LabelClass, expected_version: int | None = None, **changes: Any
) -> LabelClass:
    dataset = label_class.dataset
    assert dataset is not None  # noqa: S101 - the catalogue is not reachable through a dataset
    save_versioned(dataset, expected_version)
    before = _class_values(label_class)
    for name, value in changes.items():
        setattr(label_class, name, value.lower() if name == "color" else value)
    _save_class(label_class)
    record(user, "class.update", label_class, before=before, after=_class_values(label_class))
    return label_class


@transaction.atomic
def delete_class(*, user: User, label_class: LabelClass, expected_version: int | None = None) -> None:
    """Delete a class that nothing is labelled with."""
    dataset = label_class.dataset
    assert dataset is not None  # noqa: S101 - the catalogue is not reachable through a dataset
    if is_class_used(label_class):
        raise ConflictError(f"Class “{label_class.name}” is in use: labels refer to it.")
    save_versioned(dataset, expected_version)
    record(user, "class.delete", label_class, before=_class_values(label_class))
    label_class.delete()


def is_class_used(label_class: LabelClass) -> bool:
    """Whether any row of any app refers to the class."""
    relations = [field for field in LabelClass._meta.get_fields(include_hidden=True) if field.one_to_many]
    return any(
        relation.related_model._base_manager.filter(**{relation.field.name: label_class}).exists()
        for relation in relations
    )


def _save_class(label_class: LabelClass) -> None:
    label_class.full_clean(validate_unique=False, validate_constraints=False)
    others = LabelClass.objects.filter(dataset=label_class.dataset).exclude(pk=label_class.pk)
    if others.filter(name__iexact=label_class.name).exists():
        raise FieldError("name", f"There is already a class “{label_class.name}”.")
    if label_class.shortcut and others.filter(shortcut=label_class.shortcut).exists():
        raise FieldError("shortcut", f"“{label_class.shortcut}” is another class's shortcut.")
    if others.filter(number=label_class.number).exists():
        raise FieldError("number", f"There is already a class with number {label_class.number}.")
    label_class.save()


def _class_values(label_class: LabelClass) -> dict[str, Any]:
    return {name: getattr(label_class, name) for name in ("number", *CLASS_FIELDS)}


# --- Files -----------------------------------------------------------------------------------------------------------


@transaction.atomic
def assign_calibration(
    *, user: User, file: DatasetFile, calibration: Calibration | None, expected_version: int | None = None
) -> DatasetFile:
    """Say by hand which calibration a recording was made with (or that none is known)."""
    if calibration is not None and calibration.dataset_id != file.dataset_id:
        raise NotFoundError("There is no such calibration in this dataset.")
    if calibration is not None and not file.stereo:
        raise FieldError("calibration", f"{file.name} has one eye only: a stereo calibration does not apply.")
    before = {"calibration": str(file.calibration_id or "")}
    save_versioned(file, expected_version, calibration=calibration, metric=calibration is not None)
    record(user, "file.calibrate", file, before=before, after={"calibration": str(file.calibration_id or "")})
    return file


@transaction.atomic
def forget_file(*, user: User, file: DatasetFile, expected_version: int | None = None) -> None:
    """Take a recording out of the dataset; what lies on disk stays. Refused while a job's results refer to it."""
    if file.sequences.filter(job__deleted_at=None).exists():
        raise ConflictError(f"{file.name} was processed by a job: delete the job first.")
    save_versioned(file, expected_version)
    record(user, "file.forget", file, before={"name": file.name, "path": file.path})
    file.delete()
