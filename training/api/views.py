"""Training datasets over REST."""

from typing import Any, ClassVar

from django.http import HttpResponseBase
from django_filters.rest_framework import DjangoFilterBackend
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiResponse, extend_schema, extend_schema_view
from rest_framework import mixins, status
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.models import Role
from core.api.etag import ETagMixin
from core.api.filters import Ordering
from core.api.idempotency import idempotent
from core.api.views import ApiView, ApiViewSet
from labeling.jobs.models import ProcessingJob
from training import selectors, services
from training.api.filters import TrainingDatasetFilter
from training.api.serializers import (
    TrainingDatasetChangeSerializer,
    TrainingDatasetCreateSerializer,
    TrainingDatasetDetailSerializer,
    TrainingDatasetSerializer,
    TrainingDatasetStatusSerializer,
)
from training.downloads import download
from training.models import TrainingDataset


class JobTrainingDatasetView(ApiView):
    role_required: ClassVar[dict[str, Role]] = {"post": Role.MANAGER}

    @extend_schema(
        operation_id="jobs_training_dataset_create",
        summary="Export a job's frames as a training dataset",
        request=TrainingDatasetCreateSerializer,
        responses={202: TrainingDatasetDetailSerializer},
    )
    @idempotent
    def post(self, request: Request, job_id: str) -> Response:
        job = self.get_scoped(ProcessingJob.objects.for_user(request.user), pk=job_id)
        serializer = TrainingDatasetCreateSerializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        values = {**serializer.validated_data, "filters": serializer.validated_filter()}
        row = services.create_training_dataset(user=request.user, job=job, **values)
        return Response(
            TrainingDatasetDetailSerializer(row).data,
            status=status.HTTP_202_ACCEPTED,
            headers={"Location": f"/api/v1/training-datasets/{row.pk}", "Retry-After": "1"},
        )


def _verb(name: str, summary: str) -> Any:
    def move(self: "TrainingDatasetViewSet", request: Request, pk: str) -> Response:
        row = services.move_training_dataset(user=request.user, row=self.get_object(), verb=name)
        return Response(TrainingDatasetStatusSerializer(row).data, status=status.HTTP_202_ACCEPTED)

    move.__name__ = name  # before the decorators: the router goes by it
    decorated = action(detail=True, methods=["post"], url_path=name, url_name=name)(idempotent(move))
    return extend_schema(summary=summary, request=None, responses={202: TrainingDatasetStatusSerializer})(decorated)


@extend_schema_view(
    list=extend_schema(summary="Training datasets you may see"),
    retrieve=extend_schema(summary="One training dataset"),
    partial_update=extend_schema(
        summary="Change name or description",
        request=TrainingDatasetChangeSerializer,
        responses=TrainingDatasetDetailSerializer,
    ),
    destroy=extend_schema(summary="Delete a training dataset"),
)
class TrainingDatasetViewSet(ETagMixin, mixins.ListModelMixin, mixins.RetrieveModelMixin, ApiViewSet):
    queryset = TrainingDataset.objects.all()
    serializer_class = TrainingDatasetDetailSerializer
    read_serializer_class = TrainingDatasetDetailSerializer
    filter_backends = (DjangoFilterBackend, Ordering)
    filterset_class = TrainingDatasetFilter
    ordering_fields = ("created_at", "name", "size_bytes", "status")
    lookup_value_converter = "uuid"
    role_required: ClassVar[dict[str, Role]] = {
        "partial_update": Role.MANAGER,
        "destroy": Role.MANAGER,
        "pause": Role.MANAGER,
        "resume": Role.MANAGER,
        "cancel": Role.MANAGER,
        "restart": Role.MANAGER,
    }

    def get_queryset(self) -> Any:
        rows = super().get_queryset().select_related("job")
        if self.action == "list":
            return rows.defer("filter_config", "export_state")
        return rows if self.action == "state" else rows.defer("export_state")

    def get_serializer_class(self) -> Any:
        return TrainingDatasetSerializer if self.action == "list" else self.serializer_class

    def partial_update(self, request: Request, pk: str) -> Response:
        row = self.get_object()
        serializer = TrainingDatasetChangeSerializer(row, data=request.data, partial=True)
        expected = self.expected_version(row)
        serializer.is_valid(raise_exception=True)
        row = services.update_training_dataset(
            user=request.user, row=row, expected_version=expected, **serializer.validated_data
        )
        return Response(TrainingDatasetDetailSerializer(row).data)

    def destroy(self, request: Request, pk: str) -> Response:
        row = self.get_object()
        services.delete_training_dataset(user=request.user, row=row, expected_version=self.expected_version(row))
        return Response(status=status.HTTP_204_NO_CONTENT)

    @extend_schema(summary="How far the export is", responses=TrainingDatasetStatusSerializer)
    @action(detail=True, url_path="status", url_name="status")
    def state(self, request: Request, pk: str) -> Response:
        return Response(TrainingDatasetStatusSerializer(self.get_object()).data)

    pause = _verb("pause", "Pause the export")
    resume = _verb("resume", "Go on with the export")
    cancel = _verb("cancel", "Cancel the export")
    restart = _verb("restart", "Begin the export anew")

    @extend_schema(summary="Where it comes from: the content of lineage.json", responses=OpenApiTypes.OBJECT)
    @action(detail=True)
    def lineage(self, request: Request, pk: str) -> Response:
        return Response(selectors.lineage(self.get_object()))

    @extend_schema(
        summary="Download it as a ZIP, streamed",
        responses={(200, "application/zip"): OpenApiResponse(OpenApiTypes.BINARY)},
    )
    @action(detail=True, url_path=r"download/(?P<choice>kitti|coco|both)")
    def download(self, request: Request, pk: str, choice: str) -> HttpResponseBase:
        return download(self.get_object(), choice)
