"""The review page, and the images it shows."""

from uuid import UUID

from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import get_object_or_404, render
from django.views.decorators.http import require_safe

from accounts.models import Role
from core.errors import NotFoundError
from labeling.jobs.models import Frame, ProcessingJob
from labeling.review import media, selectors
from labeling.review.services import ENDED


@login_required
@require_safe
def job(request: HttpRequest, job_id: UUID) -> HttpResponse:
    """Every frame of a job, with what was found in it. `?frame=` opens one."""
    row = get_object_or_404(ProcessingJob.objects.for_user(request.user).select_related("dataset"), pk=job_id)
    sequences = selectors.sequence_overview(row)
    statistics = selectors.class_statistics(row)
    state = {
        "job": {"id": str(row.pk), "name": row.name, "dataset": str(row.dataset_id) if row.dataset_id else None},
        "sequences": sequences,
        "classes": statistics,
        "labels": list(selectors.label_classes(row).values("number", "name", "color", "shortcut")),
        "mayLabel": _may(request, row, Role.ANNOTATOR) and row.status in ENDED,
        "start": _start(row, request.GET.get("frame", "")),
    }
    context = {
        "job": row,
        "state": state,
        "statistics": statistics,
        "frame_count": sum(item["frame_count"] for item in sequences),
        "may_export": _may(request, row, Role.MANAGER),
    }
    return render(request, "review/job.html", context)


def _may(request: HttpRequest, row: ProcessingJob, role: Role) -> bool:
    return ProcessingJob.objects.for_user(request.user, role).filter(pk=row.pk).exists()


def _start(row: ProcessingJob, frame: str) -> dict[str, object] | None:
    try:
        found = Frame.objects.filter(job=row, pk=UUID(frame)).values("sequence", "number").first()
    except ValueError:
        return None
    return {"sequence": str(found["sequence"]), "number": found["number"]} if found else None


def _frame(request: HttpRequest, frame_id: UUID) -> Frame:
    return get_object_or_404(selectors.frames(request.user), pk=frame_id)


@login_required
@require_safe
def thumbnail(request: HttpRequest, frame_id: UUID) -> HttpResponseBase:
    return _or_404(media.thumbnail_response, request, _frame(request, frame_id))


def _or_404(make: object, *arguments: object) -> HttpResponseBase:
    try:
        return make(*arguments)  # type: ignore[operator,no-any-return]
    except NotFoundError as error:
        raise Http404(str(error)) from error
