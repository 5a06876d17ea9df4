from django_filters import rest_framework as filters

from core.models import WorkStatus
from labeling.jobs.models import ProcessingJob


class JobFilter(filters.FilterSet):
    status = filters.MultipleChoiceFilter(choices=WorkStatus)
    dataset = filters.UUIDFilter(field_name="dataset_id")
    name = filters.CharFilter(lookup_expr="icontains")

    class Meta:
        model = ProcessingJob
        fields = ("status", "dataset", "name")
