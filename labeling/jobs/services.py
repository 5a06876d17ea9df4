"""What is done to jobs: created, started, paused, resumed, cancelled, restarted, renamed, deleted."""

import re
import shutil
import subprocess
import time
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from accounts.models import User
from core.audit import record
from core.errors import ConflictError, FieldError
from core.live import publish
from core.models import WorkStatus
from core.paths import PathError, resolve_allowed, resolve_stored
from core.versioning import save_versioned
from core.work import transition
from labeling.datasets.finding import state_of
from labeling.datasets.models import Dataset, DatasetFile, LabelClass
from labeling.datasets.probing import Prober
from labeling.jobs import class_heads, segmenters
from labeling.jobs.models import LogLine, ProcessingJob, StageRun
from labeling.jobs.models import Sequence as JobSequence
from pipeline.errors import ClassHeadError, ConfigurationError, DepthUnavailableError, SegmenterUnavailableError
from pipeline.stages.plan import PipelineConfig, resolve

MAX_RECORDINGS = 1000
PROBE_SECONDS = 60
PROBE_ALL_SECONDS = 120
"""For all recordings of a new job together; those of a scanned dataset are known already."""
KNOWN_METADATA = (
    "kind", "frame_count", "width", "height", "fps", "duration_s", "stereo", "codec", "camera_model", "camera_serial",
    "imu_count", "warnings",
)  # fmt: skip
UNUSABLE = (DatasetFile.Status.BROKEN, DatasetFile.Status.MISSING)


@dataclass(frozen=True, slots=True)
class Source:
    """One recording a job is to process. `field` is what to name when something is wrong with it."""

    path: Path
    field: str
    file: DatasetFile | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    metric: bool = False
    state: str = ""


@dataclass(frozen=True, slots=True)
class JobPlan:
    """A job that passed all checks."""

    name: str
    dataset: Dataset | None
    config: PipelineConfig
    stages: tuple[str, ...]
    sources: list[Source]
    classes: list[dict[str, Any]]
    segmenter: segmenters.Choice | None
    class_head: class_heads.Snapshot | None = None


def plan_job(
    *,
    parameters: dict[str, Any],
    dataset: Dataset | None = None,
    file_ids: Sequence[uuid.UUID] = (),
    input_paths: Sequence[str] = (),
    name: str = "",
    use_class_head: bool = True,
) -> JobPlan:
    """Check everything that can be checked now. Opens recordings, so it is not for inside a transaction.

    `parameters` are those of PipelineConfig. use_class_head: let the dataset's active class head, if it has one, name
    what the segmenter finds. Raises FieldError naming the parameter, the recording or the segmenter.
    """
    config = parse_config(parameters)
    sources = _probed(_sources(dataset, file_ids, input_paths))
    stages = resolve(config.stages_to_run)
    _check_depth(config, sources)
    classes = _classes(dataset, config.object_class_ids, needed="segmentation" in stages)
    head = _class_head(dataset) if use_class_head and "segmentation" in stages else None
    chosen = _choose_segmenter(config, sources, classes, head) if "segmentation" in stages else None
    name = (name.strip() or _default_name(dataset, sources))[:200]
    return JobPlan(name, dataset, config, tuple(stages), sources, classes, chosen, head)


def create_job(*, user: User, start: bool = False, **given: Any) -> ProcessingJob:
    """Plan a job (`given` is what plan_job takes) and make it."""
    return create_planned_job(user=user, plan=plan_job(**given), start=start)


@transaction.atomic
def create_planned_job(*, user: User, plan: JobPlan, start: bool = False) -> ProcessingJob:
    """Make the job with its sequences and stage runs."""
    chosen, sources, stages = plan.segmenter, plan.sources, plan.stages
    job = ProcessingJob(
        name=plan.name,
        dataset=plan.dataset,
        created_by=user,
        config=plan.config.to_json(),
        stages=list(stages),
        segmenter=chosen.name if chosen else "",
        segmenter_sha256=chosen.sha256 if chosen else "",
        class_head=plan.class_head.to_json() if plan.class_head else None,
        queue="gpu" if chosen and chosen.wants_gpu else "default",
        classes=plan.classes,
        code_version=code_version(),
    )
    job.full_clean(exclude=("dataset", "created_by", "classes", "class_head"))
    job.save(force_insert=True)
    _add_sequences(job, sources, stages)
    if plan.class_head:
        log(job, f"The class head “{plan.class_head.name}” (version {plan.class_head.number}) names what is found.")
    log(job, f"Created: {len(sources)} recording{'s' * (len(sources) != 1)}, stages {', '.join(stages)}.")
    for source in sources:
        for warning in source.metadata.get("warnings", ()):
            log(job, warning, LogLine.Level.WARNING)
    record(user, "job.created", job, after={"name": job.name, "config": job.config})
    if start:
        start_job(job=job, user=user)
    return job


