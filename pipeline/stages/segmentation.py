"""The second stage: every kept frame becomes instances with masks, classes and confidences.

`detections.json` (written by `finish`, one frame per line):
{"version": 1, "segmenter": str, "confidence_threshold": float, "classes": [{"id", "name"}],
 "frames": [{"number", "source_index", "timestamp_ns", "width", "height", "error": "" or why the frame was skipped,
             "detections": [DetectionRecord's fields without "number", and "mask": file name in masks/]}]}
Masks are 8-bit PNGs of the frame's size, 255 inside. `uncertainty/` has a map for every frame that was segmented
(pipeline.segmentation.uncertainty), whose mean is the commit's `frame["uncertainty"]`. Where a class head is set, it
names the instances (pipeline.classification.naming). A segmenter's own features are kept in `detections/features/`.
"""

import json
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from typing import Any, ClassVar, Final

import cv2
import numpy as np

from pipeline.classification.features import segmenter_kind
from pipeline.classification.naming import Namer
from pipeline.errors import PipelineError
from pipeline.segmentation import registry, rle, uncertainty, warm
from pipeline.segmentation.agreement import mirrored, with_agreement
from pipeline.segmentation.base import Instance, Segmenter, View
from pipeline.segmentation.views import load_view
from pipeline.stages.base import StageContext
from pipeline.stages.ordered import read_ahead
from pipeline.stages.run import journal_path
from pipeline.stereo.camera import RectifiedCamera
from pipeline.storage.atomic import atomic_open, write_bytes, write_npy
from pipeline.storage.journal import Commit, read_journal
from pipeline.storage.records import DetectionRecord, FrameRecord
from pipeline.storage.sequence import SequenceFileError, read_camera, read_frames

DETECTIONS_VERSION: Final = 1
_PNG_PARAMETERS: Final = (cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE)
_BLACK: Final = 10
"""Grey level that no pixel of a black frame reaches."""
_TOP: Final = 5
_FAILURES: Final = (PipelineError, cv2.error, ArithmeticError, ValueError, IndexError, MemoryError)
"""What one frame may die of without taking the others along."""

Loaded = tuple[FrameRecord, View | None, str]


