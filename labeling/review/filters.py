"""Which annotations count: the filter that statistics, review and exports share."""

import uuid
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

from django.db.models import Q, QuerySet

from core.errors import FieldError
from labeling.jobs.models import Detection, Frame

MAX_EXCLUSIONS = 100_000


@dataclass(frozen=True, slots=True)
class AnnotationFilter:
    """Leaves out classes (by number), detections, frames, and detections less confident than `min_confidence`.

    What a person confirmed counts however little confident the model was.

    Raises FieldError naming the field.
    """

    excluded_class_ids: tuple[int, ...] = ()
    excluded_annotation_ids: tuple[int, ...] = ()
    excluded_frame_ids: tuple[str, ...] = ()
    min_confidence: float = 0.0

    def __post_init__(self) -> None:
        for name in ("excluded_class_ids", "excluded_annotation_ids"):
            object.__setattr__(self, name, _sorted(name, getattr(self, name), _whole_number))
        frames = _sorted("excluded_frame_ids", self.excluded_frame_ids, _uuid)
        object.__setattr__(self, "excluded_frame_ids", frames)
        confidence = self.min_confidence
        if isinstance(confidence, bool) or not isinstance(confidence, int | float) or not 0 <= confidence <= 1:
            raise FieldError("min_confidence", f"{confidence!r} is not a number from 0 to 1.")

    def to_json(self) -> dict[str, Any]:
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Self:
        known = {field.name for field in fields(cls)}
        for name in value:
            if name not in known:
                raise FieldError(name, "there is no such filter.")
        return cls(**value)

    def detections(self, rows: QuerySet[Detection]) -> QuerySet[Detection]:
        """Those of `rows` that are not left out."""
        if self.min_confidence > 0:
            rows = rows.filter(Q(confidence__gte=self.min_confidence) | Q(confirmed_at__isnull=False))
        if self.excluded_class_ids:
            rows = rows.exclude(label_class__number__in=self.excluded_class_ids)
        if self.excluded_frame_ids:
            rows = rows.exclude(frame_id__in=self.excluded_frame_ids)
        if self.excluded_annotation_ids:
            rows = rows.exclude(pk__in=self.excluded_annotation_ids)
        return rows

    def frames(self, rows: QuerySet[Frame]) -> QuerySet[Frame]:
        return rows.exclude(pk__in=self.excluded_frame_ids) if self.excluded_frame_ids else rows


def _sorted(name: str, values: Any, check: Any) -> tuple[Any, ...]:
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise FieldError(name, "it must be a list.")
    unique = {check(name, value) for value in values}
    if len(unique) > MAX_EXCLUSIONS:
        raise FieldError(name, f"it holds more than {MAX_EXCLUSIONS:,} ids.")
    return tuple(sorted(unique))


def _whole_number(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**63:
        raise FieldError(name, f"{value!r} is not an id.")
    return value


def _uuid(name: str, value: Any) -> str:
    try:
        return str(value if isinstance(value, uuid.UUID) else uuid.UUID(value))
    except (ValueError, TypeError, AttributeError) as error:
        raise FieldError(name, f"{value!r} is not an id.") from error
