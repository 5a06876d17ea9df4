"""Detections over REST: confirmed or corrected one by one or many at once, proposed for a click, added."""

from typing import Any, ClassVar

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.throttling import UserRateThrottle

from accounts.models import Role
from core.api.etag import ETagMixin
from core.api.idempotency import idempotent
from core.api.views import ApiView, ApiViewSet
from labeling.jobs.models import Detection, ProcessingJob
from labeling.review import proposals, selectors, services
from labeling.review.api.serializers import (
    BulkConfirmedSerializer,
    BulkConfirmSerializer,
    DetectionChangeSerializer,
    DetectionCreateSerializer,
    DetectionSerializer,
    PromptSerializer,
    ProposalsSerializer,
)


class DetectionViewSet(ETagMixin, ApiViewSet):
    queryset = Detection.objects.none()
    serializer_class = DetectionSerializer
    if_match_required = frozenset({"partial_update", "destroy"})
    role_required: ClassVar[dict[str, Any]] = {"partial_update": Role.ANNOTATOR, "destroy": Role.ANNOTATOR}

    def get_queryset(self) -> Any:
        return selectors.detections(self.request.user)

    def current_body(self, row: Any) -> Any:
        return selectors.detection_values(Detection.objects.filter(pk=row.pk))[row.pk]

    @extend_schema(operation_id="detections_retrieve", summary="One detection", responses=DetectionSerializer)
    def retrieve(self, request: Request, pk: int) -> Response:
        return Response(self.current_body(self.get_object()))

    @extend_schema(
        operation_id="detections_judge",
        summary="Confirm or correct the class of a detection",
        description=(
            "Its `source` becomes `human`, and the class heads of the dataset learn from it. To undo, send the former "
            "`class_id` with `confirmed: false`. Needs `If-Match`; refused (409) until the job has ended."
        ),
        request=DetectionChangeSerializer,
        responses=DetectionSerializer,
    )
    def partial_update(self, request: Request, pk: int) -> Response:
        row = self.get_object()
        expected = self.expected_version(row)
        given = DetectionChangeSerializer(data=request.data)
        given.is_valid(raise_exception=True)
        services.judge_detection(
            user=request.user, detection=row, verdict=_verdict(given.validated_data), expected_version=expected
        )
        return Response(self.current_body(row))

    @extend_schema(
        operation_id="detections_destroy",
        summary="Take back an object that a person added",
        description="What a job found is not deleted (409): correct it, or leave it out of the export.",
        responses={204: None},
    )
    def destroy(self, request: Request, pk: int) -> Response:
        row = self.get_object()
        expected = self.expected_version(row)
        services.remove_detection(user=request.user, detection=row, expected_version=expected)
        self._row = None
        return Response(status=204)


class FrameDetectionsView(ApiView):
    role_required: ClassVar[dict[str, Role]] = {"post": Role.ANNOTATOR}

    @extend_schema(
        operation_id="frames_detections_create",
        summary="Add an object to a frame",
        request=DetectionCreateSerializer,
        responses={201: DetectionSerializer},
    )
    @idempotent
    def post(self, request: Request, frame_id: str) -> Response:
        frame = self.get_scoped(selectors.frames(request.user), pk=frame_id)
        given = DetectionCreateSerializer(data=request.data)
        given.is_valid(raise_exception=True)
        values = dict(given.validated_data)
        row = services.add_detection(user=request.user, frame=frame, class_number=values.pop("class_id"), **values)
        body = selectors.detection_values(Detection.objects.filter(pk=row.pk))[row.pk]
        return Response(
            body, status=201, headers={"ETag": f'"{row.version}"', "Location": f"/api/v1/detections/{row.pk}"}
        )


class MaskThrottle(UserRateThrottle):
    scope = "masks"


class MasksView(ApiView):
    """Clicks and boxes to masks. The models are in a process of their own, which keeps them between two clicks."""

    role_required: ClassVar[dict[str, Role]] = {"post": Role.ANNOTATOR}
    throttle_classes = (UserRateThrottle, MaskThrottle)

    @extend_schema(
        operation_id="frames_masks",
        summary="Masks for what a person points at",
        description="Changes nothing. The first click on a frame takes longer than those that follow.",
        request=PromptSerializer,
        responses=ProposalsSerializer,
    )
    def post(self, request: Request, frame_id: str) -> Response:
        frame = self.get_scoped(selectors.frames(request.user), pk=frame_id)
        given = PromptSerializer(data=request.data)
        given.is_valid(raise_exception=True)
        return Response(proposals.propose(frame, **given.validated_data))


class ConfirmView(ApiView):
    role_required: ClassVar[dict[str, Role]] = {"post": Role.ANNOTATOR}

    @extend_schema(
        operation_id="jobs_detections_confirm",
        summary="Confirm or correct many detections of a job",
        description=f"Up to {services.MAX_CONFIRMED:,}. Each is answered for itself; one that fails stops no other.",
        request=BulkConfirmSerializer,
        responses=BulkConfirmedSerializer,
    )
    def post(self, request: Request, job_id: str) -> Response:
        job = self.get_scoped(ProcessingJob.objects.for_user(request.user), pk=job_id)
        given = BulkConfirmSerializer(data=request.data)
        given.is_valid(raise_exception=True)
        items = given.validated_data["detections"]
        outcomes = services.judge_detections(
            user=request.user,
            job=job,
            verdicts=[(item["id"], _verdict(item), item.get("version")) for item in items],
        )
        values = selectors.detection_values(job.detections.filter(pk__in=[item["id"] for item in items]))
        results = [
            {
                "id": outcome.pk,
                "status": outcome.error.status if outcome.error else 200,
                "detail": outcome.error.detail if outcome.error else "",
                "detection": values.get(outcome.pk),
            }
            for outcome in outcomes
        ]
        return Response({"results": results, "confirmed": sum(not outcome.error for outcome in outcomes)})


def _verdict(values: dict[str, Any]) -> services.Verdict:
    return services.Verdict(values.get("class_id"), values["confirmed"])
