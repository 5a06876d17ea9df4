"""The background work: scans and preparations, one file per commit. See core.work for what survives what."""

import time
from datetime import UTC, datetime
from pathlib import Path, PurePath
from typing import Any

from django.conf import settings
from django.db.models import F
from django.utils import timezone

from core.paths import PathError, resolve_allowed, resolve_stored
from core.work import Lease, Outcome, runner
from labeling.datasets.calibrations import adopt_found
from labeling.datasets.copying import Beat, DiskFullError, bring, digest, remove
from labeling.datasets.finding import Findings, find_recordings, size_of
from labeling.datasets.models import DatasetFile, Operation
from labeling.datasets.naming import DEFAULT_PATTERN, filled, numbered
from labeling.datasets.probing import Probe, Prober
from pipeline.errors import RecordingError
from pipeline.recordings import kind_of

PROBE_SECONDS = 600
EVENT_SECONDS = 0.2
USABLE = (DatasetFile.Status.READY, DatasetFile.Status.SALVAGED)


@runner(Operation)
def run_operation(lease: Lease[Operation]) -> Outcome:
    """Do the files of the work list, from the cursor on, until all are done or others want a turn."""
    operation = lease.row
    if operation.work_list is None:
        _discover(lease) if operation.kind == Operation.Kind.SCAN else _list_usable(lease)
    work_list = operation.work_list or []
    told = 0.0
    with Prober(settings.CALIBRATION_FOLDERS, timeout=PROBE_SECONDS) as prober:
        while operation.cursor < len(work_list):
            number = operation.cursor + 1
            file = DatasetFile.objects.select_related("dataset", "calibration").filter(pk=work_list[number - 1]).first()
            name = file.name if file else ""
            if file is None:
                changes, line = {}, ""
            elif operation.kind == Operation.Kind.SCAN:
                changes, line = _scan(lease, file, prober)
            else:
                changes, line = _prepare(lease, file, number)
            is_due = time.monotonic() - told > EVENT_SECONDS or number == len(work_list)
            progress = number / len(work_list)
            events: list[dict[str, Any]] = []
            if is_due:
                told = time.monotonic()
                events.append(_progress_event(operation, number, progress, name))
            if line:
                events.append({"type": "log", "line": line})
            result = _counted(operation.result, changes)
            with lease.step(cursor=number, progress=progress, message=name, result=result, events=events):
                if file is not None:
                    _write(file, changes)
            if lease.slice_over and number < len(work_list):
                return Outcome.MORE
    return Outcome.DONE


def _progress_event(operation: Operation, done: int, progress: float, name: str) -> dict[str, Any]:
    return {"type": "progress", "progress": progress, "message": name, "cursor": done, "total": operation.total}


