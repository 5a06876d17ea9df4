"""Jobs run as a worker runs them, over a real recording."""

import errno
import hashlib
import json
import os
import shutil
import threading

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from core import work
from core.errors import ConflictError
from core.live import topic_of
from core.models import LiveEvent, WorkStatus
from labeling.jobs import selectors, services
from labeling.jobs.ingest import cropped_mask, frame_id
from labeling.jobs.models import Detection, Frame, ProcessingJob, StageRun, Track
from labeling.jobs.runner import job_folder
from pipeline.storage.journal import Journal
from tests.factories import LabelClassFactory
from tests.labeling.jobs.outputs import rows_of, tree_of

pytestmark = pytest.mark.django_db(transaction=True)
LABEL = ProcessingJob._meta.label


@pytest.fixture(autouse=True)
def quiet_queue(hints):
    return hints


def new_job(manager, recording, dataset=None, **parameters):
    return services.create_job(
        user=manager, dataset=dataset, input_paths=[str(recording)], parameters=parameters, start=True
    )


def work_on(job):
    work.advance(LABEL, str(job.pk))
    job.refresh_from_db()
    return job


_undisturbed = []


@pytest.fixture
def undisturbed(manager, street_recording):
    """What an extraction that nobody disturbs leaves: its tree and its rows. Done once."""
    if not _undisturbed:
        job = work_on(new_job(manager, street_recording, stages_to_run=["extraction"]))
        _undisturbed.append((tree_of(job_folder(job)), rows_of(job)))
    return _undisturbed[0]


def left_by(job):
    return tree_of(job_folder(job)), rows_of(job)


def test_extraction_leaves_files_rows_and_a_full_account(manager, street_recording):
    job = work_on(new_job(manager, street_recording, stages_to_run=["extraction"]))
    assert (job.status, job.error, job.progress) == (WorkStatus.COMPLETED, "", 1.0)
    [sequence] = job.sequences.all()
    frames = list(sequence.frames.order_by("number"))
    assert [frame.number for frame in frames] == list(range(8))
    assert all(frame.id == frame_id(sequence.pk, frame.number) for frame in frames)
    assert all(frame.has_depth and frame.has_right and frame.processing_time > 0 for frame in frames)
    assert (sequence.metric, sequence.camera["metric"]) == (True, True)
    folder = job_folder(job) / sequence.name
    assert len(list((folder / "image_left").glob("*.png"))) == 8
    registry = json.loads((folder / "frame_registry.json").read_text())
    assert [row["timestamp_ns"] for row in registry["frames"]] == [frame.timestamp_ns for frame in frames]
    [run] = sequence.stage_runs.all()
    assert (run.status, run.cursor, run.total, run.bad_frames) == (WorkStatus.COMPLETED, 8, 8, 0)
    assert run.elapsed_s > 0
    assert run.started_at < run.finished_at


def test_progress_only_grows_and_each_event_follows_the_last(manager, street_recording):
    job = work_on(new_job(manager, street_recording, stages_to_run=["extraction"]))
    events = LiveEvent.objects.filter(topic=topic_of(job)).order_by("seq")
    assert [event.seq for event in events] == list(range(1, job.event_seq + 1))
    progress = [event.payload["progress"] for event in events if event.payload["type"] == "progress"]
    assert progress == sorted(progress)
    assert progress[-1] == 1.0
    kinds = {event.payload["type"] for event in events}
    assert kinds == {"status", "progress", "log", "thumbnail"}


