"""Training a class head as work for a worker: labels written down once, features some frames at a time, then the fit.

Killed anywhere, it goes on with the labels and the features that lie there, and leaves the same bytes.
"""

import hashlib
import json
import shutil
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from django.conf import settings
from django.db.models.functions import Now

from core.errors import ConflictError
from core.work import Lease, Outcome, runner
from labeling.datasets.models import Dataset, LabelClass
from labeling.jobs.models import Detection, ProcessingJob
from pipeline.errors import ClassHeadError
from pipeline.storage.atomic import write_bytes, write_json
from pipeline.storage.layout import SequenceLayout
from training import class_heads
from training.models import ModelVersion
from training.places import ModelPlace

if TYPE_CHECKING:
    from pipeline.classification.head import ClassHead

FRAMES_AT_ONCE: Final = 25
LABEL_COLUMNS: Final = (
    "pk",
    "version",
    "label_class__number",
    "instance",
    "track__number",
    "frame__number",
    "frame__sequence__name",
    "job_id",
    "confirmed_by_id",
    "confirmed_at",
)


@runner(ModelVersion)
def train(lease: Lease[ModelVersion]) -> Outcome:
    place = ModelPlace(lease.row)
    with place.held():
        if not lease.row.label_count:
            _write_labels(lease, place)
        labels: dict[str, Any] = json.loads(place.labels.read_text())
        chunks = _chunks(labels["labels"])
        for done, chunk in enumerate(chunks):
            part = place.parts / f"{done:06d}.npy"
            if not part.exists():
                with lease.kept_alive():
                    _write_features(part, chunk, labels["feature_kind"])
                message = f"Looking at labels: {done + 1} of {len(chunks)} batches"
                progress = 0.9 * (done + 1) / len(chunks)
                event = {"type": "progress", "progress": progress, "message": message}
                with lease.step(events=[event], progress=progress, message=message):
                    pass
                if lease.slice_over and done + 1 < len(chunks):
                    return Outcome.MORE
        with lease.step(message="Training"):
            pass
        with lease.kept_alive():
            head = _fitted(place, labels, len(chunks))
            head.save(place.checkpoint)
        _finish(lease, place, head)
    return Outcome.DONE


def _write_labels(lease: Lease[ModelVersion], place: ModelPlace) -> None:
    """Decide in one commit what it learns from; whatever people confirm later, this stands."""
    from pipeline.classification.features import best_kind

    row = lease.row
    place.clear()
    rows = class_heads.confirmed_labels(row.dataset).order_by("-confirmed_at", "-pk")[: class_heads.MAX_LABELS]
    values = [dict(zip(LABEL_COLUMNS, item, strict=True)) for item in rows.values_list(*LABEL_COLUMNS)]
    if not values:
        raise ConflictError("Nobody has confirmed a label that is still there: confirm some first.")
    values.sort(
        key=lambda item: (str(item["job_id"]), item["frame__sequence__name"], item["frame__number"], item["pk"])
    )
    labels = [
        {
            "detection": item["pk"],
            "version": item["version"],
            "class_id": item["label_class__number"],
            "job": str(item["job_id"]),
            "sequence": item["frame__sequence__name"],
            "frame": item["frame__number"],
            "instance": item["instance"],
            "track": item["track__number"],
            "confirmed_by": item["confirmed_by_id"],
            "confirmed_at": item["confirmed_at"].isoformat(),
        }
        for item in values
    ]
    classes = LabelClass.objects.filter(dataset=row.dataset_id).order_by("number").values_list("number", "name")
    document = {
        "feature_kind": best_kind(settings.MODELS_FOLDERS),
        "classes": [{"id": number, "name": name} for number, name in classes],
        "labels": labels,
    }
    write_json(place.labels, document)
    with lease.step(label_count=len(labels), message="Looking at labels", progress=0):
        pass


