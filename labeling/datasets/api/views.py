"""Datasets and what belongs to them: members, classes, files, calibrations, scans and preparations."""

from typing import Any, ClassVar

from django.db.models import QuerySet
from django_filters.rest_framework import DjangoFilterBackend
from drf_spectacular.utils import extend_schema
from rest_framework.mixins import ListModelMixin, RetrieveModelMixin
from rest_framework.parsers import MultiPartParser
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.models import Role, User
from core.api.etag import ETagMixin
from core.api.filters import Ordering
from core.api.idempotency import idempotent
from core.api.views import ANYONE, ApiViewSet
from core.errors import ConflictError, FieldError
from labeling.datasets import calibrations, operations, selectors, services
from labeling.datasets.api import serializers
from labeling.datasets.api.filters import DatasetFileFilter, DatasetFilter, OperationFilter
from labeling.datasets.models import Calibration, Dataset, DatasetFile, LabelClass, Membership, Operation

BACKENDS = [DjangoFilterBackend, Ordering]


class DatasetViewSet(ETagMixin, ListModelMixin, RetrieveModelMixin, ApiViewSet):
    queryset = Dataset.objects.all()
    serializer_class = serializers.DatasetSerializer
    read_serializer_class = serializers.DatasetSerializer
    filter_backends = BACKENDS
    filterset_class = DatasetFilter
    ordering_fields: ClassVar[list[str]] = ["name", "created_at", "updated_at"]
    role_required: ClassVar[dict[str, Any]] = {
        "create": ANYONE,
        "partial_update": Role.MANAGER,
        "destroy": Role.OWNER,
        "leave": Role.VIEWER,
        "scan": Role.MANAGER,
        "prepare": Role.MANAGER,
    }

    def get_queryset(self) -> QuerySet[Dataset]:
        if getattr(self, "swagger_fake_view", False):
            return Dataset.objects.none()
        return selectors.datasets(self.request.user)

    @extend_schema(request=serializers.DatasetCreateSerializer, responses={201: serializers.DatasetSerializer})
    @idempotent
    def create(self, request: Request) -> Response:
        given = serializers.DatasetCreateSerializer(data=request.data)
        given.is_valid(raise_exception=True)
        dataset = services.create_dataset(user=request.user, **given.validated_data)
        self._row = self.get_queryset().get(pk=dataset.pk)
        body = self.get_serializer(self._row).data
        return Response(body, status=201, headers={"Location": f"/api/v1/datasets/{dataset.pk}"})

    def partial_update(self, request: Request, pk: str) -> Response:
        dataset = self.get_object()
        given = self.get_serializer(dataset, data=request.data, partial=True)
        given.is_valid(raise_exception=True)
        expected = self.expected_version(dataset)
        dataset = services.update_dataset(
            user=request.user, dataset=dataset, expected_version=expected, **given.validated_data
        )
        return Response(self.get_serializer(dataset).data)

    @extend_schema(responses={204: None})
    def destroy(self, request: Request, pk: str) -> Response:
        """Hides the dataset from all members; nothing is erased."""
        dataset = self.get_object()
        services.delete_dataset(user=request.user, dataset=dataset, expected_version=self.expected_version(dataset))
        return Response(status=204)

    @extend_schema(request=None, responses={204: None})
    def leave(self, request: Request, pk: str) -> Response:
        """End your own membership."""
        dataset = self.get_object()
        services.remove_member(user=request.user, membership=dataset.memberships.get(user=request.user))
        return Response(status=204)

    @extend_schema(request=serializers.ScanSerializer, responses={202: serializers.OperationSerializer})
    @idempotent
    def scan(self, request: Request, pk: str) -> Response:
        """Look for recordings in a folder and all below it. Known ones are looked into again if they changed."""
        dataset = self.get_object()
        given = serializers.ScanSerializer(data=request.data)
        given.is_valid(raise_exception=True)
        path = given.validated_data.get("path") or ""
        operation = operations.scan_dataset(user=request.user, dataset=dataset, path=path)
        return accepted(operation)

    @extend_schema(request=serializers.PrepareSerializer, responses={202: serializers.OperationSerializer})
    @idempotent
    def prepare(self, request: Request, pk: str) -> Response:
        """Bring the readable recordings in: copied, linked or registered, renamed, with SHA-256 and twins marked."""
        dataset = self.get_object()
        given = serializers.PrepareSerializer(data=request.data)
        given.is_valid(raise_exception=True)
        operation = operations.prepare_dataset(user=request.user, dataset=dataset, **given.validated_data)
        return accepted(operation)


class DatasetPartViewSet(ApiViewSet):
    """Base of what lies below /datasets/{dataset_id}/."""

    pagination_class: Any = None

    @property
    def dataset(self) -> Dataset:
        """The dataset of the address; 404 unless the user is a member, 403 below the action's role."""
        if not hasattr(self, "_dataset"):
            self._dataset = self.get_scoped(Dataset.objects.for_user(self.request.user), pk=self.kwargs["dataset_id"])
        return self._dataset


