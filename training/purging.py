"""Removing for good what was deleted some time ago: datasets, jobs, training datasets, models, with their files."""

import logging
import shutil
from datetime import datetime, timedelta
from pathlib import Path

from django.conf import settings
from django.db.models import Q
from django.utils import timezone

from core.housekeeping import chore
from labeling.datasets.models import Dataset, Upload
from labeling.jobs.models import ProcessingJob
from labeling.jobs.removal import purge_job
from training.models import ModelVersion, TrainingDataset
from training.places import ModelPlace
from training.services import purge_training_dataset

logger = logging.getLogger(__name__)


def purge(before: datetime) -> dict[str, int]:
    """Remove what was deleted before that time, and what belongs to it; gives how many of each.

    What a worker still holds is left for the next time. Interrupted, it is simply done again.
    """
    datasets = Dataset.objects.filter(deleted_at__lt=before)
    jobs = ProcessingJob.objects.filter(Q(deleted_at__lt=before) | Q(dataset__in=datasets), lease_owner="")
    exports = TrainingDataset.objects.filter(Q(deleted_at__lt=before) | Q(job__in=jobs), lease_owner="")
    models = ModelVersion.objects.filter(Q(deleted_at__lt=before) | Q(dataset__in=datasets), lease_owner="")
    counts = {"training datasets": 0, "models": 0, "jobs": 0, "datasets": 0}
    for row in exports.defer("export_state", "filter_config").iterator(chunk_size=100):
        purge_training_dataset(row=row)
        counts["training datasets"] += 1
    for model in models.iterator(chunk_size=100):
        shutil.rmtree(ModelPlace(model).root, ignore_errors=True)
        model.delete()
        counts["models"] += 1
    for job in jobs.filter(training_datasets=None).iterator(chunk_size=100):
        purge_job(job)
        counts["jobs"] += 1
    for dataset in (
        datasets.filter(jobs=None, model_versions=None).exclude(operations__lease_owner__gt="").iterator(chunk_size=100)
    ):
        _purge_dataset(dataset)
        counts["datasets"] += 1
    return counts


@chore
def purge_old() -> None:
    if settings.PURGE_DAYS > 0:
        counts = purge(timezone.now() - timedelta(days=settings.PURGE_DAYS))
        if any(counts.values()):
            logger.info("Removed for good: %s", ", ".join(f"{count} {what}" for what, count in counts.items()))


def _purge_dataset(dataset: Dataset) -> None:
    for upload in Upload.objects.filter(dataset=dataset):
        (Path(settings.UPLOADS_ROOT) / str(upload.pk)).unlink(missing_ok=True)
    for root in (settings.DATASETS_ROOT, settings.CALIBRATIONS_ROOT):
        shutil.rmtree(Path(root) / str(dataset.pk), ignore_errors=True)  # links are removed, not followed
    dataset.delete()