def _counted(result: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """How many files ended in which state, and how many were prepared, duplicates or failed on the way."""
    counts = dict(result.get("counts", {}))
    keys = [changes["status"]] if "status" in changes else []
    keys += [
        key
        for key, is_so in (
            ("prepared", changes.get("prepared_at")),
            ("duplicates", changes.get("duplicate_of")),
            ("failed", "status" not in changes and changes.get("error")),
        )
        if is_so
    ]
    for key in keys:
        counts[str(key)] = counts.get(str(key), 0) + 1
    return result | {"counts": counts}


def _write(file: DatasetFile, changes: dict[str, Any]) -> None:
    if "calibration" in changes and callable(changes["calibration"]):
        calibration = changes["calibration"]()
        changes = changes | {"calibration": calibration, "metric": calibration is not None}
    if changes:
        DatasetFile.objects.filter(pk=file.pk).update(**changes, version=F("version") + 1, updated_at=timezone.now())


# --- Scan ------------------------------------------------------------------------------------------------------------


def _discover(lease: Lease[Operation]) -> None:
    """One commit: a row for each recording found, and the list of those to look into (new, changed, back again)."""
    operation = lease.row
    root = Path(operation.parameters["path"])
    if resolve_allowed(root) != root:  # checked when it was asked for, and swapped since
        raise PathError("path", f"{root.name} has been replaced by a link since the scan was started.")
    findings, beat = Findings(), Beat(lease.beat)
    found: dict[str, tuple[int, int]] = {}
    for path in find_recordings(root, findings):
        try:
            found[str(path)] = (size_of(path), path.stat().st_mtime_ns)
        except OSError as error:
            findings.skip(str(path), f"It cannot be read: {error.strerror}.")
        beat()
    dataset = operation.dataset
    known = {file.original_path: file for file in dataset.files.exclude(status=DatasetFile.Status.MISSING)}
    lost = {file.original_path: file for file in dataset.files.filter(status=DatasetFile.Status.MISSING)}
    gone = [
        file.pk
        for path, file in known.items()
        if path not in found and Path(path).is_relative_to(root) and not Path(file.path).exists()
    ]
    known |= lost
    fresh = [
        DatasetFile(
            dataset=dataset,
            name=Path(path).name[:255],
            path=path,
            original_path=path,
            size_bytes=size,
            metadata={"mtime_ns": modified},
        )
        for path, (size, modified) in found.items()
        if path not in known
    ]
    again = [file for path, facts in found.items() if (file := known.get(path)) and _wants_look(file, facts)]
    todo = {file.original_path: str(file.pk) for file in [*fresh, *again]}
    work_list = [todo[path] for path in found if path in todo]
    result = {"found": len(found), "new": len(fresh), "missing": len(gone), "skipped": findings.skipped}
    message = f"Found {len(found)} recordings."
    events = [{"type": "log", "line": message}, _progress_event(operation, 0, 0, message)]
    with lease.step(work_list=work_list, total=len(work_list), result=result, message=message, events=events):
        DatasetFile.objects.filter(pk__in=gone).update(
            status=DatasetFile.Status.MISSING, error="The recording is not there any more.", version=F("version") + 1
        )
        DatasetFile.objects.bulk_create(fresh, batch_size=500)


def _wants_look(file: DatasetFile, facts: tuple[int, int]) -> bool:
    """Whether a known recording was never looked into, failed, or has changed; one already prepared is left alone."""
    if file.prepared_at is not None:
        return False
    return file.status not in USABLE or (file.size_bytes, file.metadata.get("mtime_ns")) != facts


def _scan(lease: Lease[Operation], file: DatasetFile, prober: Prober) -> tuple[dict[str, Any], str]:
    """What to write of a file after a look into it, and a line for the log."""
    try:
        path = resolve_stored(file.path)
        facts = path.stat()
        size = size_of(path)
    except (PathError, OSError):
        return {"status": DatasetFile.Status.MISSING, "error": "The recording is not there any more."}, (
            f"{file.name} is missing."
        )
    probe = prober.probe(path, waiting=lease.beat)
    changes = _findings_of(file, path, probe) | {"size_bytes": size}
    changes["metadata"] = {"mtime_ns": facts.st_mtime_ns, **probe.metadata.get("extra", {})}
    if "uploaded" in lease.row.parameters and not probe.error:
        changes |= {"sha256": digest(path, Beat(lease.beat)), "prepared_at": timezone.now()}
        changes["duplicate_of"] = _twin(file, changes["sha256"])
    if probe.error:
        return changes, probe.error
    salvage = " was cut off; salvaged" if probe.truncated else ":"
    return changes, f"{file.name}{salvage} {probe.metadata['frame_count']} frames."


def _findings_of(file: DatasetFile, path: Path, probe: Probe) -> dict[str, Any]:
    if probe.error:
        return {"status": DatasetFile.Status.BROKEN, "error": probe.error, "warnings": []}
    facts = probe.metadata
    if not facts["frame_count"]:
        return {"status": DatasetFile.Status.BROKEN, "error": f"{file.name} holds no frame that can be decoded."}
    file.stereo, file.camera_serial = facts["stereo"], facts["camera_serial"][:60]
    return {
        "status": DatasetFile.Status.SALVAGED if probe.truncated else DatasetFile.Status.READY,
        "error": "",
        "warnings": probe.warnings[:50],
        "kind": facts["kind"],
        "stereo": facts["stereo"],
        "width": facts["width"],
        "height": facts["height"],
        "fps": facts["fps"] or None,
        "frame_count": facts["frame_count"],
        "duration_s": facts["duration_s"],
        "codec": facts["codec"][:40],
        "camera_model": facts["camera_model"][:60],
        "camera_serial": file.camera_serial,
        "imu_count": facts["imu_count"],
        # Written in the same commit as the file, not before it.
        "calibration": lambda: adopt_found(file, path, probe.calibration),
    }


# --- Prepare ---------------------------------------------------------------------------------------------------------


def _list_usable(lease: Lease[Operation]) -> None:
    chosen = lease.row.dataset.files.filter(status__in=USABLE, prepared_at=None)
    if wanted := lease.row.parameters.get("file_ids"):
        chosen = chosen.filter(pk__in=wanted)
    work_list = [str(pk) for pk in chosen.order_by("name", "id").values_list("pk", flat=True)]
    with lease.step(work_list=work_list, total=len(work_list)):
        pass


def _prepare(lease: Lease[Operation], file: DatasetFile, number: int) -> tuple[dict[str, Any], str]:
    """Bring one recording in, find its twins; what to write of it, and a line for the log."""
    if file.prepared_at is not None:
        return {}, ""
    parameters, beat = lease.row.parameters, Beat(lease.beat)
    folder = settings.DATASETS_ROOT / str(file.dataset_id)
    try:
        source = resolve_stored(file.path)
        target = folder / _free_name(file, folder, parameters.get("rename") or DEFAULT_PATTERN, number, source)
        sha256 = bring(source, target, parameters["mode"], beat, lease.epoch)
    except DiskFullError:
        raise
    except PathError:
        return {"status": DatasetFile.Status.MISSING, "error": "The recording is not there any more."}, (
            f"{file.name} is missing."
        )
    except (RecordingError, OSError) as error:
        return {"error": str(error)}, str(error)
    changes: dict[str, Any] = {"sha256": sha256, "prepared_at": timezone.now(), "error": ""}
    twin = _twin(file, sha256)
    if twin is not None:
        if parameters["mode"] != "register":
            remove(target)
        return changes | {"duplicate_of": twin}, f"{file.name} is the same recording as {twin.name}."
    if parameters["mode"] != "register":
        changes |= {"path": str(target), "name": target.name}
    return changes, f"{file.name} is prepared."


def _free_name(file: DatasetFile, folder: Path, pattern: str, number: int, source: Path) -> str:
    """A name no other file of the dataset has. What only lies there is a leftover of a killed run, and is replaced."""
    recorded = datetime.fromtimestamp(source.stat().st_mtime, UTC)
    suffix = source.suffix if source.is_file() else ""
    values = {
        "name": source.stem if suffix else source.name,
        "number": number,
        "serial": file.camera_serial or "unknown",
        "kind": file.kind,
        "date": f"{recorded:%Y-%m-%d}",
        "dataset": file.dataset.name,
    }
    name = filled(pattern, values, suffix)
    if file.kind == "stereo_video" and kind_of(folder / name) != file.kind:
        # What told that it is stereo was its old name or a calibration beside it: from now on its name does.
        name = filled("{name}_stereo", {"name": PurePath(name).stem}, suffix)
    wanted = name
    others = file.dataset.files.exclude(pk=file.pk)
    count = 1
    while others.filter(path=str(folder / name)).exists():
        count += 1
        name = numbered(wanted, count)
    return name


def _twin(file: DatasetFile, sha256: str) -> DatasetFile | None:
    """The first file of the dataset with the same content."""
    twins = file.dataset.files.filter(sha256=sha256, duplicate_of=None, prepared_at__isnull=False)
    return twins.exclude(pk=file.pk).order_by("prepared_at", "id").first()