def parse_config(parameters: dict[str, Any]) -> PipelineConfig:
    try:
        return PipelineConfig.from_json(parameters)
    except ConfigurationError as error:
        raise FieldError(error.field, error.message[0].upper() + error.message[1:]) from error


def _sources(dataset: Dataset | None, file_ids: Sequence[uuid.UUID], input_paths: Sequence[str]) -> list[Source]:
    if len(file_ids) + len(input_paths) > MAX_RECORDINGS:
        raise FieldError("input_paths", f"A job takes up to {MAX_RECORDINGS} recordings.")
    if file_ids and dataset is None:
        raise FieldError("file_ids", "Files are chosen from a dataset: give dataset_id too.")
    sources = [_from_path(path, f"input_paths.{number}", dataset) for number, path in enumerate(input_paths)]
    if dataset is not None and (file_ids or not input_paths):
        sources += _from_dataset(dataset, file_ids)
    if not sources:
        raise FieldError("input_paths", "Name the recordings: give input_paths or dataset_id.")
    seen: set[Path] = set()
    for source in sources:
        if source.path in seen:
            raise FieldError(source.field, f"{source.path.name} is named twice.")
        seen.add(source.path)
    return sources


def _from_path(path: str, field: str, dataset: Dataset | None) -> Source:
    file = dataset.files.filter(path=path).select_related("calibration").first() if dataset else None
    real = resolve_stored(path, field=field) if file else resolve_allowed(path, field=field)
    return Source(real, field, file)


def _from_dataset(dataset: Dataset, file_ids: Sequence[uuid.UUID]) -> list[Source]:
    files = dataset.files.select_related("calibration").order_by("name", "id")
    if file_ids:
        found = {file.pk: file for file in files.filter(pk__in=file_ids)}
        for number, pk in enumerate(file_ids):
            if pk not in found:
                raise FieldError(f"file_ids.{number}", f"The dataset has no file {pk}.")
        chosen = [found[pk] for pk in dict.fromkeys(file_ids)]
        for file in chosen:
            if file.status in UNUSABLE:
                raise FieldError("file_ids", f"{file.name} cannot be used: {file.error or file.get_status_display()}")
    else:
        chosen = list(files.exclude(status__in=UNUSABLE).filter(duplicate_of=None)[: MAX_RECORDINGS + 1])
        if not chosen:
            raise FieldError("dataset_id", f"“{dataset.name}” has no readable recordings yet: scan its folder first.")
        if len(chosen) > MAX_RECORDINGS:
            raise FieldError("dataset_id", f"The dataset has more than {MAX_RECORDINGS} recordings: choose file_ids.")
    field = "file_ids" if file_ids else "dataset_id"
    sources = []
    for file in chosen:
        try:
            sources.append(Source(resolve_stored(file.path, field=field), field, file))
        except PathError as error:
            raise FieldError(field, f"{file.name}: {error.errors[field][0]}") from error
    return sources


def _probed(sources: Iterable[Source]) -> list[Source]:
    """The sources with what their recordings turn out to hold; the first unreadable one is an error that names it."""
    probed = []
    ends = time.monotonic() + PROBE_ALL_SECONDS
    with Prober(settings.CALIBRATION_FOLDERS, timeout=PROBE_SECONDS) as prober:
        for source in sources:
            state = _state(source)  # before the probe: a later change is noticed when the job runs
            if source.file is not None and _is_known(source.file, source.path):
                metadata, metric = _known_metadata(source.file), source.file.metric
            else:
                if time.monotonic() > ends:
                    told = "There was no time left to read it: scan the recordings into a dataset first."
                    raise FieldError(source.field, f"{source.path.name}: {told}")
                probe = prober.probe(source.path)
                if probe.error:
                    raise FieldError(source.field, probe.error)
                metadata = {**probe.metadata, "warnings": probe.warnings}
                calibrated = source.file is not None and source.file.calibration is not None
                metric = calibrated or probe.calibration is not None
            if not metadata.get("frame_count"):
                raise FieldError(source.field, f"{source.path.name} holds no frames that can be read.")
            probed.append(replace(source, metadata=metadata, metric=metric, state=state))
    return probed


