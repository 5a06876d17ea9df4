"""Resumable uploads by the tus protocol 1.0 (https://tus.io/protocols/resumable-upload): core, creation, checksum,
expiration and termination."""

from collections.abc import Mapping
from typing import IO, Any, ClassVar

from django.conf import settings
from django.db.models import QuerySet
from django.http import HttpResponseBase
from django.utils.http import http_date
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.mixins import ListModelMixin
from rest_framework.parsers import BaseParser
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.authentication import is_read_only
from accounts.models import Role
from core.errors import ApplicationError, FieldError
from labeling.datasets import selectors, uploads
from labeling.datasets.api import serializers
from labeling.datasets.api.views import DatasetPartViewSet
from labeling.datasets.models import Upload

VERSION = "1.0.0"
CHECKSUM_MISMATCH = 460
TUS = OpenApiParameter("Tus-Resumable", str, OpenApiParameter.HEADER, required=True, enum=[VERSION])


class UnknownVersionError(ApplicationError):
    code: ClassVar[str] = "tus_version"
    status: ClassVar[int] = 412
    headers: ClassVar[dict[str, str]] = {"Tus-Version": VERSION}


class OffsetStreamParser(BaseParser):
    """Hands the body on as a stream: it is never held in memory."""

    media_type = "application/offset+octet-stream"

    def parse(
        self, stream: IO[bytes], media_type: str | None = None, parser_context: Mapping[str, Any] | None = None
    ) -> Any:
        return stream


class UploadViewSet(DatasetPartViewSet, ListModelMixin):
    serializer_class = serializers.UploadSerializer
    queryset = Upload.objects.all()
    parser_classes: ClassVar[list[Any]] = [OffsetStreamParser]
    role_required: ClassVar[dict[str, Any]] = {
        "list": Role.MANAGER,
        "create": Role.MANAGER,
        "offset": Role.MANAGER,
        "append": Role.MANAGER,
        "terminate": Role.MANAGER,
    }

    def get_queryset(self) -> QuerySet[Upload]:
        if getattr(self, "swagger_fake_view", False):
            return Upload.objects.none()
        if self.action == "list":
            return selectors.unfinished_uploads(self.request.user, self.dataset)
        return selectors.uploads(self.request.user, self.dataset)

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        if request.method in ("POST", "HEAD", "PATCH", "DELETE"):
            _ = self.dataset
            if request.headers.get("Tus-Resumable") != VERSION:
                raise UnknownVersionError(f"Send “Tus-Resumable: {VERSION}”; no other version is spoken here.")

    def handle_exception(self, exc: Exception) -> Response:
        response = super().handle_exception(exc)
        if isinstance(exc, uploads.ChecksumError):  # a status that HTTP itself does not know
            response.status_code = CHECKSUM_MISMATCH
            response.data |= {"status": CHECKSUM_MISMATCH, "title": "Checksum Mismatch"}
        return response

    def finalize_response(self, request: Request, response: Response, *args: Any, **kwargs: Any) -> Response:
        response = super().finalize_response(request, response, *args, **kwargs)
        response["Tus-Resumable"] = VERSION
        if request.method != "GET":
            response["Cache-Control"] = "no-store"
        return response

    @extend_schema(exclude=True)
    def options(self, request: Request, *args: Any, **kwargs: Any) -> HttpResponseBase:  # type: ignore[override]
        return Response(
            status=204,
            headers={
                "Tus-Version": VERSION,
                "Tus-Extension": "creation,checksum,expiration,termination",
                "Tus-Checksum-Algorithm": ",".join(uploads.CHECKSUMS),
                "Tus-Max-Size": str(settings.UPLOAD_MAX_BYTES),
            },
        )

    @extend_schema(
        request=None,
        responses={201: None},
        parameters=[
            TUS,
            OpenApiParameter("Upload-Length", int, OpenApiParameter.HEADER, required=True),
            OpenApiParameter(
                "Upload-Metadata",
                str,
                OpenApiParameter.HEADER,
                required=True,
                description="`filename <base64>`, and `sha256 <base64 of 64 hexadecimal digits>` to have it checked",
            ),
        ],
    )
    def create(self, request: Request, dataset_id: str) -> Response:
        """Announces a recording; its address for HEAD, PATCH and DELETE comes back as Location."""
        if request.headers.get("Upload-Defer-Length"):
            raise FieldError("Upload-Length", "The length must be known: it cannot be deferred.")
        values = uploads.parse_metadata(request.headers.get("Upload-Metadata", ""))
        if not values.get("filename"):
            raise FieldError("Upload-Metadata", "It must hold “filename”.")
        upload = uploads.create_upload(
            user=request.user,
            dataset=self.dataset,
            filename=values["filename"],
            length=_number(request, "Upload-Length"),
            sha256=values.get("sha256", ""),
        )
        location = f"/api/v1/datasets/{self.dataset.pk}/uploads/{upload.pk}"
        return Response(status=201, headers={"Location": location, **_expiry(upload)})

    @extend_schema(request=None, responses={200: None}, parameters=[TUS])
    def offset(self, request: Request, dataset_id: str, pk: str) -> Response:
        """How far an upload is: Upload-Offset of Upload-Length."""
        upload = self.get_object()
        if not is_read_only(request):
            upload = uploads.settle_upload(upload=upload)
        return Response(headers={"Upload-Length": str(upload.length), **_state(upload)})

    @extend_schema(
        request={"application/offset+octet-stream": OpenApiTypes.BINARY},
        responses={204: None},
        parameters=[
            TUS,
            OpenApiParameter("Upload-Offset", int, OpenApiParameter.HEADER, required=True),
            OpenApiParameter("Upload-Checksum", str, OpenApiParameter.HEADER, description="`sha256 <base64>`"),
        ],
    )
    def append(self, request: Request, dataset_id: str, pk: str) -> Response:
        """Appends the body at Upload-Offset. 409 at another offset, 413 beyond the length, 460 if damaged."""
        upload = self.get_object()
        content_length = request.headers.get("Content-Length", "")
        upload = uploads.append(
            upload=upload,
            offset=_number(request, "Upload-Offset"),
            stream=request.data,
            length=int(content_length) if content_length.isdecimal() else None,
            checksum=request.headers.get("Upload-Checksum", ""),
        )
        return Response(status=204, headers=_state(upload))

    @extend_schema(request=None, responses={204: None}, parameters=[TUS])
    def terminate(self, request: Request, dataset_id: str, pk: str) -> Response:
        uploads.cancel_upload(upload=self.get_object())
        return Response(status=204)


def _number(request: Request, header: str) -> int:
    value = request.headers.get(header, "")
    if not value.isdecimal() or not value.isascii() or len(value) > 18:
        raise FieldError(header, "It must be a whole number of bytes.")
    return int(value)


def _state(upload: Upload) -> dict[str, str]:
    return {"Upload-Offset": str(upload.offset), **_expiry(upload)}


def _expiry(upload: Upload) -> dict[str, str]:
    if upload.finished_at is not None:
        return {}
    return {"Upload-Expires": http_date(uploads.expires_at(upload).timestamp())}
