"""The server's data folders: browse, count, describe, check. Open to every signed-in user, below the roots only."""

from dataclasses import asdict
from typing import Any, ClassVar

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from core.api.views import ANYONE, ApiView
from labeling.datasets import browsing
from labeling.datasets.api import serializers

PATH = OpenApiParameter("path", str, description="Absolute, or relative to a data root")


class BrowseView(ApiView):
    @extend_schema(parameters=[PATH], responses=serializers.BrowseSerializer, operation_id="files_browse")
    def get(self, request: Request) -> Response:
        """Folders and recordings in a folder; without a path, the data roots."""
        return Response(asdict(browsing.browse(request.query_params.get("path", ""))))


class FrameCountView(ApiView):
    @extend_schema(parameters=[PATH], responses=serializers.FrameCountSerializer, operation_id="files_frame_count")
    def get(self, request: Request) -> Response:
        """How many frames of a recording can be decoded: counted, not believed."""
        probe = browsing.probe_file(request.query_params.get("path", ""))
        body = {"path": probe.path, "frame_count": probe.metadata["frame_count"], "truncated": probe.truncated}
        return Response(body)


class MetadataView(ApiView):
    @extend_schema(responses=serializers.RecordingMetadataSerializer, operation_id="files_metadata")
    def get(self, request: Request, path: str) -> Response:
        """What a recording holds, and the calibration found for it. The leading slash of the path may be left out."""
        probe = _probe_with_or_without_slash(path)
        body: dict[str, Any] = {
            **probe.metadata,
            "path": probe.path,
            "warnings": probe.warnings,
            "metric": probe.calibration is not None,
            "calibration": probe.calibration,
        }
        return Response(body)


class ValidateView(ApiView):
    role_required: ClassVar[dict[str, Any]] = {"post": ANYONE}

    @extend_schema(
        request=serializers.ValidateSerializer,
        responses=serializers.ValidationResultSerializer,
        operation_id="files_validate",
    )
    def post(self, request: Request) -> Response:
        """Opens each recording and says what is wrong with it, if anything."""
        given = serializers.ValidateSerializer(data=request.data)
        given.is_valid(raise_exception=True)
        return Response({"results": browsing.validate_files(given.validated_data["paths"])})


def _probe_with_or_without_slash(path: str) -> browsing.Probe:
    if path.startswith("/"):
        return browsing.probe_file(path)
    try:
        return browsing.probe_file(f"/{path}")
    except browsing.PathError:
        return browsing.probe_file(path)
