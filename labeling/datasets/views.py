"""The pages of datasets. Writes beyond the forms go through the API, from the pages' own scripts."""

import uuid
from typing import Any

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_http_methods, require_safe

from accounts.models import Role
from core.errors import ApplicationError
from labeling.datasets import selectors, services
from labeling.datasets.api.filters import DatasetFileFilter, DatasetFilter
from labeling.datasets.api.serializers import OperationSerializer
from labeling.datasets.catalogue import PALETTE
from labeling.datasets.forms import DatasetForm
from labeling.datasets.models import Dataset, DatasetFile
from labeling.datasets.templatetags.recordings import KINDS
from labeling.datasets.uploads import SUFFIXES

PAGE_SIZE = 50
STATUSES = [status for status in DatasetFile.Status.choices if status[0] != DatasetFile.Status.FOUND]


@login_required
@require_safe
def dataset_list(request: HttpRequest) -> HttpResponse:
    rows = DatasetFilter(request.GET, selectors.datasets(request.user)).qs
    page = Paginator(rows, PAGE_SIZE).get_page(request.GET.get("page"))
    return render(request, "datasets/dataset_list.html", {"page_obj": page, "search": request.GET.get("search", "")})


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def create(request: HttpRequest) -> HttpResponse:
    form = DatasetForm(request.POST or None, initial={"source_folder": request.GET.get("folder", "")})
    if request.method == "POST" and form.is_valid():
        dataset = services.create_dataset(user=request.user, **form.cleaned_data)
        return redirect("datasets:detail", dataset.pk)
    return render(request, "datasets/dataset_create.html", {"form": form, "catalogue": selectors.catalogue()})


@login_required
@require_safe
def browse(request: HttpRequest) -> HttpResponse:
    return render(request, "datasets/browse.html", {"path": request.GET.get("path", "")})


@login_required
@require_safe
def detail(request: HttpRequest, pk: uuid.UUID) -> HttpResponse:
    context = _frame(request, pk, "recordings")
    dataset = context["dataset"]
    filters = DatasetFileFilter(request.GET, dataset.files.select_related("duplicate_of").defer("metadata"))
    page = Paginator(filters.qs, PAGE_SIZE).get_page(request.GET.get("page"))
    unknown = dataset.files.filter(stereo=True, metric=False, status__in=("ready", "salvaged"))
    context |= {
        "page_obj": page,
        "filtered": any(request.GET.get(name) for name in ("status", "search", "kind", "metric")),
        "statuses": STATUSES,
        "kinds": KINDS,
        "calibrations": selectors.calibrations(dataset),
        "serials": sorted(set(unknown.exclude(camera_serial="").values_list("camera_serial", flat=True)[:500]))[:8],
        "not_metric": unknown.count(),
        "operations": OperationSerializer(_shown_operations(dataset), many=True).data,
        "jobs": dataset.jobs.filter(deleted_at=None).order_by("-created_at")[:5],
        "suffixes": ",".join((*SUFFIXES, ".conf", ".json", ".txt")),
        "to_prepare": context["totals"]["usable"] - context["totals"]["prepared"],
    }
    return render(request, "datasets/dataset_detail.html", context)


def _shown_operations(dataset: Dataset) -> list[Any]:
    """Those under way, and the last of each kind if it failed."""
    shown = list(selectors.active_operations(dataset)[:5])
    for kind in ("scan", "prepare"):
        last = dataset.operations.filter(kind=kind).defer("work_list").first()
        if last is not None and last.status == "failed":
            shown.append(last)
    return shown


@login_required
@require_safe
def classes(request: HttpRequest, pk: uuid.UUID) -> HttpResponse:
    context = _frame(request, pk, "classes")
    return render(
        request,
        "datasets/dataset_classes.html",
        context | {"classes": selectors.classes(context["dataset"]), "palette": PALETTE},
    )


@login_required
@require_safe
def members(request: HttpRequest, pk: uuid.UUID) -> HttpResponse:
    context = _frame(request, pk, "members")
    is_owner = context["role"] == Role.OWNER
    roles = [role for role in Role if is_owner or role != Role.OWNER]
    explained = {
        Role.VIEWER: "looks at everything",
        Role.ANNOTATOR: "corrects labels",
        Role.REVIEWER: "accepts labels or sends them back",
        Role.MANAGER: "brings recordings in, runs jobs, exports",
        Role.OWNER: "decides who belongs to it, and deletes it",
    }
    return render(
        request,
        "datasets/dataset_members.html",
        context
        | {
            "members": selectors.members(context["dataset"]),
            "roles": roles,
            "explained": [(role.label, explained[role]) for role in Role],
            "is_owner": is_owner,
        },
    )


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def settings_page(request: HttpRequest, pk: uuid.UUID) -> HttpResponse:
    context = _frame(request, pk, "settings")
    dataset = context["dataset"]
    form = DatasetForm(request.POST or None, instance=Dataset.objects.get(pk=dataset.pk))
    if request.method == "POST":
        if not context["can_manage"]:
            raise PermissionDenied
        if form.is_valid():
            try:
                version = int(request.POST.get("version", ""))
                services.update_dataset(
                    user=request.user, dataset=dataset, expected_version=version, **form.cleaned_data
                )
            except ValueError:
                form.add_error(None, "The form was incomplete: load the page again.")
            except ApplicationError as error:
                form.add_error(None, f"{error.detail} Load the page again to see it.")
            else:
                messages.success(request, "Saved.")
                return redirect("datasets:settings", pk)
    return render(request, "datasets/dataset_settings.html", context | {"form": form})


@login_required
@require_safe
def file_detail(request: HttpRequest, pk: uuid.UUID, file_id: uuid.UUID) -> HttpResponse:
    context = _frame(request, pk, "recordings")
    dataset = context["dataset"]
    file = get_object_or_404(dataset.files.select_related("calibration", "duplicate_of"), pk=file_id)
    sequences = file.sequences.select_related("job").filter(job__deleted_at=None).order_by("-job__created_at")[:20]
    return render(
        request,
        "datasets/file_detail.html",
        context | {"file": file, "calibrations": dataset.calibrations.all(), "sequences": sequences},
    )


def _frame(request: HttpRequest, pk: uuid.UUID, tab: str) -> dict[str, Any]:
    """What every page of one dataset shows; 404 unless the user is a member."""
    dataset = selectors.datasets(request.user).filter(pk=pk).first()
    if dataset is None:
        raise Http404
    role = Role(dataset.role)
    return {
        "dataset": dataset,
        "role": role,
        "can_manage": role.rank >= Role.MANAGER.rank,
        "totals": selectors.file_totals(dataset),
        "tab": tab,
    }