class MemberViewSet(DatasetPartViewSet, ListModelMixin):
    serializer_class = serializers.MembershipSerializer
    queryset = Membership.objects.all()
    role_required: ClassVar[dict[str, Any]] = {
        "create": Role.MANAGER,
        "partial_update": Role.MANAGER,
        "destroy": Role.MANAGER,
    }

    def get_queryset(self) -> QuerySet[Membership]:
        if getattr(self, "swagger_fake_view", False):
            return Membership.objects.none()
        return selectors.members(self.dataset)

    @extend_schema(request=serializers.MemberCreateSerializer, responses={201: serializers.MembershipSerializer})
    def create(self, request: Request, dataset_id: str) -> Response:
        """Make someone with an account a member. Only an owner makes owners."""
        dataset = self.dataset
        given = serializers.MemberCreateSerializer(data=request.data)
        given.is_valid(raise_exception=True)
        member = User.objects.filter(email__iexact=given.validated_data["email"], is_active=True).first()
        if member is None:
            raise FieldError("email", "Nobody has an account with this address.")
        if dataset.memberships.filter(user=member).exists():
            raise ConflictError(f"{member} is a member already: change the role instead.")
        membership = services.set_member(
            user=request.user, dataset=dataset, member=member, role=Role(given.validated_data["role"])
        )
        return Response(self.get_serializer(membership).data, status=201)

    def partial_update(self, request: Request, dataset_id: str, pk: str) -> Response:
        membership = self.get_object()
        given = self.get_serializer(membership, data=request.data, partial=True)
        given.is_valid(raise_exception=True)
        role = Role(given.validated_data.get("role", membership.role))
        changed = services.set_member(user=request.user, dataset=self.dataset, member=membership.user, role=role)
        return Response(self.get_serializer(changed).data)

    @extend_schema(responses={204: None})
    def destroy(self, request: Request, dataset_id: str, pk: str) -> Response:
        services.remove_member(user=request.user, membership=self.get_object())
        return Response(status=204)


