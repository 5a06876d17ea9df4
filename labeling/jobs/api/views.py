"""The API of jobs."""

from typing import Any, ClassVar

from django.db.models import QuerySet
from django_filters.rest_framework import DjangoFilterBackend
from drf_spectacular.utils import extend_schema
from rest_framework.mixins import ListModelMixin, RetrieveModelMixin
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.models import Role
from core.api.etag import ETagMixin
from core.api.filters import Ordering
from core.api.idempotency import idempotent, idempotent_after
from core.api.pagination import CursorPagination
from core.api.views import ANYONE, ApiView, ApiViewSet
from core.errors import FieldError, ForbiddenError
from labeling.datasets.models import Dataset
from labeling.jobs import segmenters, selectors, services
from labeling.jobs.api import serializers
from labeling.jobs.api.filters import JobFilter
from labeling.jobs.models import LogLine, ProcessingJob


class JobViewSet(ETagMixin, ListModelMixin, RetrieveModelMixin, ApiViewSet):
    """Jobs: created, run and watched."""

    queryset = ProcessingJob.objects.all()
    serializer_class = serializers.JobSerializer
    read_serializer_class = serializers.JobSerializer
    filter_backends = (DjangoFilterBackend, Ordering)
    filterset_class = JobFilter
    ordering_fields: ClassVar[list[str]] = ["created_at", "name", "status", "started_at", "finished_at"]
    role_required: ClassVar[dict[str, Any]] = {
        "create": ANYONE,  # the role is looked up in the dataset it names
        "partial_update": Role.MANAGER,
        "destroy": Role.MANAGER,
        **dict.fromkeys(services.VERBS, Role.MANAGER),
    }

    def get_queryset(self) -> QuerySet[ProcessingJob]:
        if getattr(self, "swagger_fake_view", False):
            return ProcessingJob.objects.none()
        return selectors.jobs(self.request.user)

    def get_serializer_class(self) -> Any:
        return serializers.JobListSerializer if self.action == "list" else serializers.JobSerializer

    def _planned(self, request: Request) -> tuple[services.JobPlan, bool]:
        """The job asked for, and whether to start it at once."""
        given = serializers.JobCreateSerializer(data=request.data)
        given.is_valid(raise_exception=True)
        values = dict(given.validated_data)
        place = {name: values.pop(name) for name in serializers.PLACE_FIELDS}
        start, dataset = place.pop("start"), self._dataset(place.pop("dataset_id"))
        return services.plan_job(dataset=dataset, parameters=values, **place), start

    @extend_schema(request=serializers.JobCreateSerializer, responses={201: serializers.JobSerializer})
    @idempotent_after(_planned)
    def create(self, request: Request, prepared: tuple[services.JobPlan, bool]) -> Response:
        """Create a job. Everything that can be checked is checked now; errors name the field."""
        plan, start = prepared
        job = services.create_planned_job(user=request.user, plan=plan, start=start)
        return self._answer(job, 201, {"Location": f"/api/v1/jobs/{job.pk}"})

    @extend_schema(request=serializers.JobRenameSerializer, responses=serializers.JobSerializer)
    def partial_update(self, request: Request, pk: str) -> Response:
        """Rename it."""
        job = self.get_object()
        given = serializers.JobRenameSerializer(data=request.data)
        given.is_valid(raise_exception=True)
        services.rename_job(
            job=job, user=request.user, name=given.validated_data["name"], expected_version=self.expected_version(job)
        )
        return self._answer(job, 200)

    @extend_schema(responses={204: None})
    def destroy(self, request: Request, pk: str) -> Response:
        """Delete it; refused while it runs."""
        job = self.get_object()
        services.delete_job(job=job, user=request.user, expected_version=self.expected_version(job))
        self._row = None
        return Response(status=204)

    @extend_schema(request=None, responses={202: serializers.JobSerializer})
    @idempotent
    def start(self, request: Request, pk: str) -> Response:
        return self._move("start")

    @extend_schema(request=None, responses={202: serializers.JobSerializer})
    def pause(self, request: Request, pk: str) -> Response:
        """Stop between two frames; resuming goes on there."""
        return self._move("pause")

    @extend_schema(request=None, responses={202: serializers.JobSerializer})
    @idempotent
    def resume(self, request: Request, pk: str) -> Response:
        return self._move("resume")

    @extend_schema(request=None, responses={202: serializers.JobSerializer})
    def cancel(self, request: Request, pk: str) -> Response:
        """Stop for good; what is done is kept."""
        return self._move("cancel")

    @extend_schema(request=None, responses={202: serializers.JobSerializer})
    @idempotent
    def restart(self, request: Request, pk: str) -> Response:
        """Remove what a failed or cancelled run left and begin anew with the same parameters."""
        return self._move("restart")

    def _move(self, verb: str) -> Response:
        job = self.get_object()
        services.VERBS[verb](job=job, user=self.request.user)
        return self._answer(job, 202)

    def _answer(self, job: ProcessingJob, status: int, headers: dict[str, str] | None = None) -> Response:
        self._row = self.get_queryset().get(pk=job.pk)
        return Response(serializers.JobSerializer(self._row).data, status=status, headers=headers)

    def _dataset(self, pk: Any) -> Dataset | None:
        if pk is None:
            return None
        dataset = Dataset.objects.for_user(self.request.user).filter(pk=pk).first()
        if dataset is None:
            raise FieldError("dataset_id", f"There is no dataset {pk}.")
        if not Dataset.objects.for_user(self.request.user, Role.MANAGER).filter(pk=pk).exists():
            raise ForbiddenError(f"This needs the role {Role.MANAGER} in the dataset.")
        return dataset


class LogViewSet(ListModelMixin, ApiViewSet):
    """The log of a job, oldest first."""

    queryset = LogLine.objects.none()
    serializer_class = serializers.LogLineSerializer
    pagination_class = CursorPagination
    filter_backends = ()

    def get_queryset(self) -> QuerySet[LogLine]:
        if getattr(self, "swagger_fake_view", False):
            return LogLine.objects.none()
        job = self.get_scoped(ProcessingJob.objects.for_user(self.request.user), pk=self.kwargs["pk"])
        return job.log_lines.order_by("id")


class SegmentersView(ApiView):
    """Which segmenters can run here, and what the others need."""

    @extend_schema(responses=serializers.SegmenterSerializer(many=True))
    def get(self, request: Request) -> Response:
        return Response(serializers.SegmenterSerializer(segmenters.statuses(), many=True).data)
