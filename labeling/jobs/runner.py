"""Doing a job: stage by stage, over all its sequences; files first, journals next, rows last.

The engine appends each frame it has done to the stage's journal. From there the rows follow, some frames per commit,
together with the cursor that says how far they have come. Killed anywhere, the journal knows where the files end and
the cursor where the rows do.
"""

import os
import shutil
import time
from collections.abc import Generator
from contextlib import ExitStack, closing
from itertools import groupby
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import DatabaseError
from django.db.models.functions import Now

from core.models import WorkStatus
from core.paths import PathError, resolve_stored
from core.work import Lease, Outcome, reason_of
from labeling.datasets.copying import Beat, digest
from labeling.datasets.finding import state_of
from labeling.datasets.models import LabelClass
from labeling.jobs import class_heads, selectors, services
from labeling.jobs.ingest import Ingest, frame_id
from labeling.jobs.models import LogLine, ProcessingJob, StageRun
from labeling.jobs.removal import remove_results
from labeling.jobs.segmenters import class_specs
from pipeline.errors import PipelineError, RecordingError, Stopped
from pipeline.stages.base import Stage, StageContext
from pipeline.stages.building import build_stages
from pipeline.stages.plan import PipelineConfig, shares
from pipeline.stages.run import journal_path, run_stage
from pipeline.storage.journal import Commit, Journal, JournalBusyError, read_journal
from pipeline.storage.layout import SequenceLayout
from pipeline.storage.sequence import SequenceFileError, read_camera

COMMIT_SECONDS = 0.5
COMMIT_FRAMES = 64
BEAT_SECONDS = 1.0
MAX_LOGGED_BAD_FRAMES = 20
"""Bad frames told of one by one in the log, per stage and sequence; all are counted."""
SHOWN_STAGES = ("extraction", "segmentation")
"""The stages whose frames are worth looking at as they come."""


def job_folder(job: ProcessingJob) -> Path:
    return Path(settings.JOBS_ROOT) / str(job.pk)


class JobRun:
    """One slice of work on a job."""

    def __init__(self, lease: Lease[ProcessingJob]) -> None:
        self.lease = lease
        self.job = lease.row
        self.config = PipelineConfig.from_json(self.job.config)
        self._others_wait = False
        self._checked = 0.0

    def run(self) -> Outcome:
        self._check_classes()
        if self.job.clear_outputs:
            self._clear_outputs()
        stages = build_stages(self.config, self.job.segmenter)
        self._share = shares(list(stages))
        self._runs = list(
            StageRun.objects.filter(sequence__job=self.job)
            .select_related("sequence", "sequence__calibration")
            .order_by("position", "sequence__position")
        )
        for name, runs in groupby(self._runs, key=lambda run: run.stage):
            for run in runs:
                if run.status == WorkStatus.COMPLETED:
                    continue
                run.sequence.job = self.job
                if SequenceRun(self, stages[name], run).run() is Outcome.MORE:
                    return Outcome.MORE
        with self.lease.step(current_stage="", message="") as events:
            events.append(self.log("Completed."))
        return Outcome.DONE

    def should_stop(self) -> bool:
        """Asked between two frames: True ends the slice; raises Stopped if the job was paused, cancelled or taken."""
        now = time.monotonic()
        if now - self._checked >= BEAT_SECONDS:
            self._checked = now
            self.lease.beat()
        self._others_wait = self.lease.slice_over
        return self._others_wait

    @property
    def slice_ended(self) -> bool:
        return self._others_wait

    def progress(self) -> float:
        by_stage: dict[str, list[StageRun]] = {}
        for run in self._runs:
            by_stage.setdefault(run.stage, []).append(run)
        done = (
            self._share[stage] * sum(map(selectors.run_progress, runs)) / len(runs) for stage, runs in by_stage.items()
        )
        return min(sum(done), 1.0)

    def progress_event(self, progress: float) -> dict[str, Any]:
        stages = selectors.stage_states(self._runs, self.job.stages)
        elapsed = sum(stage["elapsed_s"] for stage in stages)
        return {
            "type": "progress",
            "progress": round(progress, 4),
            "stage": self.job.current_stage,
            "message": self.job.message,
            "stages": stages,
            "elapsed_s": round(elapsed, 2),
            "remaining_s": selectors.remaining_seconds(progress, elapsed, WorkStatus.RUNNING),
        }

    def log(self, text: str, level: LogLine.Level = LogLine.Level.INFO) -> dict[str, Any]:
        """Add a line to the job's log (inside the caller's transaction); gives the event that tells of it."""
        return services.log_event(services.log(self.job, text, level))

    def _check_classes(self) -> None:
        ids = [item["id"] for item in self.job.classes]
        known = set(LabelClass.objects.filter(pk__in=ids).values_list("pk", flat=True))
        for item in self.job.classes:
            if item["id"] not in known:
                raise PipelineError(f"The label class “{item['name']}” was deleted after the job had been created.")

    def _clear_outputs(self) -> None:
        """Remove what the former run left, rows and files, once nobody writes to it any more.

        Raises JournalBusyError while a worker of the former run is still at a frame.
        """
        folder = job_folder(self.job)
        with ExitStack() as held:
            for path in sorted(folder.glob("*/.journal/*.jsonl")):
                held.enter_context(Journal(path))
            if folder.exists():
                shutil.rmtree(folder)
        with self.lease.step(message="Removing the former run"):
            pass
        for _ in remove_results(self.job):
            self.lease.beat()
        with self.lease.step():
            self.job.sequences.update(camera=None)
            ProcessingJob.objects.filter(pk=self.job.pk).update(clear_outputs=False)
        self.job.clear_outputs = False