def _state(source: Source) -> str:
    try:
        return state_of(source.path)
    except OSError as error:
        raise FieldError(source.field, f"{source.path.name} cannot be read: {error.strerror}.") from error


def _is_known(file: DatasetFile, path: Path) -> bool:
    """Whether a scan has read the very bytes that lie there now."""
    scanned = file.status in (DatasetFile.Status.READY, DatasetFile.Status.SALVAGED) and bool(file.frame_count)
    return scanned and (path.is_dir() or path.stat().st_size == file.size_bytes)


def _known_metadata(file: DatasetFile) -> dict[str, Any]:
    return {name: getattr(file, name) for name in KNOWN_METADATA}


def _classes(dataset: Dataset | None, numbers: Sequence[int], *, needed: bool) -> list[dict[str, Any]]:
    """The snapshot of the classes a job looks for: those asked for, or all."""
    rows = {row.number: row for row in LabelClass.objects.filter(dataset=dataset).order_by("number")}
    where = f"“{dataset.name}”" if dataset else "the catalogue"
    for position, number in enumerate(numbers):
        if number not in rows:
            raise FieldError(f"object_class_ids.{position}", f"There is no class {number} in {where}.")
    if needed and not rows:
        raise FieldError("object_class_ids", f"There are no label classes in {where}: add one first.")
    return [
        {
            "id": row.pk,
            "number": row.number,
            "name": row.name,
            "color": row.color,
            "text_prompt": row.text_prompt,
            "typical_size_hwl": list(row.typical_size_hwl) if row.typical_size_hwl else None,
        }
        for row in rows.values()
        if not numbers or row.number in numbers
    ]


def _choose_segmenter(
    config: PipelineConfig,
    sources: Sequence[Source],
    classes: Sequence[dict[str, Any]],
    head: class_heads.Snapshot | None,
) -> segmenters.Choice:
    metric = all(source.metadata.get("stereo") and source.metric for source in sources)
    try:
        return segmenters.choose(
            config.segmenter,
            metric_stereo=metric,
            classes=classes,
            variant=config.sam3_variant,
            class_head=head is not None,
        )
    except SegmenterUnavailableError as error:
        raise FieldError("segmenter", str(error)) from error


def _class_head(dataset: Dataset | None) -> class_heads.Snapshot | None:
    """The dataset's active class head, whole and as it was trained."""
    head = class_heads.active_for(dataset)
    if head is not None:
        try:
            class_heads.verified_file(head.to_json())
        except ClassHeadError as error:
            raise FieldError("use_class_head", str(error)) from error
    return head


def _check_depth(config: PipelineConfig, sources: Sequence[Source]) -> None:
    """Raise FieldError where the depth asked for cannot be measured here, or in none of the recordings."""
    from pipeline.stereo.methods import check_depth_method

    try:
        check_depth_method(config.depth_method, settings.MODELS_FOLDERS)
    except DepthUnavailableError as error:
        raise FieldError("depth_method", str(error)) from error
    if config.depth_method != "auto" and not any(source.metadata.get("stereo") and source.metric for source in sources):
        raise FieldError(
            "depth_method",
            f"depth_method {config.depth_method}: depth needs a stereo recording and its calibration (SN*.conf, "
            "calib.txt or sensor.yaml), and none of these has both: choose auto.",
        )


def _default_name(dataset: Dataset | None, sources: Sequence[Source]) -> str:
    if dataset is not None:
        return f"{dataset.name} {timezone.now():%Y-%m-%d %H:%M}"
    more = f" and {len(sources) - 1} more" if len(sources) > 1 else ""
    return f"{sources[0].path.name}{more}"


def _add_sequences(job: ProcessingJob, sources: Sequence[Source], stages: Sequence[str]) -> None:
    taken: set[str] = set()
    rows = []
    for position, source in enumerate(sources):
        file = source.file
        rows.append(
            JobSequence(
                job=job,
                position=position,
                name=sequence_name(source.path, taken),
                file=file,
                source_path=str(source.path),
                source_state=source.state,
                sha256=file.sha256 if file else "",
                calibration=file.calibration if file else None,
                metadata=source.metadata,
                metric=source.metric,
            )
        )
    JobSequence.objects.bulk_create(rows)
    StageRun.objects.bulk_create(
        StageRun(sequence=row, stage=stage, position=position) for position, stage in enumerate(stages) for row in rows
    )