@dataclass(frozen=True, slots=True)
class Segmentation:
    """Masks, DetectionRecords and detections.json of every kept frame.

    segmenter: a backend's name (or "auto"). confidence_threshold: instances below are dropped, 0…1. batch_size: frames
    given to the segmenter at once; it never changes the results. sam3_variant: the model's size for backends with
    several. object_class_ids: classes to keep, empty for all; the segmenter still knows the others, so that a bus is
    not called a car because nobody asked for buses. flip_agreement: segment the mirrored image too and say how far
    its masks agree, for twice the time. mask_temperature: what mask logits are divided by to be log-odds.

    Raises SegmenterUnavailableError where the segmenter cannot run, ClassHeadError where the class head cannot.
    """

    segmenter: str = "auto"
    confidence_threshold: float = 0.5
    batch_size: int = 4
    sam3_variant: str = "tiny"
    object_class_ids: tuple[int, ...] = ()
    flip_agreement: bool = False
    mask_temperature: float = 1.0

    name: ClassVar[str] = "segmentation"
    requires: ClassVar[tuple[str, ...]] = ("extraction",)
    weight: ClassVar[int] = 50

    def total(self, context: StageContext) -> int:
        return sum(1 for _ in read_frames(context.layout))

    def run(self, context: StageContext, cursor: int, state: dict[str, Any]) -> Iterator[Commit]:
        camera = read_camera(context.layout)
        backend = self._backend(context, camera)
        segmenter = warm.segmenter(backend, context.classes, context.models_folders, self.sam3_variant)
        kind = segmenter_kind(segmenter.name, getattr(segmenter, "sha256", ""))
        namer = None
        if context.class_head is not None:
            namer = Namer.load(context.class_head, context.classes, kind, context.models_folders)
        frames = islice(read_frames(context.layout), cursor, None)
        loaded = (_load(context, camera, frame) for frame in frames)
        with (
            ThreadPoolExecutor(max(1, context.workers), thread_name_prefix="masks") as pool,
            closing(read_ahead(_batches(loaded, max(1, self.batch_size)), 1)) as batches,
        ):
            for batch in batches:
                started = time.perf_counter()
                found = self._found(segmenter, namer, batch)
                share = (time.perf_counter() - started) / len(batch)
                for (frame, view, _), (instances, error) in zip(batch, found, strict=True):
                    started = time.perf_counter()
                    records: list[DetectionRecord] = []
                    facts: dict[str, Any] = {}
                    if view is not None and not error:
                        try:
                            records = self._written(context, pool, frame, self._kept(instances), kind)
                            facts = self._uncertainty(context, frame, view, instances)
                        except _FAILURES as problem:
                            records, facts = [], {}
                            error = f"The masks of frame {frame.number} cannot be written: {problem}."
                    elapsed = share + time.perf_counter() - started
                    lines = [each.to_json() for each in records]
                    yield Commit(frame.number + 1, lines, {}, elapsed, error, facts)

    def _found(
        self, segmenter: Segmenter, namer: Namer | None, batch: list[Loaded]
    ) -> list[tuple[list[Instance], str]]:
        """Instances and error of each frame, with agreement and names where these are asked for."""
        found = _segmented(segmenter, batch)
        if self.flip_agreement:
            turned = [(frame, None if view is None else mirrored(view), error) for frame, view, error in batch]
            # Where only the mirrored image fails, agreement is not known.
            found = [
                (instances if problem else with_agreement(instances, others), error)
                for (instances, error), (others, problem) in zip(found, _segmented(segmenter, turned), strict=True)
            ]
        if namer is None:
            return found
        return [
            (instances, error) if view is None else _named(namer, frame, view, instances, error)
            for (frame, view, _), (instances, error) in zip(batch, found, strict=True)
        ]

    def _kept(self, instances: Iterable[Instance]) -> list[Instance]:
        """Those that count."""
        return [
            each
            for each in instances
            if each.confidence >= self.confidence_threshold
            and (not self.object_class_ids or each.class_id in self.object_class_ids)
        ]

    def _uncertainty(
        self, context: StageContext, frame: FrameRecord, view: View, instances: Sequence[Instance]
    ) -> dict[str, Any]:
        """Write the frame's map, of all that was found, whether it counts or not; what the commit says of it."""
        found = uncertainty.uncertainty_map(instances, view.image.shape[:2], self.mask_temperature)
        write_bytes(context.layout.uncertainty(frame.number), uncertainty.encoded(found))
        return {"uncertainty": uncertainty.mean(found)}

    def finish(self, context: StageContext) -> None:
        """Write detections.json from the journal, a frame at a time."""
        head = {
            "version": DETECTIONS_VERSION,
            "segmenter": self._backend(context, read_camera(context.layout)),
            "confidence_threshold": self.confidence_threshold,
            "classes": [{"id": each.id, "name": each.name} for each in context.classes],
        }
        commits = read_journal(journal_path(context.layout, self.name))
        with atomic_open(context.layout.detections) as stream:
            stream.write((json.dumps(head, sort_keys=True)[:-1] + ', "frames": [').encode())
            for frame, commit in zip(read_frames(context.layout), commits, strict=False):
                line = json.dumps(_entry(frame, commit), sort_keys=True, allow_nan=False)
                stream.write(("\n" if frame.number == 0 else ",\n").encode() + line.encode())
            stream.write(b"\n]}\n")

    def _backend(self, context: StageContext, camera: RectifiedCamera) -> str:
        if self.segmenter != "auto":
            return self.segmenter
        metric = camera.metric and camera.baseline is not None
        return registry.choose(
            "auto",
            metric_stereo=metric,
            classes=context.classes,
            models_folders=context.models_folders,
            variant=self.sam3_variant,
            class_head=context.class_head is not None,
        )

    def _written(
        self, context: StageContext, pool: ThreadPoolExecutor, frame: FrameRecord, kept: list[Instance], kind: str
    ) -> list[DetectionRecord]:
        """Write the masks of the instances that count (and the segmenter's features of them); their records."""
        names = {each.id: each.name for each in context.classes}

        def write(number: int, each: Instance) -> DetectionRecord:
            ok, content = cv2.imencode(".png", each.mask.astype(np.uint8) * 255, _PNG_PARAMETERS)
            if not ok:
                raise SequenceFileError(f"the mask of frame {frame.number} cannot be encoded.")
            write_bytes(context.layout.mask(frame.number, number), content.tobytes())
            return _record(frame, number, each, names)

        records = list(pool.map(write, range(len(kept)), kept))
        own = [each.features for each in kept if each.features is not None]
        if own and len(own) == len(kept):
            write_npy(context.layout.features(frame.number, kind), np.stack(own).astype(np.float16))
        return records