def _chunks(labels: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """The labels of FRAMES_AT_ONCE frames of one sequence each."""
    chunks = []
    for _, members in groupby(labels, key=lambda item: (item["job"], item["sequence"])):
        frames = [list(same) for _, same in groupby(members, key=lambda item: item["frame"])]
        for start in range(0, len(frames), FRAMES_AT_ONCE):
            chunks.append([item for frame in frames[start : start + FRAMES_AT_ONCE] for item in frame])
    return chunks


def _write_features(part: Path, labels: list[dict[str, Any]], kind: str) -> None:
    """The features of labels of one sequence; rows of NaN where the detection or its frame is not there any more."""
    import io

    import numpy as np

    from pipeline.classification.features import extractor, sequence_features
    from pipeline.storage.records import DetectionRecord
    from pipeline.storage.sequence import SequenceFileError
    from training.formats.masks import CroppedMask

    columns = ("pk", "frame__width", "frame__height", *(f"mask__{name}" for name in CroppedMask.__slots__))
    rows = Detection.objects.filter(pk__in=[item["detection"] for item in labels], mask__isnull=False)
    masks = {pk: CroppedMask(*mask).full_frame(w, h) for pk, w, h, *mask in rows.values_list(*columns)}
    records = [
        DetectionRecord(
            number=item["frame"],
            instance=item["instance"],
            class_id=item["class_id"],
            class_name="",
            confidence=1,
            bbox_xywh=[],
            area=0,
            rle=masks.get(item["detection"], {}),
        )
        for item in labels
    ]
    layout = SequenceLayout(Path(settings.JOBS_ROOT) / labels[0]["job"] / labels[0]["sequence"])
    try:
        features = sequence_features(layout, records, kind, settings.MODELS_FOLDERS)
    except SequenceFileError:  # the job's files are gone: its labels teach nothing, the others do
        features = np.full((len(labels), extractor(kind, settings.MODELS_FOLDERS).dimension), np.nan, np.float32)
    stream = io.BytesIO()
    np.save(stream, features, allow_pickle=False)
    write_bytes(part, stream.getvalue())


def _fitted(place: ModelPlace, document: dict[str, Any], parts: int) -> "ClassHead":
    import numpy as np

    from pipeline.classification.head import ClassHead
    from pipeline.segmentation.base import ClassSpec

    labels = document["labels"]
    features: np.ndarray[Any, np.dtype[np.float32]] = np.concatenate(
        [np.load(place.parts / f"{number:06d}.npy", allow_pickle=False) for number in range(parts)]
    )
    if not np.isfinite(features).all(axis=1).any():
        raise ClassHeadError("The files of the jobs with confirmed labels are gone: there is nothing to learn from.")
    return ClassHead.fit(
        features,
        [item["class_id"] for item in labels],
        [ClassSpec(item["id"], item["name"]) for item in document["classes"]],
        feature_kind=document["feature_kind"],
        groups=[_thing(item) for item in labels],
        segmenter_scores=_segmenter_scores(labels),
    )


def _thing(label: dict[str, Any]) -> tuple[Any, ...]:
    """What shares views of one thing: its track, or the detection alone."""
    if label["track"] is None:
        return (label["detection"],)
    return (label["job"], label["sequence"], label["track"])


def _segmenter_scores(labels: list[dict[str, Any]]) -> list[dict[int, float] | None]:
    """What the segmenter alone said of each; None where a class head had its say, or a person drew it."""
    jobs = ProcessingJob.objects.filter(pk__in={item["job"] for item in labels}, class_head__isnull=True)
    alone = {str(pk) for pk in jobs.values_list("pk", flat=True)}
    found: dict[int, dict[int, float]] = {}
    ids = [item["detection"] for item in labels if item["job"] in alone]
    for start in range(0, len(ids), 500):
        rows = Detection.objects.filter(pk__in=ids[start : start + 500], prompted_segmenter="")
        for pk, predictions in rows.values_list("pk", "top_predictions"):
            if predictions:
                found[pk] = {int(item["class_id"]): float(item["confidence"]) for item in predictions}
    return [found.get(item["detection"]) for item in labels]


def _finish(lease: Lease[ModelVersion], place: ModelPlace, head: "ClassHead") -> None:
    row = lease.row
    with place.checkpoint.open("rb") as stream:
        sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
    shutil.rmtree(place.parts, ignore_errors=True)
    with lease.step(
        progress=1,
        message="",
        metrics=head.meta,
        baseline_model=head.feature_kind,
        checkpoint=str(place.checkpoint.relative_to(settings.MEDIA_ROOT)),
        checkpoint_sha256=sha256,
        trained_at=Now(),
    ) as events:
        Dataset.objects.select_for_update(of=("self",)).get(pk=row.dataset_id)  # nobody activates another meanwhile
        others = ModelVersion.objects.filter(dataset=row.dataset_id, task=row.task, active=True)
        if not others.exists():  # the first one: there is nothing it could be worse than
            ModelVersion.objects.filter(pk=row.pk).update(active=True)
        events.append({"type": "progress", "progress": 1, "message": ""})
