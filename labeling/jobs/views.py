"""The pages of jobs."""

import uuid
from typing import Any

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.http import require_POST, require_safe

from accounts.models import Role
from core.errors import ApplicationError
from core.models import WorkStatus
from labeling.datasets.models import Dataset
from labeling.jobs import selectors, services
from labeling.jobs.forms import JobForm
from labeling.jobs.models import ProcessingJob

PAGE_SIZE = 25
ENDED = (WorkStatus.COMPLETED, WorkStatus.CANCELLED, WorkStatus.FAILED)
KEYS = {"start": "s", "pause": "p", "resume": "r", "cancel": "c", "restart": "x"}


@login_required
@require_safe
def job_list(request: HttpRequest) -> HttpResponse:
    rows = selectors.jobs(request.user)
    status = request.GET.get("status", "")
    dataset = _uuid(request.GET.get("dataset", ""))
    if status in WorkStatus.values:
        rows = rows.filter(status=status)
    if dataset:
        rows = rows.filter(dataset=dataset)
    if text := request.GET.get("q", "").replace("\x00", "").strip():
        rows = rows.filter(name__icontains=text)
    context = {
        "page": Paginator(rows, PAGE_SIZE).get_page(request.GET.get("page")),
        "statuses": WorkStatus.choices,
        "status": status,
        "datasets": Dataset.objects.for_user(request.user).order_by("name"),
        "dataset": dataset,
        "query": text,
        "filtered": bool(status or dataset or text),
    }
    return render(request, "jobs/job_list.html", context)


@login_required
def job_create(request: HttpRequest) -> HttpResponse:
    chosen = _uuid(request.POST.get("dataset") or request.GET.get("dataset", ""))
    dataset = Dataset.objects.for_user(request.user, Role.MANAGER).filter(pk=chosen).first() if chosen else None
    if request.method == "POST":
        form = JobForm(request.POST, user=request.user, dataset=dataset)
        if form.is_valid():
            job = form.save(start="start" in request.POST)
            if job is not None:
                return redirect("jobs:detail", job.pk)
    else:
        initial = {"file_ids": request.GET.getlist("file"), "input_paths": "\n".join(request.GET.getlist("path"))}
        form = JobForm(user=request.user, dataset=dataset, initial=initial)
    status = 400 if form.errors else 200
    return render(request, "jobs/job_form.html", {"form": form, "dataset": dataset}, status=status)


@login_required
@require_safe
def job_detail(request: HttpRequest, pk: uuid.UUID) -> HttpResponse:
    job = get_object_or_404(selectors.jobs(request.user), pk=pk)
    sequences = list(selectors.sequences(job))
    frames = selectors.frame_totals(job)
    for sequence in sequences:
        sequence.kept = frames.get(sequence.pk, 0)
    runs = [run for sequence in sequences for run in sequence.stage_runs.all()]
    state = selectors.job_state(job, runs)
    context = {
        "job": job,
        "state": state,
        "sequences": sequences,
        "totals": selectors.totals(job),
        "frames": selectors.newest_frames(job),
        "uncertain": selectors.most_uncertain_frames(job) if job.status in ENDED else [],
        "log": selectors.log_tail(job),
        "verbs": _verbs(job, state["actions"]),
        "live": {
            "topic": f"processingjob:{job.pk}",
            "since": job.event_seq,
            "job": str(job.pk),
            "mayRun": job.may_run,
            "state": state,
        },
    }
    return render(request, "jobs/job_detail.html", context)


@login_required
@require_POST
def job_move(request: HttpRequest, pk: uuid.UUID, verb: str) -> HttpResponse:
    """A verb from a button, for a browser without scripts."""
    if verb not in services.VERBS:
        raise Http404
    job = get_object_or_404(ProcessingJob.objects.for_user(request.user, Role.MANAGER), pk=pk)
    try:
        services.VERBS[verb](job=job, user=request.user)
    except ApplicationError as error:
        messages.error(request, error.detail)
    return redirect("jobs:detail", pk)


@login_required
@require_POST
def job_rename(request: HttpRequest, pk: uuid.UUID) -> HttpResponse:
    job = get_object_or_404(ProcessingJob.objects.for_user(request.user, Role.MANAGER), pk=pk)
    name = request.POST.get("name", "").replace("\x00", "").strip()
    version = request.POST.get("version", "")
    if not 0 < len(name) <= 200:
        messages.error(request, "A name has 1 to 200 characters.")
        return redirect("jobs:detail", pk)
    try:
        services.rename_job(
            job=job, user=request.user, name=name, expected_version=int(version) if version.isdecimal() else None
        )
    except ApplicationError as error:
        messages.error(request, error.detail)
    return redirect("jobs:detail", pk)


@login_required
@require_POST
def job_delete(request: HttpRequest, pk: uuid.UUID) -> HttpResponse:
    job = get_object_or_404(ProcessingJob.objects.for_user(request.user, Role.MANAGER), pk=pk)
    try:
        services.delete_job(job=job, user=request.user)
    except ApplicationError as error:
        messages.error(request, error.detail)
        return redirect("jobs:detail", pk)
    messages.success(request, f"The job “{job.name}” was deleted.")
    return redirect("jobs:list")


def _verbs(job: Any, actions: list[str]) -> list[dict[str, Any]]:
    return [
        {
            "name": verb,
            "label": verb.capitalize(),
            "key": KEYS[verb],
            "url": reverse("jobs:move", args=[job.pk, verb]),
            "shown": job.may_run and verb in actions,
        }
        for verb in services.VERBS
    ]


def _uuid(text: str) -> uuid.UUID | None:
    try:
        return uuid.UUID(text)
    except ValueError:
        return None