def test_all_four_stages_fill_detections_boxes_and_tracks(manager, dataset, street_recording):
    size = {"height_m": 1.53, "width_m": 1.63, "length_m": 3.88}
    LabelClassFactory(dataset=dataset, number=3, name="car", **size)
    job = work_on(new_job(manager, street_recording, dataset, confidence_threshold=0.1, segmenter="geometric"))
    assert (job.status, job.error) == (WorkStatus.COMPLETED, "")
    [sequence] = job.sequences.all()
    folder = job_folder(job) / sequence.name
    found = json.loads((folder / "detections" / "detections.json").read_text())
    listed = [detection for frame in found["frames"] for detection in frame["detections"]]
    detections = Detection.objects.filter(job=job)
    assert detections.count() == len(listed) > 0
    tracks = Track.objects.filter(sequence=sequence)
    assert sum(track.detection_count for track in tracks) == detections.exclude(track=None).count()
    for detection in detections.select_related("mask", "frame"):
        mask = detection.mask
        assert coco_mask.area(mask.rle()) == detection.area
        assert mask.left + mask.width <= detection.frame.width
        assert mask.top + mask.height <= detection.frame.height
        if detection.location_x is not None:
            assert detection.location_z > 0
            assert min(detection.height_m, detection.width_m, detection.length_m) > 0
    assert selectors.totals(job)["frames"] == 8


def test_a_slice_that_ends_early_is_gone_on_with_to_the_same_result(
    manager, street_recording, undisturbed, monkeypatch
):
    pieces = new_job(manager, street_recording, stages_to_run=["extraction"])
    monkeypatch.setattr("core.work.Lease.slice_over", property(lambda lease: True))
    for _ in range(30):
        if work_on(pieces).status == WorkStatus.COMPLETED:
            break
        monkeypatch.setattr("core.work.Lease.slice_over", property(EveryThird()))
    assert pieces.status == WorkStatus.COMPLETED
    assert left_by(pieces) == undisturbed


class EveryThird:
    """True each third time it is asked."""

    def __init__(self):
        self.asked = 0

    def __call__(self, lease):
        self.asked += 1
        return self.asked % 3 == 0


def test_a_paused_job_stops_between_two_frames_and_goes_on_there(manager, street_recording, undisturbed, monkeypatch):
    monkeypatch.setattr("labeling.jobs.runner.BEAT_SECONDS", 0)
    monkeypatch.setattr("labeling.jobs.runner.COMMIT_FRAMES", 1)
    job = new_job(manager, street_recording, stages_to_run=["extraction"])
    asked = []

    def pause_after_four(lease):
        asked.append(lease)
        if len(asked) == 5:
            services.pause_job(job=ProcessingJob.objects.get(pk=job.pk), user=manager)
        return False

    with monkeypatch.context() as patch:
        patch.setattr("core.work.Lease.slice_over", property(pause_after_four))
        work_on(job)
    assert job.status == WorkStatus.PAUSED
    assert 4 <= job.frames.count() < 8
    [stage] = selectors.job_state(job)["stages"]
    assert stage["status"] == "paused"
    services.resume_job(job=job, user=manager)
    work_on(job)
    assert job.status == WorkStatus.COMPLETED
    assert left_by(job) == undisturbed


def test_rows_that_a_killed_worker_did_not_write_follow_from_the_journal(manager, street_recording, undisturbed):
    """Killed after the last frame's line in the journal and before any commit: rows come, no frame is done again."""
    done = work_on(new_job(manager, street_recording, stages_to_run=["extraction"]))
    job = new_job(manager, street_recording, stages_to_run=["extraction"])
    shutil.copytree(job_folder(done), job_folder(job))
    images = {path: path.stat().st_mtime_ns for path in job_folder(job).rglob("*.png")}
    assert work_on(job).status == WorkStatus.COMPLETED
    assert {path: path.stat().st_mtime_ns for path in job_folder(job).rglob("*.png")} == images
    assert left_by(job) == undisturbed


def test_a_restarted_job_removes_what_was_there_and_gives_the_same(manager, street_recording, undisturbed):
    job = work_on(new_job(manager, street_recording, stages_to_run=["extraction"]))
    ProcessingJob.objects.filter(pk=job.pk).update(status=WorkStatus.FAILED)
    (job_folder(job) / "demo" / "left_over.txt").write_text("from the former run")
    job.refresh_from_db()
    services.restart_job(job=job, user=manager)
    assert (job.progress, job.clear_outputs) == (0, True)
    work_on(job)
    assert (job.status, job.clear_outputs) == (WorkStatus.COMPLETED, False)
    assert left_by(job) == undisturbed


