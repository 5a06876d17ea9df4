"""The frames of a job as a list to choose from: the least sure, the ones with most motion, those still to look at."""

from typing import Any, ClassVar

import django_filters
from django.db.models import F, QuerySet
from django_filters.rest_framework import DjangoFilterBackend, FilterSet
from drf_spectacular.utils import extend_schema, extend_schema_view
from rest_framework.exceptions import ValidationError
from rest_framework.mixins import ListModelMixin

from core.api.filters import Ordering
from core.api.pagination import CursorPagination
from core.api.views import ApiViewSet
from labeling.jobs.models import Frame, ProcessingJob
from labeling.review import selectors
from labeling.review.api.serializers import FrameEntrySerializer


class FrameFilter(FilterSet):
    sequence = django_filters.UUIDFilter(field_name="sequence")
    min_uncertainty = django_filters.NumberFilter(field_name="uncertainty", lookup_expr="gte")
    max_uncertainty = django_filters.NumberFilter(field_name="uncertainty", lookup_expr="lte")
    to_confirm = django_filters.BooleanFilter(
        method="filter_to_confirm", label="Whether something in it was found that nobody has confirmed yet"
    )

    class Meta:
        model = Frame
        fields = ["sequence", "min_uncertainty", "max_uncertainty", "to_confirm"]

    def filter_to_confirm(self, rows: QuerySet[Frame], name: str, value: bool) -> QuerySet[Frame]:
        if value:
            return rows.filter(detection_count__gt=F("confirmed_count"))
        return rows.filter(detection_count=F("confirmed_count"))


class FrameOrdering(Ordering):
    """One field, which the cursor goes along."""

    def filter_queryset(self, request: Any, queryset: QuerySet[Any], view: Any) -> QuerySet[Any]:
        fields = self.get_ordering(request, queryset, view) or ["-uncertainty"]
        chosen = [field for field in fields if field.lstrip("-") != "pk"]
        if len(chosen) > 1:
            raise ValidationError({"ordering": ["Order by one field."]})
        field = chosen[0]
        # With the id, so that frames that are alike in it have an order too.
        view.cursor_ordering = (field, "-id" if field.startswith("-") else "id")
        return queryset.filter(**{f"{field.lstrip('-')}__isnull": False})


@extend_schema_view(
    list=extend_schema(
        operation_id="jobs_frames_list",
        summary="Frames of a job, the least sure first",
        description="Without their detections. Frames that have no uncertainty map are in no list ordered by it.",
    )
)
class FrameListViewSet(ListModelMixin, ApiViewSet):
    queryset = Frame.objects.none()
    serializer_class = FrameEntrySerializer
    pagination_class = CursorPagination
    filter_backends = (DjangoFilterBackend, FrameOrdering)
    filterset_class = FrameFilter
    ordering_fields: ClassVar[list[str]] = ["uncertainty", "motion_score", "depth_coverage", "timestamp_ns"]

    def get_queryset(self) -> QuerySet[Frame]:
        if getattr(self, "swagger_fake_view", False):
            return Frame.objects.none()
        job = self.get_scoped(ProcessingJob.objects.for_user(self.request.user), pk=self.kwargs["job_id"])
        return selectors.frame_entries(job)
