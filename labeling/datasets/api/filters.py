"""What lists can be narrowed by: a whitelist."""

import django_filters
from django.db.models import Q, QuerySet

from core.models import WorkStatus
from labeling.datasets.models import Dataset, DatasetFile, Operation


class DatasetFilter(django_filters.FilterSet):
    search = django_filters.CharFilter(method="by_text", label="Part of the name or description")

    class Meta:
        model = Dataset
        fields: list[str] = []

    def by_text(self, rows: QuerySet[Dataset], name: str, value: str) -> QuerySet[Dataset]:
        return rows.filter(Q(name__icontains=value) | Q(description__icontains=value))


class DatasetFileFilter(django_filters.FilterSet):
    status = django_filters.MultipleChoiceFilter(choices=DatasetFile.Status.choices)
    kind = django_filters.CharFilter()
    metric = django_filters.BooleanFilter()
    stereo = django_filters.BooleanFilter()
    camera_serial = django_filters.CharFilter()
    sha256 = django_filters.CharFilter()
    prepared = django_filters.BooleanFilter(field_name="prepared_at", lookup_expr="isnull", exclude=True)
    duplicate = django_filters.BooleanFilter(field_name="duplicate_of", lookup_expr="isnull", exclude=True)
    search = django_filters.CharFilter(field_name="name", lookup_expr="icontains", label="Part of the name")

    class Meta:
        model = DatasetFile
        fields: list[str] = []


class OperationFilter(django_filters.FilterSet):
    dataset = django_filters.UUIDFilter(field_name="dataset_id")
    kind = django_filters.ChoiceFilter(choices=Operation.Kind.choices)
    status = django_filters.MultipleChoiceFilter(choices=WorkStatus.choices)

    class Meta:
        model = Operation
        fields: list[str] = []
