"""What lists of training datasets may be filtered by."""

import django_filters
from django_filters.rest_framework import FilterSet

from core.models import WorkStatus
from training.models import TrainingDataset


class TrainingDatasetFilter(FilterSet):
    job = django_filters.UUIDFilter(field_name="job")
    dataset = django_filters.UUIDFilter(field_name="job__dataset")
    status = django_filters.ChoiceFilter(choices=WorkStatus.choices)
    export_format = django_filters.ChoiceFilter(field_name="format", choices=TrainingDataset.Format.choices)
    search = django_filters.CharFilter(field_name="name", lookup_expr="icontains")

    class Meta:
        model = TrainingDataset
        fields = ["job", "dataset", "status", "export_format", "search"]