def test_a_restart_waits_for_the_worker_of_the_former_run(manager, street_recording):
    job = work_on(new_job(manager, street_recording, stages_to_run=["extraction"]))
    ProcessingJob.objects.filter(pk=job.pk).update(status=WorkStatus.CANCELLED)
    job.refresh_from_db()
    services.restart_job(job=job, user=manager)
    with Journal(job_folder(job) / "demo" / ".journal" / "extraction.jsonl"):
        assert work_on(job).status == WorkStatus.RUNNING
        assert len(list(job_folder(job).rglob("image_left/*.png"))) == 8
    assert work_on(job).status == WorkStatus.COMPLETED


def test_a_recording_that_vanished_fails_the_job_with_a_sentence(manager, street_recording):
    job = new_job(manager, street_recording, stages_to_run=["extraction"])
    street_recording.unlink()
    work_on(job)
    assert job.status == WorkStatus.FAILED
    assert "demo.svo2" in job.error
    assert StageRun.objects.get(sequence__job=job).status == WorkStatus.FAILED
    assert job.log_lines.filter(level="error").count() == 1


def test_extraction_notes_which_bytes_it_read(manager, street_recording):
    job = work_on(new_job(manager, street_recording, stages_to_run=["extraction"]))
    assert job.sequences.get().sha256 == hashlib.sha256(street_recording.read_bytes()).hexdigest()


def test_a_recording_that_changed_after_the_job_was_created_fails_it(manager, street_recording):
    job = new_job(manager, street_recording, stages_to_run=["extraction"])
    with street_recording.open("r+b") as stream:  # as many bytes as before
        stream.seek(-200, os.SEEK_END)
        stream.write(b"x")
    assert work_on(job).status == WorkStatus.FAILED
    assert job.error == "demo.svo2 has changed since the job was created: create a new job."
    assert not Frame.objects.filter(job=job).exists()


def test_a_recording_that_is_not_the_one_prepared_fails_the_job(manager, street_recording):
    job = new_job(manager, street_recording, stages_to_run=["extraction"])
    job.sequences.update(sha256="0" * 64)
    assert work_on(job).status == WorkStatus.FAILED
    assert "has changed" in job.error


@pytest.mark.parametrize("place", ["outside", "elsewhere_inside"])
def test_a_path_that_was_swapped_for_a_link_after_it_was_checked_is_not_followed(
    manager, street_recording, settings, tmp_path, place
):
    job = new_job(manager, street_recording, stages_to_run=["extraction"])
    folder = tmp_path if place == "outside" else settings.DATA_ROOTS[0] / "other"
    folder.mkdir(exist_ok=True)
    street_recording.rename(folder / "secret.svo2")
    street_recording.symlink_to(folder / "secret.svo2")
    assert work_on(job).status == WorkStatus.FAILED
    assert "demo.svo2" in job.error
    assert not Frame.objects.filter(job=job).exists()


def test_an_unforeseen_error_is_in_the_jobs_own_log(manager, street_recording, monkeypatch):
    job = new_job(manager, street_recording, stages_to_run=["extraction"])

    def broken(*_):
        raise ValueError("a bug")

    monkeypatch.setattr("labeling.jobs.ingest.Ingest.store", broken)
    assert work_on(job).status == WorkStatus.FAILED
    assert job.error == "Unexpected ValueError: a bug"
    [line] = job.log_lines.filter(level="error")
    assert line.text == "Extraction of demo failed: Unexpected ValueError: a bug"
    assert StageRun.objects.get(sequence__job=job).status == WorkStatus.FAILED


def test_a_full_disk_fails_the_job_clearly_and_leaves_nothing_half_written(
    manager, street_recording, undisturbed, monkeypatch
):
    job = new_job(manager, street_recording, stages_to_run=["extraction"])
    with monkeypatch.context() as patch:
        append = Journal.append

        def full(journal, commit):
            if commit.cursor == 4:
                journal._stream.write(commit.line().encode()[:20])
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            append(journal, commit)

        patch.setattr(Journal, "append", full)
        assert work_on(job).status == WorkStatus.FAILED
    assert job.error == "The disk is full: make room, then restart it."
    assert job.log_lines.filter(level="error", text__contains="The disk is full").exists()
    assert not list(job_folder(job).rglob("*.tmp"))
    services.restart_job(job=job, user=manager)
    assert work_on(job).status == WorkStatus.COMPLETED
    assert left_by(job) == undisturbed


