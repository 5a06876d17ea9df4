"""The export as work for a worker: planned once, then written a chunk of frames at a time."""

import hashlib
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.db.models import Count

from core.work import Lease, Outcome, runner
from labeling.jobs.models import Frame
from labeling.jobs.models import Sequence as JobSequence
from labeling.review.filters import AnnotationFilter
from training.formats.base import SPLITS, ExportError, ExportOptions
from training.formats.export import Export, formats_of, write_lineage
from training.formats.lineage import lineage_document
from training.formats.splits import SplitConfig, assign_splits
from training.models import TrainingDataset, TrainingDatasetFrame
from training.places import ExportPlace

if TYPE_CHECKING:
    from training.streaming import FrameReader

CHUNK_FRAMES = 250
EVENT_EVERY_S = 0.25


@runner(TrainingDataset)
def run_export(lease: Lease[TrainingDataset]) -> Outcome:
    from training.streaming import FrameReader  # loads numpy, of which the web process has no need

    row, place = lease.row, ExportPlace(lease.row)
    with place.held():
        if row.export_state.get("written") and place.final.exists():
            return Outcome.DONE
        filters = AnnotationFilter.from_json(row.filter_config)
        if not row.export_state:
            place.clear()
            _plan(lease, filters)
        reader = FrameReader(row.job, filters)
        classes = sorted(reader.classes.values(), key=lambda item: item.id)
        export = Export(
            place.partial,
            formats_of(row.format),
            classes,
            ExportOptions(**row.export_config),
            row.export_state.get("export"),
        )
        if not _write_frames(lease, export, reader):
            return Outcome.MORE
        _finish(lease, export, place)
    return Outcome.DONE


def _plan(lease: Lease[TrainingDataset], filters: AnnotationFilter) -> None:
    """Decide which frame goes where, in one commit: whatever happens later, the splits stand."""
    row = lease.row
    frames = Frame.objects.filter(job=row.job_id).order_by("sequence__position", "number")
    excluded = set(filters.excluded_frame_ids)
    found = [item for item in frames.values_list("pk", "sequence__name", "number") if str(item[0]) not in excluded]
    splits = assign_splits(SplitConfig(**row.split_config), [(sequence, number) for _, sequence, number in found])
    counts = _annotation_counts(row, filters)
    planned = _planned(row, [pk for pk, *_ in found], splits, counts)
    state = {"total": len(found), "last_row": 0}
    with lease.step(export_state=state, cursor=0, progress=0, message="Dividing the frames"):
        row.dataset_frames.all().delete()
        while batch := list(islice(planned, 1000)):
            TrainingDatasetFrame.objects.bulk_create(batch)


def _planned(
    row: TrainingDataset, frame_ids: Sequence[Any], splits: Sequence[int], counts: Mapping[Any, int]
) -> Iterator[TrainingDatasetFrame]:
    numbers = [0] * len(SPLITS)
    for pk, split in zip(frame_ids, splits, strict=True):
        yield TrainingDatasetFrame(
            training_dataset=row,
            frame_id=pk,
            split=SPLITS[split],
            number=numbers[split],
            annotation_count=counts.get(pk, 0),
        )
        numbers[split] += 1


def _annotation_counts(row: TrainingDataset, filters: AnnotationFilter) -> dict[Any, int]:
    by_frame = AnnotationFilter(filters.excluded_class_ids, (), (), filters.min_confidence)
    rows = by_frame.detections(row.job.detections.filter(camera="left"))
    counts = dict(rows.order_by().values_list("frame").annotate(Count("pk")))
    excluded = filters.excluded_annotation_ids
    for start in range(0, len(excluded), 500):
        for pk in rows.filter(pk__in=excluded[start : start + 500]).values_list("frame", flat=True):
            counts[pk] -= 1
    return counts


