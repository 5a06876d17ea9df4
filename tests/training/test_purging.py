"""What was deleted vanishes for good after a while, files and all; nothing else does."""

from datetime import timedelta
from io import StringIO

import pytest
from django.core.management import call_command
from django.utils import timezone

from core import housekeeping, work
from core.errors import ConflictError
from core.models import WorkStatus
from labeling.datasets.models import Dataset, LabelClass
from labeling.datasets.services import delete_dataset, forget_file
from labeling.jobs import services as jobs
from labeling.jobs.models import Detection, Frame, ProcessingJob
from labeling.jobs.removal import remove_results
from tests.factories import DatasetFileFactory
from tests.labeling.review.scenes import make_job
from training import services, tasks
from training.models import TrainingDataset, TrainingDatasetFrame
from training.places import ExportPlace

pytestmark = pytest.mark.django_db
LONG_AGO = timedelta(days=31)


@pytest.fixture
def exported(owner, job):
    row = services.create_training_dataset(user=owner, job=job)
    work.advance(TrainingDataset._meta.label, str(row.pk))
    row.refresh_from_db()
    assert row.status == WorkStatus.COMPLETED
    return row


def deleted(row, ago=LONG_AGO):
    type(row)._base_manager.filter(pk=row.pk).update(deleted_at=timezone.now() - ago)


def test_a_job_goes_with_its_files_rows_and_exports_and_another_stays(job, exported, settings, owner):
    other = make_job(owner=owner, frames=2, sequences=1)
    deleted(job)
    housekeeping.do_chores()
    assert not ProcessingJob.objects.filter(pk=job.pk).exists()
    assert not Detection.objects.filter(job=job.pk).exists()
    assert not TrainingDatasetFrame.objects.exists()
    assert not (settings.JOBS_ROOT / str(job.pk)).exists()
    assert not ExportPlace(exported).final.exists()
    assert (settings.JOBS_ROOT / str(other.pk)).exists()
    assert Frame.objects.filter(job=other).count() == 2


def test_what_was_deleted_lately_stays(job, settings):
    deleted(job, timedelta(days=29))
    housekeeping.do_chores()
    assert ProcessingJob.objects.filter(pk=job.pk).exists()
    assert (settings.JOBS_ROOT / str(job.pk)).exists()


def test_with_zero_days_nothing_is_ever_purged(job, settings):
    settings.PURGE_DAYS = 0
    deleted(job)
    housekeeping.do_chores()
    assert ProcessingJob.objects.filter(pk=job.pk).exists()


def test_a_dataset_goes_with_all_that_belongs_to_it(job, exported, settings):
    dataset = job.dataset
    original = settings.DATA_ROOTS[0] / "kept"
    original.mkdir()
    folder = settings.DATASETS_ROOT / str(dataset.pk)
    folder.mkdir(parents=True)
    (folder / "linked").symlink_to(original)
    deleted(dataset)
    told = StringIO()
    call_command("purge", "--days=30", stdout=told)
    assert told.getvalue() == "Removed 1 training datasets, 0 models, 1 jobs, 1 datasets.\n"
    assert not Dataset.objects.filter(pk=dataset.pk).exists()
    assert not LabelClass.objects.filter(dataset=dataset.pk).exists()
    assert not folder.exists()
    assert original.exists()


def test_what_a_worker_still_holds_is_left_for_the_next_time(job, exported, settings):
    ProcessingJob.objects.filter(pk=job.pk).update(lease_owner="elsewhere|1|1|1")
    deleted(job)
    housekeeping.do_chores()
    assert ProcessingJob.objects.filter(pk=job.pk).exists()
    assert (settings.JOBS_ROOT / str(job.pk)).exists()


def test_results_are_removed_batch_by_batch(job, monkeypatch):
    monkeypatch.setattr("labeling.jobs.removal.BATCH", 20)
    assert Detection.objects.filter(job=job).count() > 20
    assert max(remove_results(job)) == 20
    assert not Detection.objects.filter(job=job).exists()
    assert not Frame.objects.filter(job=job).exists()


def test_deleting_a_dataset_ends_the_jobs_and_exports_under_way(owner, job):
    export = services.create_training_dataset(user=owner, job=job)
    running = ProcessingJob.objects.create(name="Second", dataset=job.dataset, status=WorkStatus.RUNNING)
    waiting = ProcessingJob.objects.create(name="Third", dataset=job.dataset)
    delete_dataset(user=owner, dataset=job.dataset)
    for row, status in ((export, "cancelled"), (running, "cancelled"), (waiting, "cancelled"), (job, "completed")):
        row.refresh_from_db()
        assert row.status == status


def test_a_job_that_training_datasets_were_made_of_is_not_restarted(owner, job):
    ProcessingJob.objects.filter(pk=job.pk).update(status=WorkStatus.CANCELLED)
    job.refresh_from_db()
    export = services.create_training_dataset(user=owner, job=job)
    with pytest.raises(ConflictError, match="Training datasets were made"):
        jobs.restart_job(job=job, user=owner)
    services.delete_training_dataset(user=owner, row=export)
    assert jobs.restart_job(job=job, user=owner).status == WorkStatus.RUNNING


def test_an_export_whose_frames_vanish_fails_instead_of_ending_early(owner, job, monkeypatch):
    export = services.create_training_dataset(user=owner, job=job)

    plan = tasks._plan

    def take_some_away(lease, filters):
        plan(lease, filters)
        Frame.objects.filter(job=job, number=3).delete()

    monkeypatch.setattr(tasks, "_plan", take_some_away)
    work.advance(TrainingDataset._meta.label, str(export.pk))
    export.refresh_from_db()
    assert export.status == WorkStatus.FAILED
    assert export.error == "Only 18 of 20 frames are there any more: restart the export."


def test_a_file_whose_job_was_deleted_can_be_taken_out(owner, job):
    file = DatasetFileFactory(dataset=job.dataset)
    job.sequences.update(file=file)
    with pytest.raises(ConflictError):
        forget_file(user=owner, file=file)
    deleted(job)
    forget_file(user=owner, file=file)
    assert not job.dataset.files.filter(pk=file.pk).exists()