def sequence_name(path: Path, taken: set[str]) -> str:
    """A name for the folder of a recording: letters, digits, - and _, at most 100, unlike all `taken` (and added)."""
    stem = path.name if path.is_dir() else path.stem
    base = re.sub(r"[^A-Za-z0-9_-]+", "_", stem).strip("_-")[:100] or "sequence"
    name, number = base, 2
    while name.casefold() in taken:
        name, number = f"{base}_{number}", number + 1
    taken.add(name.casefold())
    return name


@cache
def code_version() -> str:
    """The release that runs, and in a checkout its commit."""
    try:
        release = version("fovea")
    except PackageNotFoundError:
        release = "unreleased"
    command = ["git", "-C", str(settings.ASSETS), "rev-parse", "--short=12", "HEAD"]
    if shutil.which("git") and (settings.ASSETS / ".git").exists():
        found = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False).stdout.strip()
        release += f" ({found})" if found else ""
    return f"fovea {release}"


def log(job: ProcessingJob, text: str, level: LogLine.Level = LogLine.Level.INFO) -> LogLine:
    return LogLine.objects.create(job=job, text=text[:1000], level=level)


def log_event(line: LogLine) -> dict[str, Any]:
    """What tells listeners of a line."""
    return {"type": "log", "level": line.level, "text": line.text, "at": line.created_at.isoformat()}


def start_job(*, job: ProcessingJob, user: User | None) -> ProcessingJob:
    return _move(job, user, "start", "Started")


def pause_job(*, job: ProcessingJob, user: User | None) -> ProcessingJob:
    return _move(job, user, "pause", "Paused")


def resume_job(*, job: ProcessingJob, user: User | None) -> ProcessingJob:
    return _move(job, user, "resume", "Resumed")


def cancel_job(*, job: ProcessingJob, user: User | None) -> ProcessingJob:
    """Stop for good. What is done is kept."""
    return _move(job, user, "cancel", "Cancelled")


@transaction.atomic
def restart_job(*, job: ProcessingJob, user: User | None) -> ProcessingJob:
    """Begin anew with the same parameters: the worker first removes what the former run left.

    Raises ConflictError where training datasets were made of it, or people confirmed what it found: that must stay.
    """
    if job.training_datasets.filter(deleted_at=None).exists():
        raise ConflictError("Training datasets were made from this job: create a new job, or delete them first.")
    job = _move(job, user, "restart", "Restarted from the beginning", clear_outputs=True, current_stage="")
    # After the move, which holds the row: nobody can confirm another one now.
    if confirmed := job.detections.filter(confirmed_at__isnull=False).count():
        told = "detection that a person" if confirmed == 1 else "detections that people"
        raise ConflictError(f"It would throw away {confirmed} {told} confirmed: create a new job.")
    StageRun.objects.filter(sequence__job=job).update(
        status=WorkStatus.PENDING, cursor=0, total=0, bad_frames=0, last_error="", elapsed_s=0, started_at=None,
        finished_at=None,
    )  # fmt: skip
    return job


@transaction.atomic
def _move(job: ProcessingJob, user: User | None, verb: str, told: str, **changes: Any) -> ProcessingJob:
    before = job.status
    transition(job, verb, **changes)
    publish(job, [log_event(log(job, f"{told} by {user}." if user else f"{told}."))])
    record(user, f"job.{verb}", job, before={"status": before}, after={"status": job.status})
    return job


VERBS = {
    "start": start_job,
    "pause": pause_job,
    "resume": resume_job,
    "cancel": cancel_job,
    "restart": restart_job,
}


@transaction.atomic
def rename_job(*, job: ProcessingJob, user: User, name: str, expected_version: int | None = None) -> ProcessingJob:
    before = job.name
    save_versioned(job, expected_version, name=name.strip())
    record(user, "job.renamed", job, before={"name": before}, after={"name": job.name})
    return job


@transaction.atomic
def delete_job(*, job: ProcessingJob, user: User, expected_version: int | None = None) -> None:
    """Hide the job; its files stay until an administrator removes it. Raises ConflictError while it runs."""
    # Read anew, under the row's lock: it may have been started since.
    if ProcessingJob.objects.select_for_update().get(pk=job.pk).status == WorkStatus.RUNNING:
        raise ConflictError("The job is running: cancel it first.")
    save_versioned(job, expected_version, deleted_at=timezone.now())
    record(user, "job.deleted", job, before={"name": job.name})
