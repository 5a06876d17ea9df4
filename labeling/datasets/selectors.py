"""What is read of datasets; each is scoped to what the user may see."""

from typing import Any

from django.db.models import Count, F, OuterRef, Q, QuerySet, Subquery, Sum
from django.db.models.functions import Coalesce

from accounts.models import User
from core.work import status_payload
from labeling.datasets.models import (
    Calibration,
    Dataset,
    DatasetFile,
    DatasetQuerySet,
    LabelClass,
    Membership,
    Operation,
    Upload,
)


def datasets(user: User) -> DatasetQuerySet:
    """The user's datasets with `role`, `file_count`, `frame_count`, `size_bytes`, `class_count`, `member_count`."""
    own = Membership.objects.filter(user=user, dataset=OuterRef("pk")).values("role")
    return (
        Dataset.objects.for_user(user)
        .select_related("created_by")
        .annotate(
            role=Subquery(own[:1]),
            file_count=_per_dataset(DatasetFile, Count("pk")),
            ready_count=_per_dataset(DatasetFile, Count("pk", filter=Q(status__in=("ready", "salvaged")))),
            broken_count=_per_dataset(DatasetFile, Count("pk", filter=Q(status__in=("broken", "missing")))),
            frame_count=_per_dataset(DatasetFile, Sum("frame_count")),
            size_bytes=_per_dataset(DatasetFile, Sum("size_bytes")),
            class_count=_per_dataset(LabelClass, Count("pk")),
            member_count=_per_dataset(Membership, Count("pk")),
        )
    )


def _per_dataset(model: Any, aggregate: Any) -> Coalesce:
    """A correlated aggregate: joins of several to-many relations would multiply one another's rows."""
    rows = model.objects.filter(dataset=OuterRef("pk")).order_by().values("dataset")
    return Coalesce(Subquery(rows.annotate(value=aggregate).values("value")), 0)


def files(dataset: Dataset) -> QuerySet[DatasetFile]:
    return dataset.files.defer("metadata")


def file_totals(dataset: Dataset) -> dict[str, Any]:
    """Numbers for the head of the dataset's page, in one query."""
    usable = Q(status__in=("ready", "salvaged"))
    return dataset.files.aggregate(
        files=Count("pk"),
        usable=Count("pk", filter=usable),
        found=Count("pk", filter=Q(status="found")),
        broken=Count("pk", filter=Q(status__in=("broken", "missing"))),
        metric_files=Count("pk", filter=usable & Q(metric=True)),
        prepared=Count("pk", filter=Q(prepared_at__isnull=False)),
        duplicates=Count("pk", filter=Q(duplicate_of__isnull=False)),
        frames=Coalesce(Sum("frame_count"), 0),
        duration_s=Coalesce(Sum("duration_s"), 0.0),
        size_bytes=Coalesce(Sum("size_bytes"), 0),
    )


def members(dataset: Dataset) -> QuerySet[Membership]:
    return dataset.memberships.select_related("user").order_by("user__email")


def classes(dataset: Dataset) -> QuerySet[LabelClass]:
    return dataset.label_classes.order_by("number")


def catalogue() -> QuerySet[LabelClass]:
    return LabelClass.objects.filter(dataset=None).order_by("number")


def calibrations(dataset: Dataset) -> QuerySet[Calibration]:
    return dataset.calibrations.annotate(file_count=Count("files"))


def operations(user: User) -> QuerySet[Operation]:
    visible = Dataset.objects.for_user(user)
    return Operation.objects.filter(dataset__in=visible).select_related("dataset", "created_by").defer("work_list")


def operation_state(operation: Operation) -> dict[str, Any]:
    """What a listener is told first."""
    return {**status_payload(operation), "cursor": operation.cursor, "total": operation.total}


def active_operations(dataset: Dataset) -> QuerySet[Operation]:
    return dataset.operations.filter(status__in=("pending", "running", "paused")).defer("work_list")


def uploads(user: User, dataset: Dataset) -> QuerySet[Upload]:
    return Upload.objects.filter(dataset=dataset, user=user)


def unfinished_uploads(user: User, dataset: Dataset) -> QuerySet[Upload]:
    return uploads(user, dataset).filter(finished_at=None).exclude(offset=F("length"))