class LabelClassViewSet(ETagMixin, DatasetPartViewSet, ListModelMixin):
    """The dataset's classes; their ETag is the dataset's."""

    serializer_class = serializers.LabelClassSerializer
    queryset = LabelClass.objects.all()
    role_required: ClassVar[dict[str, Any]] = {
        "create": Role.MANAGER,
        "partial_update": Role.MANAGER,
        "destroy": Role.MANAGER,
    }

    def get_queryset(self) -> QuerySet[LabelClass]:
        if getattr(self, "swagger_fake_view", False):
            return LabelClass.objects.none()
        return selectors.classes(self.dataset).select_related("dataset")

    def get_object(self) -> Any:
        label_class = super().get_object()
        self._row = label_class.dataset
        return label_class

    def current_body(self, row: Any) -> Any:
        return {"version": row.version, "classes": self.get_serializer(selectors.classes(row), many=True).data}

    def list(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        self._row = self.dataset
        return super().list(request, *args, **kwargs)

    def create(self, request: Request, dataset_id: str) -> Response:
        """Adds a class under the next number."""
        self._row = self.dataset
        given = self.get_serializer(data=request.data)
        given.is_valid(raise_exception=True)
        label_class = services.add_class(
            user=request.user,
            dataset=self.dataset,
            expected_version=self.expected_version(self.dataset),
            **given.validated_data,
        )
        return Response(self.get_serializer(label_class).data, status=201)

    def partial_update(self, request: Request, dataset_id: str, pk: str) -> Response:
        label_class = self.get_object()
        given = self.get_serializer(label_class, data=request.data, partial=True)
        given.is_valid(raise_exception=True)
        label_class = services.update_class(
            user=request.user,
            label_class=label_class,
            expected_version=self.expected_version(label_class.dataset),
            **given.validated_data,
        )
        return Response(self.get_serializer(label_class).data)

    @extend_schema(responses={204: None})
    def destroy(self, request: Request, dataset_id: str, pk: str) -> Response:
        """Deletes a class that nothing is labelled with."""
        label_class = self.get_object()
        services.delete_class(
            user=request.user, label_class=label_class, expected_version=self.expected_version(label_class.dataset)
        )
        return Response(status=204)


class DatasetFileViewSet(ETagMixin, DatasetPartViewSet, ListModelMixin, RetrieveModelMixin):
    serializer_class = serializers.DatasetFileSerializer
    queryset = DatasetFile.objects.all()
    pagination_class = ApiViewSet.pagination_class
    filter_backends = BACKENDS
    filterset_class = DatasetFileFilter
    ordering_fields: ClassVar[list[str]] = ["name", "size_bytes", "frame_count", "duration_s", "created_at", "status"]
    role_required: ClassVar[dict[str, Any]] = {"partial_update": Role.MANAGER, "destroy": Role.MANAGER}

    def get_queryset(self) -> QuerySet[DatasetFile]:
        if getattr(self, "swagger_fake_view", False):
            return DatasetFile.objects.none()
        return selectors.files(self.dataset)

    def paginate_queryset(self, queryset: QuerySet[DatasetFile]) -> Any:
        # Sorting ten thousand wide rows to show fifty is what takes long: sort their keys.
        keys = super().paginate_queryset(queryset.values_list("pk", flat=True))  # type: ignore[arg-type]
        rows = selectors.files(self.dataset).in_bulk(keys)
        return [rows[key] for key in keys if key in rows]

    def get_serializer_context(self) -> dict[str, Any]:
        context = super().get_serializer_context()
        if not getattr(self, "swagger_fake_view", False):
            context["dataset"] = self.dataset
        return context

    def partial_update(self, request: Request, dataset_id: str, pk: str) -> Response:
        """Says which calibration the recording was made with."""
        file = self.get_object()
        given = self.get_serializer(file, data=request.data, partial=True)
        given.is_valid(raise_exception=True)
        if "calibration" in given.validated_data:
            file = services.assign_calibration(
                user=request.user,
                file=file,
                calibration=given.validated_data["calibration"],
                expected_version=self.expected_version(file),
            )
        return Response(self.get_serializer(file).data)

    @extend_schema(responses={204: None})
    def destroy(self, request: Request, dataset_id: str, pk: str) -> Response:
        """Takes the recording out of the dataset; the bytes stay where they are."""
        file = self.get_object()
        services.forget_file(user=request.user, file=file, expected_version=self.expected_version(file))
        return Response(status=204)


class CalibrationViewSet(DatasetPartViewSet, ListModelMixin, RetrieveModelMixin):
    serializer_class = serializers.CalibrationSerializer
    queryset = Calibration.objects.all()
    parser_classes: ClassVar[list[Any]] = [MultiPartParser]
    role_required: ClassVar[dict[str, Any]] = {"create": Role.MANAGER, "destroy": Role.MANAGER}

    def get_queryset(self) -> QuerySet[Calibration]:
        if getattr(self, "swagger_fake_view", False):
            return Calibration.objects.none()
        return selectors.calibrations(self.dataset)

    @extend_schema(
        request={"multipart/form-data": serializers.CalibrationUploadSerializer},
        responses={201: serializers.CalibrationSerializer},
    )
    def create(self, request: Request, dataset_id: str) -> Response:
        """Stores a calibration file and gives it to the recordings of that camera."""
        dataset = self.dataset
        given = serializers.CalibrationUploadSerializer(data=request.data)
        given.is_valid(raise_exception=True)
        file = given.validated_data["file"]
        calibration = calibrations.upload_calibration(
            user=request.user,
            dataset=dataset,
            name=file.name,
            content=file.read(calibrations.LARGEST_FILE + 1),
            serial=given.validated_data["serial"],
        )
        return Response(self.get_serializer(self.get_queryset().get(pk=calibration.pk)).data, status=201)

    @extend_schema(responses={204: None})
    def destroy(self, request: Request, dataset_id: str, pk: str) -> Response:
        calibrations.delete_calibration(user=request.user, calibration=self.get_object())
        return Response(status=204)


class OperationViewSet(ListModelMixin, RetrieveModelMixin, ApiViewSet):
    """Scans and preparations: their progress, and pause, resume, cancel, restart."""

    serializer_class = serializers.OperationSerializer
    queryset = Operation.objects.all()
    filter_backends = BACKENDS
    filterset_class = OperationFilter
    ordering_fields: ClassVar[list[str]] = ["created_at"]
    role_required: ClassVar[dict[str, Any]] = {
        "pause": Role.MANAGER,
        "resume": Role.MANAGER,
        "cancel": Role.MANAGER,
        "restart": Role.MANAGER,
    }

    def get_queryset(self) -> QuerySet[Operation]:
        if getattr(self, "swagger_fake_view", False):
            return Operation.objects.none()
        return selectors.operations(self.request.user)

    def retrieve(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        operation = self.get_object()
        headers = {"Retry-After": "1"} if operation.status in ("pending", "running") else {}
        return Response(self.get_serializer(operation).data, headers=headers)

    @extend_schema(request=None, responses={202: serializers.OperationSerializer})
    def pause(self, request: Request, pk: str) -> Response:
        return self._control("pause")

    @extend_schema(request=None, responses={202: serializers.OperationSerializer})
    @idempotent
    def resume(self, request: Request, pk: str) -> Response:
        return self._control("resume")

    @extend_schema(request=None, responses={202: serializers.OperationSerializer})
    def cancel(self, request: Request, pk: str) -> Response:
        return self._control("cancel")

    @extend_schema(request=None, responses={202: serializers.OperationSerializer})
    @idempotent
    def restart(self, request: Request, pk: str) -> Response:
        return self._control("restart")

    def _control(self, verb: str) -> Response:
        return accepted(operations.control_operation(user=self.request.user, operation=self.get_object(), verb=verb))


def accepted(operation: Operation) -> Response:
    headers = {"Location": f"/api/v1/operations/{operation.pk}", "Retry-After": "1"}
    return Response(serializers.OperationSerializer(operation).data, status=202, headers=headers)
