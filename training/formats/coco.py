"""COCO instances: `coco/{train,val,test}/{images,masks}` and `annotations.json`, one file of its own per split.

Ids count from 1 (evaluators take 0 for "no match"), `file_name` is relative to `images/`. Beyond the format's own keys
an annotation has `score`, `track_id` and, if asked for, `box_3d`.
"""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, ClassVar

from training.formats.base import (
    SPLITS,
    ExportAnnotation,
    ExportClass,
    ExportFolder,
    ExportFrame,
    ExportOptions,
    Placed,
    open_at,
)
from training.formats.kitti import write_masks
from training.formats.masks import full_frame_counts


class CocoWriter:
    """Images and annotations go to a file each as they come, and are joined at the end: memory stays flat."""

    name: ClassVar[str] = "coco"

    def __init__(
        self,
        folder: ExportFolder,
        options: ExportOptions,
        classes: Sequence[ExportClass],
        parts: Path,
        state: dict[str, Any] | None = None,
    ) -> None:
        self._folder = folder
        self._options = options
        self._classes = classes
        self._parts_root = parts
        self._parts = {split: _Parts(parts, split, **value) for split, value in (state or {}).items()}

    def write(self, batch: Sequence[Placed]) -> None:
        segmentations = iter(self._segmentations([frame for frame, _, _ in batch]))
        for frame, split, number in batch:
            parts = self._parts.get(split)
            if parts is None:
                parts = self._parts[split] = _Parts(self._parts_root, split)
            name = f"{number:06d}{frame.image[frame.image.rindex('.') :]}"
            self._folder.link(frame.image, f"coco/{split}/images/{name}")
            if self._options.include_masks:
                write_masks(self._folder, frame, f"coco/{split}/masks/{number:06d}")
            parts.add_image(_image(frame, number, name))
            for annotation in frame.annotations:
                parts.add_annotation(number + 1, self._annotation(annotation, next(segmentations)))

    def _segmentations(self, frames: Sequence[ExportFrame]) -> list[Any]:
        """What each annotation has as its segmentation: polygons, an RLE, or an empty list."""
        found = [(item.mask, (frame.width, frame.height)) for frame in frames for item in frame.annotations]
        if not self._options.include_masks:
            return [[] for _ in found]
        if self._options.segmentation == "polygons":
            return [mask.polygons() if mask else [] for mask, _ in found]
        masks = [(mask, size) for mask, size in found if mask]
        counts = iter(full_frame_counts([mask for mask, _ in masks], [size for _, size in masks]))
        return [{"size": [size[1], size[0]], "counts": next(counts)} if mask else [] for mask, size in found]

    def _annotation(self, annotation: ExportAnnotation, segmentation: Any) -> dict[str, Any]:
        _, _, width, height = annotation.bbox_xywh
        value: dict[str, Any] = {
            "category_id": annotation.class_id,
            "bbox": list(annotation.bbox_xywh),
            "area": annotation.area if segmentation else width * height,
            "iscrowd": 0,
            "segmentation": segmentation,
            "score": annotation.confidence,
        }
        if annotation.track_id is not None:
            value["track_id"] = annotation.track_id
        if self._options.include_3d_boxes and annotation.box:
            value["box_3d"] = {
                "location": list(annotation.box.location),
                "dimensions_hwl": list(annotation.box.dimensions_hwl),
                "rotation_y": annotation.box.rotation_y,
            }
        return value

    def state(self) -> dict[str, Any]:
        return {split: parts.state() for split, parts in self._parts.items()}

    def finish(self) -> None:
        categories = [{"id": item.id, "name": item.name, "supercategory": ""} for item in self._classes]
        for split in SPLITS:
            parts = self._parts.get(split)
            if parts is None:
                continue
            parts.join(self._folder.root / f"coco/{split}/annotations.json", json.dumps(categories))
            self._folder.add(f"coco/{split}/annotations.json")


def _image(frame: ExportFrame, number: int, name: str) -> dict[str, Any]:
    return {
        "id": number + 1,
        "file_name": name,
        "width": frame.width,
        "height": frame.height,
        "sequence": frame.sequence,
        "frame": frame.number,
        "timestamp_ns": frame.timestamp_ns,
        "gravity": None if frame.gravity is None else list(frame.gravity),
    }


class _Parts:
    """The two arrays of one split's annotations.json while they grow: elements separated by a comma and a newline."""

    def __init__(
        self, root: Path, split: str, images: int = 0, annotations: int = 0, annotation_count: int = 0
    ) -> None:
        self._images = open_at(root / f"{split}.images", images)
        self._annotations = open_at(root / f"{split}.annotations", annotations)
        self._annotation_count = annotation_count

    def add_image(self, image: dict[str, Any]) -> None:
        _append(self._images, image)

    def add_annotation(self, image_id: int, annotation: dict[str, Any]) -> None:
        self._annotation_count += 1
        _append(self._annotations, {"id": self._annotation_count, "image_id": image_id, **annotation})

    def state(self) -> dict[str, int]:
        self._images.flush()
        self._annotations.flush()
        return {
            "images": self._images.tell(),
            "annotations": self._annotations.tell(),
            "annotation_count": self._annotation_count,
        }

    def join(self, path: Path, categories: str) -> None:
        with path.open("wb") as target:
            target.write(f'{{"info":{{"description":"Fovea"}},"licenses":[],"categories":{categories}'.encode())
            for key, part in (("images", self._images), ("annotations", self._annotations)):
                target.write(f',\n"{key}":[\n'.encode())
                part.seek(0)
                shutil.copyfileobj(part, target)
                target.write(b"\n]")
                part.close()
            target.write(b"}\n")


def _append(stream: IO[bytes], value: dict[str, Any]) -> None:
    if stream.tell():
        stream.write(b",\n")
    stream.write(_encode(value).encode())


_encode = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode
