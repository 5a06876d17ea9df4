"""What is read of jobs."""

from collections.abc import Iterable
from typing import Any

from django.db.models import Count, Exists, OuterRef, QuerySet, Subquery
from django.db.models.functions import Coalesce

from accounts.models import Role, User
from core.models import WorkStatus
from core.work import allowed_actions
from labeling.jobs.models import Detection, Frame, LogLine, ProcessingJob, Sequence, StageRun
from pipeline.stages.plan import shares

NO_ESTIMATE_BELOW = 0.02
"""Progress below which remaining time is anyone's guess."""


def jobs(user: User) -> QuerySet[ProcessingJob]:
    """The user's jobs as a list shows them, in two queries; `sequence_count` and `may_run` come with each."""
    runnable = ProcessingJob.objects.for_user(user, Role.MANAGER).filter(pk=OuterRef("pk"))
    rows = Sequence.objects.filter(job=OuterRef("pk")).order_by().values("job")
    counted = rows.annotate(count=Count("pk")).values("count")
    return (
        ProcessingJob.objects.for_user(user)
        .select_related("dataset", "created_by")
        .annotate(sequence_count=Coalesce(Subquery(counted), 0), may_run=Exists(runnable.order_by()))
        .order_by("-created_at", "id")
    )


def remaining_seconds(progress: float, elapsed_s: float, status: str) -> float | None:
    """How long the work will go on at the speed so far; None where nobody knows."""
    if status == WorkStatus.COMPLETED:
        return 0.0
    if status not in (WorkStatus.RUNNING, WorkStatus.PAUSED) or progress < NO_ESTIMATE_BELOW or not elapsed_s:
        return None
    return round(elapsed_s * (1 - progress) / progress, 1)


def stage_states(runs: Iterable[StageRun], stages: Iterable[str]) -> list[dict[str, Any]]:
    """Each stage over all sequences: status, frames done and in all, progress 0…1, seconds worked, frames a second."""
    by_stage: dict[str, list[StageRun]] = {name: [] for name in stages}
    for run in runs:
        by_stage[run.stage].append(run)
    weight = shares(list(by_stage)) if by_stage else {}
    states = []
    for name, members in by_stage.items():
        done = sum(run.cursor for run in members)
        elapsed = sum(run.elapsed_s for run in members)
        states.append(
            {
                "name": name,
                "status": _joint_status(members),
                "progress": round(sum(map(run_progress, members)) / len(members), 4) if members else 0.0,
                "share": round(weight[name], 4),
                "done": done,
                "total": sum(run.total for run in members),
                "bad_frames": sum(run.bad_frames for run in members),
                "elapsed_s": round(elapsed, 2),
                "frames_per_second": round(done / elapsed, 2) if elapsed > 0 and done else None,
            }
        )
    return states


def run_progress(run: StageRun) -> float:
    if run.status == WorkStatus.COMPLETED:
        return 1.0
    return min(run.cursor / run.total, 1.0) if run.total else 0.0


def _joint_status(runs: list[StageRun]) -> str:
    found = {run.status for run in runs}
    if len(found) == 1:
        return str(found.pop())
    if WorkStatus.FAILED in found:
        return WorkStatus.FAILED.value
    return WorkStatus.RUNNING.value if found else WorkStatus.PENDING.value


def job_state(job: ProcessingJob, runs: Iterable[StageRun] | None = None) -> dict[str, Any]:
    """How a job stands right now: what the socket sends first and the page starts from. One query."""
    if runs is None:
        runs = StageRun.objects.filter(sequence__job=job).order_by("position")
    stages = stage_states(runs, job.stages)
    if job.status != WorkStatus.RUNNING:
        for stage in stages:  # the rows of a stopped stage stay as they were
            stage["status"] = job.status if stage["status"] == WorkStatus.RUNNING else stage["status"]
    elapsed = sum(stage["elapsed_s"] for stage in stages)
    return {
        "type": "status",
        "status": job.status,
        "progress": round(job.progress, 4),
        "stage": job.current_stage,
        "message": job.message,
        "error": job.error,
        "actions": allowed_actions(job),
        "stages": stages,
        "elapsed_s": round(elapsed, 2),
        "remaining_s": remaining_seconds(job.progress, elapsed, job.status),
    }


def sequences(job: ProcessingJob) -> QuerySet[Sequence]:
    """Its sequences with their stage runs, in two queries."""
    return job.sequences.select_related("file", "calibration").prefetch_related("stage_runs")


def newest_frames(job: ProcessingJob, limit: int = 12) -> QuerySet[Frame]:
    return job.frames.select_related("sequence").order_by("-sequence__position", "-number")[:limit]


def most_uncertain_frames(job: ProcessingJob, limit: int = 6) -> QuerySet[Frame]:
    """Those the segmentation is least sure of, first the worst. An index holds them in this order."""
    rows = job.frames.filter(uncertainty__gt=0).select_related("sequence")
    return rows.order_by("-uncertainty", "-id")[:limit]


def log_tail(job: ProcessingJob, limit: int = 200) -> list[LogLine]:
    return list(job.log_lines.order_by("-id")[:limit])[::-1]


def totals(job: ProcessingJob) -> dict[str, int]:
    """Frames, detections, boxes and tracks so far."""
    found = Detection.objects.filter(job=job).aggregate(detections=Count("pk"), boxes=Count("location_x"))
    frames = job.frames.count()
    tracks = Sequence.objects.filter(job=job).aggregate(tracks=Count("tracks"))["tracks"]
    return {"frames": frames, **found, "tracks": tracks}


def frame_totals(job: ProcessingJob) -> dict[Any, int]:
    """Kept frames by sequence id."""
    rows = job.frames.order_by().values("sequence").annotate(count=Count("pk"))
    return dict(rows.values_list("sequence", "count"))
