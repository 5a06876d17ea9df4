"""The first page: what waits for the person who signed in."""

from django.contrib.auth.decorators import login_required
from django.db.models import Count, Q
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from core.models import WorkStatus
from labeling.datasets.models import Dataset
from labeling.jobs.models import ProcessingJob
from training.models import TrainingDataset

SHOWN = 6


@login_required
def home(request: HttpRequest) -> HttpResponse:
    user = request.user
    jobs = ProcessingJob.objects.for_user(user).select_related("dataset")
    context = {
        "attention": jobs.filter(status__in=[WorkStatus.FAILED, WorkStatus.PAUSED])[:SHOWN],
        "jobs": jobs.exclude(status__in=[WorkStatus.FAILED, WorkStatus.PAUSED])[:SHOWN],
        "datasets": Dataset.objects.for_user(user).annotate(
            file_count=Count("files", distinct=True),
            job_count=Count("jobs", filter=Q(jobs__deleted_at=None), distinct=True),
        )[:SHOWN],
        "training_datasets": TrainingDataset.objects.for_user(user).select_related("job")[:SHOWN],
    }
    return render(request, "core/home.html", context)
