"""Model versions over REST: trained from what people confirmed, looked at, made the active one."""

from typing import Any, ClassVar

import django_filters
from django_filters.rest_framework import DjangoFilterBackend, FilterSet
from drf_spectacular.utils import extend_schema, extend_schema_view
from rest_framework import mixins, status
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.models import Role
from core.api.etag import ETagMixin
from core.api.filters import Ordering
from core.api.idempotency import idempotent
from core.api.views import ApiView, ApiViewSet
from core.models import WorkStatus
from labeling.datasets.models import Dataset
from training import class_heads
from training.api.model_serializers import (
    ClassHeadCreateSerializer,
    ClassHeadOverviewSerializer,
    ModelVersionChangeSerializer,
    ModelVersionDetailSerializer,
    ModelVersionSerializer,
)
from training.models import ModelVersion


class ModelVersionFilter(FilterSet):
    dataset = django_filters.UUIDFilter(field_name="dataset")
    task = django_filters.ChoiceFilter(choices=ModelVersion.Task.choices)
    status = django_filters.ChoiceFilter(choices=WorkStatus.choices)
    active = django_filters.BooleanFilter()
    search = django_filters.CharFilter(field_name="name", lookup_expr="icontains")

    class Meta:
        model = ModelVersion
        fields = ["dataset", "task", "status", "active", "search"]


class ClassHeadsView(ApiView):
    role_required: ClassVar[dict[str, Role]] = {"get": Role.VIEWER, "post": Role.MANAGER}

    def _dataset(self, request: Request, dataset_id: str) -> Dataset:
        row: Dataset = self.get_scoped(Dataset.objects.for_user(request.user), pk=dataset_id)
        return row

    @extend_schema(
        operation_id="datasets_class_heads_overview",
        summary="What a class head of the dataset could learn from, and which is active",
        responses=ClassHeadOverviewSerializer,
    )
    def get(self, request: Request, dataset_id: str) -> Response:
        return Response(ClassHeadOverviewSerializer(class_heads.overview(self._dataset(request, dataset_id))).data)

    @extend_schema(
        operation_id="datasets_class_heads_train",
        summary="Train a class head from the labels people confirmed",
        description="The first one of a dataset becomes active by itself; others are activated when you want them.",
        request=ClassHeadCreateSerializer,
        responses={202: ModelVersionDetailSerializer},
    )
    @idempotent
    def post(self, request: Request, dataset_id: str) -> Response:
        dataset = self._dataset(request, dataset_id)
        given = ClassHeadCreateSerializer(data=request.data)
        given.is_valid(raise_exception=True)
        row = class_heads.train_class_head(user=request.user, dataset=dataset, **given.validated_data)
        return Response(
            ModelVersionDetailSerializer(row).data,
            status=status.HTTP_202_ACCEPTED,
            headers={"Location": f"/api/v1/models/{row.pk}", "Retry-After": "1"},
        )


def _verb(name: str, summary: str) -> Any:
    def move(self: "ModelVersionViewSet", request: Request, pk: str) -> Response:
        row = class_heads.move_model(user=request.user, row=self.get_object(), verb=name)
        return Response(ModelVersionDetailSerializer(row).data, status=status.HTTP_202_ACCEPTED)

    move.__name__ = name  # before the decorators: the router goes by it
    decorated = action(detail=True, methods=["post"], url_path=name, url_name=name)(idempotent(move))
    return extend_schema(summary=summary, request=None, responses={202: ModelVersionDetailSerializer})(decorated)


@extend_schema_view(
    list=extend_schema(summary="Models of the datasets you may see"),
    retrieve=extend_schema(summary="One model with its measurements"),
    partial_update=extend_schema(
        summary="Change the name", request=ModelVersionChangeSerializer, responses=ModelVersionDetailSerializer
    ),
    destroy=extend_schema(summary="Delete a model; jobs that were created with it keep it"),
)
class ModelVersionViewSet(ETagMixin, mixins.ListModelMixin, mixins.RetrieveModelMixin, ApiViewSet):
    queryset = ModelVersion.objects.all()
    serializer_class = ModelVersionDetailSerializer
    read_serializer_class = ModelVersionDetailSerializer
    filter_backends = (DjangoFilterBackend, Ordering)
    filterset_class = ModelVersionFilter
    ordering_fields = ("created_at", "name", "number", "trained_at", "label_count")
    lookup_value_converter = "uuid"
    role_required: ClassVar[dict[str, Role]] = dict.fromkeys(
        ("partial_update", "destroy", "activate", "deactivate", "pause", "resume", "cancel", "restart"), Role.MANAGER
    )

    def get_queryset(self) -> Any:
        return super().get_queryset().select_related("dataset")

    def get_serializer_class(self) -> Any:
        return ModelVersionSerializer if self.action == "list" else self.serializer_class

    def partial_update(self, request: Request, pk: str) -> Response:
        row = self.get_object()
        given = ModelVersionChangeSerializer(row, data=request.data, partial=True)
        expected = self.expected_version(row)
        given.is_valid(raise_exception=True)
        row = class_heads.update_model(user=request.user, row=row, expected_version=expected, **given.validated_data)
        return Response(ModelVersionDetailSerializer(row).data)

    def destroy(self, request: Request, pk: str) -> Response:
        row = self.get_object()
        class_heads.delete_model(user=request.user, row=row, expected_version=self.expected_version(row))
        return Response(status=status.HTTP_204_NO_CONTENT)

    @extend_schema(summary="Let new jobs use it", request=None, responses=ModelVersionDetailSerializer)
    @action(detail=True, methods=["post"])
    def activate(self, request: Request, pk: str) -> Response:
        row = self.get_object()
        row = class_heads.activate(user=request.user, row=row, expected_version=self.expected_version(row))
        return Response(ModelVersionDetailSerializer(row).data)

    @extend_schema(summary="Let new jobs use none", request=None, responses=ModelVersionDetailSerializer)
    @action(detail=True, methods=["post"])
    def deactivate(self, request: Request, pk: str) -> Response:
        row = self.get_object()
        row = class_heads.deactivate(user=request.user, row=row, expected_version=self.expected_version(row))
        return Response(ModelVersionDetailSerializer(row).data)

    pause = _verb("pause", "Pause the training")
    resume = _verb("resume", "Go on with the training")
    cancel = _verb("cancel", "Cancel the training")
    restart = _verb("restart", "Begin the training anew, with the labels there are now")