class SequenceRun:
    """One stage over one sequence."""

    def __init__(self, job_run: JobRun, stage: Stage, run: StageRun) -> None:
        self.job_run = job_run
        self.lease = job_run.lease
        self.stage = stage
        self.stage_run = run
        self.sequence = run.sequence
        self.layout = SequenceLayout(job_folder(job_run.job) / self.sequence.name)
        self.ingest = Ingest(job_run.job, self.sequence)
        self._messages: list[str] = []
        self._since = time.monotonic()

    def run(self) -> Outcome:
        self._begin()
        try:
            if self.stage.name == "extraction":
                self._check_recording()
            ended = self._work()
            if ended and self.stage.name == "extraction" and state_of(self._recording) != self.sequence.source_state:
                raise self._changed()
        except (JournalBusyError, Stopped, DatabaseError):
            raise
        except Exception as error:
            self._give_up(reason_of(error))
            raise
        if not ended:
            return Outcome.MORE
        self._complete()
        return Outcome.DONE

    @property
    def _recording(self) -> Path:
        return Path(self.sequence.source_path)

    def _check_recording(self) -> None:
        """It is still where users may read, and what it was when the job was created. Raises RecordingError."""
        sequence, path = self.sequence, self._recording
        try:
            is_itself = resolve_stored(path) == path
        except PathError as error:
            raise RecordingError(error.errors["path"][0]) from error
        if not is_itself:
            raise RecordingError(f"{path.name} has been replaced by a link since the job was created.")
        state = state_of(path)
        is_new = self.stage_run.cursor == 0
        if state == sequence.source_state and sequence.sha256 and not is_new:
            return
        if state != sequence.source_state and sequence.source_state and not sequence.sha256:
            raise self._changed()
        sha256 = digest(path, Beat(self.lease.beat))
        if sequence.sha256 not in ("", sha256):
            raise self._changed()
        sequence.sha256, sequence.source_state = sha256, state
        with self.lease.step():
            sequence.save(update_fields=("sha256", "source_state"))

    def _changed(self) -> RecordingError:
        return RecordingError(f"{self._recording.name} has changed since the job was created: create a new job.")

    @property
    def _class_head(self) -> Path | None:
        """The job's own class head. Raises ClassHeadError if it is not there any more, or another."""
        snapshot = self.job_run.job.class_head
        return class_heads.verified_file(snapshot) if snapshot and self.stage.name == "segmentation" else None

    @property
    def context(self) -> StageContext:
        calibration = self.sequence.calibration
        return StageContext(
            layout=self.layout,
            recording=self._recording,
            classes=class_specs(self.job_run.job.classes),
            calibration_folders=settings.CALIBRATION_FOLDERS,
            calibration_file=Path(calibration.path) if calibration else None,
            models_folders=settings.MODELS_FOLDERS,
            class_head=self._class_head,
            workers=len(os.sched_getaffinity(0)),
            log=self._messages.append,
        )

    def _begin(self) -> None:
        run = self.stage_run
        first = run.status == WorkStatus.PENDING
        doing = f"{self.stage.name.capitalize()} of {self.sequence.name}"
        job = self.job_run.job
        job.message, job.current_stage = doing, self.stage.name
        run.status = WorkStatus.RUNNING
        with self.lease.step(message=doing, current_stage=self.stage.name) as events:
            changes: dict[str, Any] = {"status": run.status}
            if first:
                changes["started_at"] = Now()
            StageRun.objects.filter(pk=run.pk).update(**changes)
            events.append(self.job_run.log(f"{doing} {'started' if first else 'goes on'}."))
            events.append(self.job_run.progress_event(job.progress))

    def _work(self) -> bool:
        """Run the stage to its end (True) or to the end of the slice (False), storing rows as it goes."""
        batch: list[Commit] = []
        with self.lease.kept_alive(), closing(self._commits()) as commits:
            for commit in commits:
                batch.append(commit)
                if len(batch) >= COMMIT_FRAMES or time.monotonic() - self._since >= COMMIT_SECONDS:
                    self._store(batch)
                    batch = []
        if batch:
            self._store(batch)
        return not self.job_run.slice_ended

    def _commits(self) -> Generator[Commit]:
        """What the journal holds beyond the rows, then what the stage finds; ends with it or with the slice."""
        path = journal_path(self.layout, self.stage.name)
        stored = self.stage_run.cursor
        for commit in read_journal(path, after=stored):
            yield commit
            if self.job_run.should_stop():
                return
        with closing(run_stage(self.stage, self.context, self.job_run.should_stop)) as commits:
            try:
                for commit, total in commits:
                    self.stage_run.total = total
                    if commit.cursor > stored:  # after a power cut the rows may be ahead of the journal
                        yield commit
            except Stopped:
                if not self.job_run.slice_ended:
                    raise

    def _store(self, batch: list[Commit]) -> None:
        """One commit: rows, cursor, progress, log lines, events."""
        run, job = self.stage_run, self.job_run.job
        now = time.monotonic()
        spent, self._since = now - self._since, now
        bad = [commit for commit in batch if commit.error]
        run.cursor = batch[-1].cursor
        run.total = max(run.total, run.cursor)
        run.elapsed_s += spent
        logged = run.bad_frames
        run.bad_frames += len(bad)
        if bad:
            run.last_error = bad[-1].error
        progress = self.job_run.progress()
        doing = f"{self.stage.name.capitalize()} of {self.sequence.name}: {run.cursor} of {run.total}"
        job.message, job.progress = doing, progress
        messages, self._messages[:] = list(self._messages), []
        with self.lease.step(progress=progress, message=doing) as events:
            newest = self.ingest.store(self.stage.name, batch)
            self._save("cursor", "total", "elapsed_s", "bad_frames", "last_error")
            events.append(self.job_run.progress_event(progress))
            events += [self.job_run.log(text) for text in messages]
            for commit in bad[: max(0, MAX_LOGGED_BAD_FRAMES - logged)]:
                text = f"{self.stage.name.capitalize()} of {self.sequence.name} skipped a frame: {commit.error}"
                events.append(self.job_run.log(text, LogLine.Level.WARNING))
            if newest is not None and self.stage.name in SHOWN_STAGES:
                events.append(
                    {
                        "type": "thumbnail",
                        "frame": str(frame_id(self.sequence.pk, newest)),
                        "number": newest,
                        "stage": self.stage.name,
                        "sequence": self.sequence.name,
                    }
                )

    def _complete(self) -> None:
        run = self.stage_run
        run.status = WorkStatus.COMPLETED
        run.total = run.cursor
        run.elapsed_s += time.monotonic() - self._since
        camera = self._camera() if self.stage.name == "extraction" else None
        progress = self.job_run.progress()
        self.job_run.job.progress = progress
        with self.lease.step(progress=progress) as events:
            self.ingest.finish(self.stage.name)
            if camera is not None:
                self.sequence.camera, self.sequence.metric = camera, bool(camera["metric"])
                self.sequence.save(update_fields=("camera", "metric"))
            StageRun.objects.filter(pk=run.pk).update(finished_at=Now())
            self._save("status", "total", "elapsed_s")
            events += [self.job_run.log(text) for text in self._messages]
            events.append(self.job_run.log(self._summary()))
            events.append(self.job_run.progress_event(progress))

    def _summary(self) -> str:
        run = self.stage_run
        speed = f", {run.cursor / run.elapsed_s:.1f} per second" if run.elapsed_s else ""
        bad = f", {run.bad_frames} skipped" if run.bad_frames else ""
        return f"{self.stage.name.capitalize()} of {self.sequence.name} finished: {run.cursor} frames{bad}{speed}."

    def _give_up(self, reason: str) -> None:
        run = self.stage_run
        run.status, run.last_error = WorkStatus.FAILED, reason
        with self.lease.step() as events:
            self._save("status", "last_error")
            text = f"{self.stage.name.capitalize()} of {self.sequence.name} failed: {reason}"
            events.append(self.job_run.log(text, LogLine.Level.ERROR))

    def _camera(self) -> dict[str, Any] | None:
        try:
            return read_camera(self.layout).to_json()
        except SequenceFileError:
            return None

    def _save(self, *names: str) -> None:
        run = self.stage_run
        StageRun.objects.filter(pk=run.pk).update(**{name: getattr(run, name) for name in names})