def _load(context: StageContext, camera: RectifiedCamera, frame: FrameRecord) -> Loaded:
    try:
        view = load_view(context.layout, camera, frame)
    except SequenceFileError as error:
        return frame, None, str(error)
    if not np.any(view.image >= _BLACK):
        return frame, None, f"Frame {frame.number} is black."
    return frame, view, ""


def _batches(loaded: Iterator[Loaded], size: int) -> Iterator[list[Loaded]]:
    while batch := list(islice(loaded, size)):
        yield batch


def _segmented(segmenter: Segmenter, batch: list[Loaded]) -> list[tuple[list[Instance], str]]:
    """Instances and error of each frame; when a batch fails, each of its frames is tried alone."""
    views = [view for _, view, _ in batch if view is not None]
    try:
        found = iter(segmenter.segment(views) if views else [])
        return [([], error) if view is None else (next(found), "") for _, view, error in batch]
    except _FAILURES:
        return [_alone(segmenter, frame, view, error) for frame, view, error in batch]


def _alone(segmenter: Segmenter, frame: FrameRecord, view: View | None, error: str) -> tuple[list[Instance], str]:
    if view is None:
        return [], error
    try:
        return segmenter.segment([view])[0], ""
    except _FAILURES as problem:
        return [], f"Frame {frame.number} could not be segmented: {problem}."


def _named(
    namer: Namer, frame: FrameRecord, view: View, instances: list[Instance], error: str
) -> tuple[list[Instance], str]:
    try:
        return namer.named(view, instances), error
    except _FAILURES as problem:
        return [], f"The instances of frame {frame.number} could not be named: {problem}."


def _record(frame: FrameRecord, number: int, instance: Instance, names: dict[int, str]) -> DetectionRecord:
    ranked = sorted(instance.class_scores.items(), key=lambda item: (-item[1], item[0]))[:_TOP]
    return DetectionRecord(
        number=frame.number,
        instance=number,
        class_id=instance.class_id,
        class_name=names[instance.class_id],
        confidence=float(instance.confidence),
        bbox_xywh=rle.bbox_xywh(instance.mask),
        area=int(np.count_nonzero(instance.mask)),
        rle=rle.encode(instance.mask),
        top_predictions=[
            {"class_id": class_id, "class_label": names[class_id], "confidence": float(score)}
            for class_id, score in ranked
        ],
        quality=instance.quality,
        stability=instance.stability,
        margin=_margin(instance),
        agreement=instance.agreement,
    )


def _margin(instance: Instance) -> float | None:
    """How far the best class is ahead of the second, 0…1; None where the segmenter says nothing of classes."""
    if not instance.class_scores:
        return None
    best, second = sorted([*instance.class_scores.values(), 0.0], reverse=True)[:2]
    return round(float(best - second), 6)


def _entry(frame: FrameRecord, commit: Commit) -> dict[str, Any]:
    detections = []
    for value in commit.records:
        detection = {key: each for key, each in value.items() if key != "number"}
        detections.append(detection | {"mask": f"{frame.number:06d}_{value['instance']}.png"})
    return {
        "number": frame.number,
        "source_index": frame.source_index,
        "timestamp_ns": frame.timestamp_ns,
        "width": frame.width,
        "height": frame.height,
        "error": commit.error,
        "detections": detections,
    }