def test_rows_that_are_ahead_of_the_journal_are_not_written_twice(manager, street_recording, undisturbed):
    """After a power cut: the database kept what the journal's last lines, never synced, told of."""
    job = work_on(new_job(manager, street_recording, stages_to_run=["extraction"]))
    journals = job_folder(job) / "demo" / ".journal"
    (journals / "extraction.done").unlink()
    lines = (journals / "extraction.jsonl").read_bytes().splitlines(keepends=True)
    (journals / "extraction.jsonl").write_bytes(b"".join(lines[:5]))
    StageRun.objects.filter(sequence__job=job).update(status=WorkStatus.RUNNING)
    ProcessingJob.objects.filter(pk=job.pk).update(status=WorkStatus.RUNNING)
    assert work_on(job).status == WorkStatus.COMPLETED, job.error
    assert left_by(job) == undisturbed


def test_a_job_that_is_started_meanwhile_is_not_deleted(manager, street_recording):
    stale = services.create_job(
        user=manager, input_paths=[str(street_recording)], parameters={"stages_to_run": ["extraction"]}
    )
    services.start_job(job=ProcessingJob.objects.get(pk=stale.pk), user=manager)
    with pytest.raises(ConflictError):
        services.delete_job(job=stale, user=manager)
    assert ProcessingJob.objects.get(pk=stale.pk).deleted_at is None


def test_a_class_that_was_deleted_meanwhile_fails_the_job_with_its_name(manager, dataset, street_recording):
    job = new_job(manager, street_recording, dataset, stages_to_run=["extraction", "segmentation"])
    dataset.label_classes.filter(name="chair").delete()
    assert work_on(job).status == WorkStatus.FAILED
    assert "“chair”" in job.error


def test_the_diversity_filter_keeps_fewer_frames_and_all_inputs_count(manager, street_recording):
    job = work_on(
        new_job(
            manager,
            street_recording,
            stages_to_run=["extraction"],
            enable_diversity_filter=True,
            similarity_threshold=64.0,
            motion_threshold=1.0,
        )
    )
    assert Frame.objects.filter(job=job).count() == 1
    run = StageRun.objects.get(sequence__job=job)
    assert (run.cursor, run.total) == (8, 8)


def test_a_lease_is_renewed_while_one_piece_of_work_is_long(manager, street_recording, settings):
    settings.WORK_LEASE_SECONDS = 1
    lease = work._claim(ProcessingJob, str(new_job(manager, street_recording, stages_to_run=["extraction"]).pk))
    renewed = threading.Event()
    beat = lease.beat
    lease.beat = lambda: renewed.set()
    with lease.kept_alive():
        assert renewed.wait(3)
    beat()
    assert not [thread for thread in threading.enumerate() if thread.name == "lease"]


@pytest.mark.parametrize("corner", [(0, 0), (3, 5), (60, 90)])
def test_a_mask_is_cropped_to_its_bounds_without_loss(corner):
    top, left = corner
    whole = np.zeros((64, 100), np.uint8)
    whole[top : top + 4, left : left + 7] = 1
    whole[top, left] = 0
    rle = coco_mask.encode(np.asfortranarray(whole))
    found = cropped_mask({"size": [64, 100], "counts": rle["counts"].decode()})
    part = coco_mask.decode({"size": [found["height"], found["width"]], "counts": found["counts"]})
    again = np.zeros_like(whole)
    again[found["top"] : found["top"] + found["height"], found["left"] : found["left"] + found["width"]] = part
    assert np.array_equal(again, whole)
    assert found["width"] <= 7
    assert found["height"] <= 4


def test_an_empty_mask_is_no_row():
    rle = coco_mask.encode(np.zeros((8, 8), np.uint8, order="F"))
    assert cropped_mask({"size": [8, 8], "counts": rle["counts"].decode()}) is None