def _write_frames(lease: Lease[TrainingDataset], export: Export, reader: "FrameReader") -> bool:
    """Write what is left; False when others should have a turn."""
    row = lease.row
    state, cursor = row.export_state, row.cursor
    total, last_row = state["total"], state["last_row"]
    last_event = time.monotonic()
    while True:
        rows = row.dataset_frames.filter(pk__gt=last_row).order_by("pk")
        chunk = list(rows.values_list("pk", "frame_id", "split", "number", "annotation_count")[:CHUNK_FRAMES])
        if not chunk:
            if cursor != total:
                raise ExportError(f"Only {cursor:,} of {total:,} frames are there any more: restart the export.")
            return True
        recounted = []
        frames = list(reader.read([frame_id for _, frame_id, *_ in chunk]))
        export.add_batch([(frame, item[2], item[3]) for item, frame in zip(chunk, frames, strict=True)])
        for (pk, *_, planned), frame in zip(chunk, frames, strict=True):
            if len(frame.annotations) != planned:  # edited between plan and export
                recounted.append(TrainingDatasetFrame(pk=pk, annotation_count=len(frame.annotations)))
        cursor, last_row = cursor + len(chunk), chunk[-1][0]
        progress, message = cursor / total, f"{cursor:,} of {total:,} frames written"
        events = []
        if time.monotonic() - last_event > EVENT_EVERY_S or cursor == total:
            last_event = time.monotonic()
            event = {"type": "progress", "progress": progress, "message": message, "cursor": cursor, "total": total}
            events.append(event)
        state = {"total": total, "last_row": last_row, "export": export.state()}
        with lease.step(events=events, cursor=cursor, progress=progress, message=message, export_state=state):
            if recounted:
                TrainingDatasetFrame.objects.bulk_update(recounted, ["annotation_count"])
        if lease.slice_over and cursor < total:
            return False


def _finish(lease: Lease[TrainingDataset], export: Export, place: ExportPlace) -> None:
    row = lease.row
    files = export.finish()
    document = lineage_document(
        training_dataset_id=str(row.pk),
        source_job_id=str(row.job_id),
        source_dataset_id=str(row.job.dataset_id) if row.job.dataset_id else None,
        format=row.format,
        filter_config=row.filter_config,
        split_config=row.split_config,
        export_config=row.export_config,
        statistics=export.statistics,
        recordings=[_recording(lease, item) for item in row.job.sequences.select_related("file", "calibration")],
        pipeline={
            "config": row.job.config,
            "stages": row.job.stages,
            "code_version": row.job.code_version,
            "segmenter": row.job.segmenter,
            "segmenter_sha256": row.job.segmenter_sha256,
            "class_head": row.job.class_head,
            "confirmed_labels": _confirmed_labels(row),
            "classes": row.job.classes,
        },
        created_at=row.created_at.isoformat(),
        exported_files=files,
    )
    write_lineage(place.partial, document)
    state = {**row.export_state, "written": True}
    with lease.step(
        statistics=export.statistics, size_bytes=export.size_bytes, export_state=state, message="Finishing"
    ):
        pass
    place.publish()


def _confirmed_labels(row: TrainingDataset) -> dict[str, Any]:
    """How many of the exported annotations a person vouched for, and who."""
    filters = AnnotationFilter.from_json(row.filter_config)
    rows = filters.detections(row.job.detections.filter(camera="left", confirmed_at__isnull=False)).order_by()
    by_person = rows.values_list("confirmed_by__email").annotate(count=Count("pk")).order_by("confirmed_by__email")
    people = {email or "": count for email, count in by_person}
    return {"count": sum(people.values()), "by_person": people}


def _recording(lease: Lease[TrainingDataset], sequence: JobSequence) -> dict[str, Any]:
    file, calibration = sequence.file, sequence.calibration
    sha256 = sequence.sha256 or (file.sha256 if file else "") or _sha256(lease, Path(sequence.source_path))
    return {
        "sequence": sequence.name,
        "name": file.name if file else Path(sequence.source_path).name,
        "sha256": sha256,
        "camera_model": file.camera_model if file else "",
        "camera_serial": file.camera_serial if file else "",
        "metadata": sequence.metadata,
        "metric": sequence.metric,
        "camera": sequence.camera,
        "calibration": None
        if calibration is None
        else {
            "serial": calibration.serial,
            "source": calibration.source,
            "format": calibration.format,
            "sha256": calibration.sha256,
            "baseline_m": calibration.baseline_m,
            "parameters": calibration.parameters,
        },
    }


def _sha256(lease: Lease[TrainingDataset], path: Path) -> str | None:
    """Of a recording nobody hashed yet; None if it is a folder of images, or gone."""
    if not path.is_file():
        return None
    digest, beaten = hashlib.sha256(), time.monotonic()
    with path.open("rb") as stream:
        while block := stream.read(1 << 22):
            digest.update(block)
            if time.monotonic() - beaten > 5:
                lease.beat()
                beaten = time.monotonic()
    return digest.hexdigest()
