"""Statistics and frames over REST."""

import re
import uuid
from functools import partial
from typing import Any, ClassVar

from django.db.models import QuerySet
from django.http import HttpResponseBase
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.utils.urls import replace_query_param

from accounts.models import Role
from core.api.views import ApiView
from core.errors import FieldError, NotFoundError
from labeling.jobs.models import Frame, ProcessingJob
from labeling.review import media, selectors
from labeling.review.api.serializers import (
    AnnotationFilterSerializer,
    AnnotationStatsSerializer,
    FramePageSerializer,
    FrameSerializer,
)
from labeling.review.filters import AnnotationFilter

MAX_FRAMES = 200


class AnnotationStatsView(ApiView):
    role_required: ClassVar[dict[str, Role]] = {"post": Role.VIEWER}

    @extend_schema(
        operation_id="jobs_annotation_stats",
        summary="Count a job's detections per class",
        request=AnnotationFilterSerializer,
        responses=AnnotationStatsSerializer,
    )
    def post(self, request: Request, job_id: uuid.UUID) -> Response:
        job = self.get_scoped(ProcessingJob.objects.for_user(request.user), pk=job_id)
        serializer = AnnotationFilterSerializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        filters = AnnotationFilter.from_json(serializer.validated_data)
        classes = selectors.class_statistics(job, filters)
        return Response({"classes": classes, **selectors.totals(classes, job, filters)})


class FrameBatchView(ApiView):
    @extend_schema(
        operation_id="jobs_frames_batch",
        summary="Frames with their detections",
        description=(
            "By `ids`; or `count` frames of a `sequence` from number `start`; or, without these, all frames of the job "
            "page by page with `cursor`."
        ),
        parameters=[
            OpenApiParameter("ids", OpenApiTypes.STR, description=f"Up to {MAX_FRAMES} ids, separated by commas"),
            OpenApiParameter("sequence", OpenApiTypes.UUID),
            OpenApiParameter("start", OpenApiTypes.INT, description="Default 0"),
            OpenApiParameter("count", OpenApiTypes.INT, description=f"Default 50, at most {MAX_FRAMES}"),
            OpenApiParameter("masks", OpenApiTypes.BOOL, description="Whether masks come along; default true"),
            OpenApiParameter("cursor", OpenApiTypes.STR),
            OpenApiParameter("page_size", OpenApiTypes.INT),
        ],
        responses=FramePageSerializer,
    )
    def get(self, request: Request, job_id: uuid.UUID) -> Response:
        job = self.get_scoped(ProcessingJob.objects.for_user(request.user), pk=job_id)
        rows = selectors.frames_of(job)
        asked, masks = request.query_params, _flag(request, "masks")
        if "ids" in asked:
            found = {row.pk: row for row in rows.filter(pk__in=_ids(asked["ids"]))}
            chosen = [found[pk] for pk in dict.fromkeys(_ids(asked["ids"])) if pk in found]
        elif "sequence" in asked:
            start, count = _number(request, "start", 0), min(_number(request, "count", 50), MAX_FRAMES)
            rows = rows.filter(sequence=_id("sequence", asked["sequence"]), number__gte=start)
            chosen = list(rows.order_by("number")[:count])
        else:
            return self._page(request, job, rows, masks)
        return Response({"next": None, "previous": None, "results": selectors.frame_batch(chosen, masks=masks)})

    def _page(self, request: Request, job: ProcessingJob, rows: QuerySet[Frame], masks: bool) -> Response:
        """A page never spans two sequences, so each is one look into the index, however far along."""
        size = max(1, min(_number(request, "page_size", 50), MAX_FRAMES))
        position, start = _cursor(request)
        positions = list(job.sequences.filter(position__gte=position).values_list("position", flat=True)[:2])
        position = positions[0] if positions else position
        found = list(rows.filter(sequence__position=position, number__gte=start).order_by("number")[: size + 1])
        following = None
        if len(found) > size:
            following = f"{position}.{found[size].number}"
        elif len(positions) > 1:
            following = f"{positions[1]}.0"
        link = None
        if following:
            link = replace_query_param(request.build_absolute_uri(), "cursor", following)
        results = selectors.frame_batch(found[:size], masks=masks)
        return Response({"next": link, "previous": None, "results": results})


class FrameView(ApiView):
    @extend_schema(operation_id="frames_retrieve", summary="One frame with its detections", responses=FrameSerializer)
    def get(self, request: Request, frame_id: uuid.UUID) -> Response:
        row = self.get_scoped(selectors.frames(request.user), pk=frame_id)
        (value,) = selectors.frame_batch([row])
        return Response(value, headers={"ETag": f'"{row.version}"'})


KINDS = {
    "left": partial(media.image_response, eye="left"),
    "right": partial(media.image_response, eye="right"),
    "depth": media.depth_response,
    "uncertainty": media.uncertainty_response,
    "thumbnail": media.thumbnail_response,
}
IMAGE = {(200, "image/*"): OpenApiResponse(OpenApiTypes.BINARY)}


class FrameMediaView(ApiView):
    """Images for programs: what the page shows, reached with an API key."""

    @extend_schema(
        operation_id="frames_media",
        summary="An image of a frame",
        parameters=[OpenApiParameter("kind", OpenApiTypes.STR, OpenApiParameter.PATH, enum=list(KINDS))],
        responses=IMAGE,
    )
    def get(self, request: Request, frame_id: uuid.UUID, kind: str) -> HttpResponseBase:
        row = self.get_scoped(selectors.frames(request.user), pk=frame_id)
        if kind not in KINDS:
            raise NotFoundError(f"The frame has no {kind} image.")
        return KINDS[kind](request, row)


def _cursor(request: Request) -> tuple[int, int]:
    """(sequence position, frame number) where the page begins."""
    text = request.query_params.get("cursor", "0.0")
    match = re.fullmatch(r"(\d{1,9})\.(\d{1,9})", text)
    if match is None:
        raise FieldError("cursor", "It is not one that this list gave.")
    return int(match[1]), int(match[2])


def _flag(request: Request, name: str) -> bool:
    value = request.query_params.get(name, "true").lower()
    if value not in ("true", "false", "1", "0"):
        raise FieldError(name, "It must be true or false.")
    return value in ("true", "1")


def _number(request: Request, name: str, default: int) -> int:
    value: Any = request.query_params.get(name, default)
    try:
        number = int(value)
    except ValueError as error:
        raise FieldError(name, f"{value!r} is not a whole number.") from error
    if not 0 <= number < 2**31:
        raise FieldError(name, "It must not be negative, nor that large.")
    return number


def _id(name: str, value: str) -> uuid.UUID:
    try:
        return uuid.UUID(value)
    except ValueError as error:
        raise FieldError(name, f"{value!r} is not an id.") from error


def _ids(text: str) -> list[uuid.UUID]:
    words = [word for word in text.split(",") if word]
    if len(words) > MAX_FRAMES:
        raise FieldError("ids", f"At most {MAX_FRAMES} frames at once.")
    return [_id("ids", word) for word in words]
