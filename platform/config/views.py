"""The first page: what waits for the person who signed in."""

from django.contrib.auth.decorators import login_required
from django.db.models import Count, Q
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from core.models import WorkStatus
from labeling.datasets.models import Dataset
from labeling.jobs.models import Frame, ProcessingJob
from training.models import TrainingDataset

SHOWN = 6
PICTURES = 6


@login_required
def home(request: HttpRequest) -> HttpResponse:
    user = request.user
    jobs = ProcessingJob.objects.for_user(user).select_related("dataset")
    latest = jobs.filter(status=WorkStatus.COMPLETED).first()
    context = {
        "latest": latest,
        "pictures": _spread(latest) if latest else [],
        "attention": jobs.filter(status__in=[WorkStatus.FAILED, WorkStatus.PAUSED])[:SHOWN],
        "jobs": jobs.exclude(status__in=[WorkStatus.FAILED, WorkStatus.PAUSED])[:SHOWN],
        "datasets": Dataset.objects.for_user(user).annotate(
            file_count=Count("files", distinct=True),
            job_count=Count("jobs", filter=Q(jobs__deleted_at=None), distinct=True),
        )[:SHOWN],
        "training_datasets": TrainingDataset.objects.for_user(user).select_related("job")[:SHOWN],
    }
    return render(request, "core/home.html", context)


def _spread(job: ProcessingJob) -> list[Frame]:
    """A few frames of the job's first recording at even distances, to see at a glance what it is about."""
    frames = job.frames.filter(sequence__position=0)
    count = frames.count()
    numbers = range(0, count, max(1, count // PICTURES))[:PICTURES]
    return list(frames.filter(number__in=numbers).order_by("number"))
