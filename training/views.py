"""The pages of training datasets."""

from typing import Any
from uuid import UUID

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from accounts.models import Role
from core import work
from core.errors import ApplicationError, NotFoundError
from core.live import topic_of
from core.models import WorkStatus
from labeling.jobs.models import ProcessingJob
from labeling.review.filters import AnnotationFilter
from labeling.review.selectors import class_statistics
from training import selectors, services
from training.api.filters import TrainingDatasetFilter
from training.downloads import download as download_response
from training.formats.base import SPLITS
from training.formats.export import formats_of
from training.forms import TrainingDatasetForm
from training.models import TrainingDataset

PAGE_SIZE = 50
VERBS = ("pause", "resume", "cancel", "restart")


@login_required
@require_safe
def training_dataset_list(request: HttpRequest) -> HttpResponse:
    rows = TrainingDatasetFilter(request.GET, selectors.training_datasets(request.user)).qs
    page = Paginator(rows.defer("export_state", "filter_config"), PAGE_SIZE).get_page(request.GET.get("page"))
    context = {"page_obj": page, "filtered": bool(request.GET), "exportable": _exportable(request).exists()}
    return render(request, "training/training_dataset_list.html", context)


def _exportable(request: HttpRequest) -> Any:
    jobs = ProcessingJob.objects.for_user(request.user, Role.MANAGER).select_related("dataset")
    return jobs.filter(status__in=services.EXPORTABLE)


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def create(request: HttpRequest) -> HttpResponse:
    """`?job=` says which; `excluded_class_ids` and `min_confidence` come from the review page."""
    if not request.GET.get("job"):
        jobs = _exportable(request)[:50]
        return render(request, "training/training_dataset_choose.html", {"jobs": jobs})
    job = _job(request, request.GET["job"])
    statistics = class_statistics(job)
    choices = [(row["class_id"], row["class_name"]) for row in statistics]
    form = TrainingDatasetForm(
        request.POST or None, class_choices=choices, initial=_initial(request, job, [number for number, _ in choices])
    )
    if request.method == "POST" and form.is_valid():
        values, filters = form.parameters()
        try:
            row = services.create_training_dataset(
                user=request.user, job=job, filters=AnnotationFilter.from_json(filters), **values
            )
        except ApplicationError as error:
            fields = {name: texts for name, texts in error.errors.items() if name in form.fields}
            for name, texts in fields.items():
                form.add_error(name, texts)
            if not fields:
                form.add_error(None, error.detail)
        else:
            return redirect("training:detail", row.pk)
    context = {
        "form": form,
        "job": job,
        "statistics": statistics,
        "kept_classes": [str(number) for number in form["classes"].value() or []],
        "sequences": job.sequences.count(),
        "frames": job.frames.count(),
    }
    return render(request, "training/training_dataset_create.html", context)


def _job(request: HttpRequest, pk: str) -> ProcessingJob:
    try:
        job = ProcessingJob.objects.for_user(request.user).get(pk=UUID(pk))
    except (ValueError, ProcessingJob.DoesNotExist) as error:
        raise Http404("There is no such job.") from error
    if not ProcessingJob.objects.for_user(request.user, Role.MANAGER).filter(pk=job.pk).exists():
        raise PermissionDenied("Exporting needs the role manager in the dataset.")
    return job


def _initial(request: HttpRequest, job: ProcessingJob, numbers: list[int]) -> dict[str, Any]:
    excluded = set(request.GET.get("excluded_class_ids", "").split(","))
    try:
        confidence = min(max(float(request.GET.get("min_confidence", 0)), 0.0), 1.0)
    except ValueError:
        confidence = 0.0
    kept = [number for number in numbers if str(number) not in excluded]
    return {"name": job.name, "classes": kept, "min_confidence": confidence}


@login_required
@require_safe
def detail(request: HttpRequest, pk: UUID) -> HttpResponse:
    row = get_object_or_404(selectors.training_datasets(request.user), pk=pk)
    lineage = None
    if row.status == WorkStatus.COMPLETED:
        try:
            lineage = selectors.lineage(row)
        except NotFoundError as error:
            messages.error(request, error.detail)
    actions = work.allowed_actions(row)
    may_change = ProcessingJob.objects.for_user(request.user, Role.MANAGER).filter(pk=row.job_id).exists()
    context = {
        "row": row,
        "lineage": lineage,
        "formats": formats_of(row.format),
        "splits": _splits(row),
        "classes": _class_table(row),
        "verbs": [(verb, verb in actions and may_change) for verb in VERBS],
        "may_change": may_change,
        "live": {"id": str(row.pk), "topic": topic_of(row), "status": row.status, "seq": row.event_seq},
    }
    return render(request, "training/training_dataset_detail.html", context)


def _splits(row: TrainingDataset) -> list[dict[str, Any]]:
    return [
        {
            "name": split,
            "ratio": row.split_config.get(f"{split}_ratio", 0),
            "frames": row.statistics.get(f"{split}_frames"),
            "annotations": row.statistics.get(f"{split}_annotations"),
        }
        for split in SPLITS
    ]


def _class_table(row: TrainingDataset) -> list[dict[str, Any]]:
    classes = row.statistics.get("classes", {})
    return [
        {"name": name, "splits": [counts[split] for split in SPLITS], "total": sum(counts.values())}
        for name, counts in classes.items()
    ]


@login_required
@require_POST
def move(request: HttpRequest, pk: UUID, verb: str) -> HttpResponse:
    """Pause, resume, cancel, restart or delete, for browsers without scripts too."""
    row = get_object_or_404(selectors.training_datasets(request.user), pk=pk)
    if not ProcessingJob.objects.for_user(request.user, Role.MANAGER).filter(pk=row.job_id).exists():
        raise PermissionDenied("This needs the role manager in the dataset.")
    if verb == "delete":
        try:
            services.delete_training_dataset(user=request.user, row=row)
        except ApplicationError as error:
            messages.error(request, error.detail)
            return redirect("training:detail", row.pk)
        messages.success(request, f"“{row.name}” was deleted.")
        return redirect("training:list")
    if verb not in VERBS:
        raise Http404
    try:
        services.move_training_dataset(user=request.user, row=row, verb=verb)
    except ApplicationError as error:
        messages.error(request, error.detail)
    return redirect("training:detail", row.pk)


@login_required
@require_safe
def download(request: HttpRequest, pk: UUID, choice: str) -> HttpResponseBase:
    row = get_object_or_404(selectors.training_datasets(request.user), pk=pk)
    try:
        return download_response(row, choice)
    except NotFoundError as error:
        raise Http404(error.detail) from error
    except ApplicationError as error:
        messages.error(request, error.detail)
        return redirect("training:detail", row.pk)
