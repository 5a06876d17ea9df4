"""Writes that lose nothing: a change is made to the version it was meant for, or not at all."""

from typing import Any, TypeVar

from django.db import transaction
from django.db.models import F
from django.utils import timezone

from core.errors import StaleError
from core.models import VersionedModel

Row = TypeVar("Row", bound=VersionedModel)


@transaction.atomic
def save_versioned(row: Row, expected_version: int | None = None, **changes: Any) -> Row:
    """Write `changes` to `row` and raise its version, in one conditional UPDATE; `row` is brought up to date.

    With `expected_version`, raises StaleError if the row has another version by now. The fields changed are validated
    (django.core.exceptions.ValidationError names them).
    """
    model = type(row)
    for name, value in changes.items():
        setattr(row, name, value)
    row.clean_fields(exclude={field.name for field in model._meta.fields} - set(changes))
    row.validate_constraints(exclude={field.name for field in model._meta.fields} - set(changes))
    rows = model._base_manager.filter(pk=row.pk)
    if expected_version is not None:
        rows = rows.filter(version=expected_version)
    written = {name: getattr(row, name) for name in changes}
    if any(field.name == "updated_at" for field in model._meta.fields):
        written["updated_at"] = row.updated_at = timezone.now()  # type: ignore[attr-defined]
    if not rows.update(version=F("version") + 1, **written):
        raise StaleError("It was changed by someone else meanwhile.")
    row.version = model._base_manager.values_list("version", flat=True).get(pk=row.pk)
    return row
