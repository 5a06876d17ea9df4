"""Removing what jobs found, a batch of rows per commit: others write in between, and nothing is loaded into memory."""

import shutil
from collections.abc import Iterator
from pathlib import Path

from django.conf import settings
from django.db import transaction

from labeling.jobs.models import Detection, DetectionMask, Frame, ProcessingJob, Track

BATCH = 5000


def remove_results(job: ProcessingJob) -> Iterator[int]:
    """Delete all detections, tracks and frames of `job`, yielding the rows deleted after each commit."""
    detections = Detection.objects.filter(job=job).order_by("pk")
    while batch := list(detections.values_list("pk", flat=True)[:BATCH]):
        with transaction.atomic():
            masks = DetectionMask.objects.filter(detection__job=job, detection__pk__lte=batch[-1])
            masks._raw_delete(masks.db)
            chosen = Detection.objects.filter(job=job, pk__lte=batch[-1])
            chosen._raw_delete(chosen.db)  # nothing else refers to them: no need to load them
        yield len(batch)
    tracks = Track.objects.filter(sequence__job=job)
    yield tracks._raw_delete(tracks.db)
    frames = Frame.objects.filter(job=job).order_by("pk")
    while batch := list(frames.values_list("pk", flat=True)[: BATCH // 10]):
        Frame.objects.filter(pk__in=batch).delete()
        yield len(batch)


def purge_job(job: ProcessingJob) -> None:
    """Remove a job for good: files first, so that one that was interrupted is simply done again."""
    for root in (Path(settings.JOBS_ROOT), Path(settings.MEDIA_ROOT) / "previews"):
        shutil.rmtree(root / str(job.pk), ignore_errors=True)
    for _ in remove_results(job):
        pass
    job.delete()
