"""The pages of models: what was trained, how well it does, which one new jobs use."""

from typing import Any
from uuid import UUID

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_POST, require_safe

from accounts.models import Role
from core import work
from core.errors import ApplicationError
from core.live import topic_of
from labeling.datasets.models import Dataset
from labeling.jobs.models import ProcessingJob
from training import class_heads
from training.models import ModelVersion
from training.plots import reliability_plot

PAGE_SIZE = 50
VERBS = ("pause", "resume", "cancel", "restart")


@login_required
@require_safe
def model_list(request: HttpRequest) -> HttpResponse:
    """All models; of one dataset (`?dataset=`, or the only one there is) also what there is to learn from."""
    datasets = Dataset.objects.for_user(request.user).order_by("name")
    first = list(datasets[:2])
    dataset = first[0] if len(first) == 1 and "dataset" not in request.GET else None
    if text := request.GET.get("dataset", ""):
        try:
            dataset = datasets.get(pk=UUID(text))
        except (ValueError, Dataset.DoesNotExist) as error:
            raise Http404("There is no such dataset.") from error
    rows = ModelVersion.objects.for_user(request.user).select_related("dataset", "created_by")
    if dataset is not None:
        rows = rows.filter(dataset=dataset)
    context = {
        "page_obj": Paginator(rows, PAGE_SIZE).get_page(request.GET.get("page")),
        "datasets": datasets,
        "dataset": dataset,
        "overview": class_heads.overview(dataset) if dataset else None,
        "retrain_after": class_heads.RETRAIN_AFTER,
        "may_change": dataset is not None and _may_change(request, dataset.pk),
    }
    return render(request, "training/model_list.html", context)


@login_required
@require_safe
def model_detail(request: HttpRequest, pk: UUID) -> HttpResponse:
    rows = ModelVersion.objects.for_user(request.user).select_related("dataset", "parent", "created_by")
    row = get_object_or_404(rows, pk=pk)
    actions = work.allowed_actions(row)
    may_change = _may_change(request, row.dataset_id)
    siblings = ModelVersion.objects.for_user(request.user).filter(dataset=row.dataset_id, task=row.task)
    measured = row.metrics.get("metrics") or None
    context = {
        "row": row,
        "measured": measured,
        "plot": reliability_plot(measured["reliability"]) if measured else None,
        "classes": _classes(row, measured),
        "versions": siblings.order_by("-number")[:20],
        "jobs": ProcessingJob.objects.for_user(request.user).filter(class_head__id=str(row.pk))[:10],
        "verbs": [(verb, verb in actions and may_change) for verb in VERBS],
        "may_change": may_change,
        "live": {"id": str(row.pk), "topic": topic_of(row), "status": row.status, "seq": row.event_seq},
    }
    return render(request, "training/model_detail.html", context)


def _classes(row: ModelVersion, measured: dict[str, Any] | None) -> list[dict[str, Any]]:
    """A row for each class: labels, and where labels were held back, precision and recall."""
    rates = {item["id"]: item for item in measured["per_class"]} if measured else {}
    classes = [{**item, **rates.get(item["id"], {})} for item in row.metrics.get("classes", [])]
    if row.metrics.get("none_labels"):
        classes.append({"name": "none of these", "labels": row.metrics["none_labels"], **rates.get(0, {})})
    return classes


@login_required
@require_POST
def model_train(request: HttpRequest, dataset_id: UUID) -> HttpResponse:
    """From the button of a page."""
    dataset = get_object_or_404(Dataset.objects.for_user(request.user), pk=dataset_id)
    if not _may_change(request, dataset.pk):
        raise PermissionDenied("Training needs the role manager in the dataset.")
    try:
        row = class_heads.train_class_head(user=request.user, dataset=dataset)
    except ApplicationError as error:
        messages.error(request, error.detail)
        return redirect(f"/models/?dataset={dataset.pk}")
    return redirect("models:detail", row.pk)


@login_required
@require_POST
def model_move(request: HttpRequest, pk: UUID, verb: str) -> HttpResponse:
    """Activate, deactivate, delete, or steer the training, for browsers without scripts too."""
    row = get_object_or_404(ModelVersion.objects.for_user(request.user), pk=pk)
    if not _may_change(request, row.dataset_id):
        raise PermissionDenied("This needs the role manager in the dataset.")
    try:
        if verb == "activate":
            class_heads.activate(user=request.user, row=row)
            messages.success(request, f"New jobs of “{row.dataset}” use “{row.name}”.")
        elif verb == "deactivate":
            class_heads.deactivate(user=request.user, row=row)
            messages.success(request, f"New jobs of “{row.dataset}” use no class head.")
        elif verb == "delete":
            class_heads.delete_model(user=request.user, row=row)
            messages.success(request, f"“{row.name}” was deleted.")
            return redirect("models:list")
        elif verb in VERBS:
            class_heads.move_model(user=request.user, row=row, verb=verb)
        else:
            raise Http404
    except ApplicationError as error:
        messages.error(request, error.detail)
    return redirect("models:detail", row.pk)


def _may_change(request: HttpRequest, dataset_id: UUID) -> bool:
    return Dataset.objects.for_user(request.user, Role.MANAGER).filter(pk=dataset_id).exists()
