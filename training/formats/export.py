"""Write a training dataset in one or more formats, frame by frame, going on after a kill where it stopped."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from training.formats.base import FORMATS, SPLITS, ExportClass, ExportFolder, ExportFrame, ExportOptions, Placed, Writer
from training.formats.lineage import manifest_digest


def formats_of(choice: str) -> tuple[str, ...]:
    """("kitti", "coco") for "both"."""
    return FORMATS if choice == "both" else (choice,)


class Export:
    """Writes into `root`. Give the `state` of the last commit to go on from there; without one it begins anew.

    What is only of use until the end lies beside it in `<root>.parts`: `finish` may be killed and called again.
    """

    def __init__(
        self,
        root: Path,
        formats: Sequence[str],
        classes: Sequence[ExportClass],
        options: ExportOptions | None = None,
        state: dict[str, Any] | None = None,
    ) -> None:
        # With these come numpy and the mask codec, which the web process has no need of.
        from training.formats.coco import CocoWriter
        from training.formats.kitti import KittiWriter

        state, options = state or {}, options or ExportOptions()
        self.root = root
        self.parts = root.with_name(f"{root.name}.parts")
        self._folder = ExportFolder(root, state.get("folder"))
        self._writers: list[Writer] = []
        if "kitti" in formats:
            self._writers.append(KittiWriter(self._folder, options))
        if "coco" in formats:
            self._writers.append(CocoWriter(self._folder, options, classes, self.parts, state.get("coco")))
        self._empty: int = state.get("empty", 0)
        self._boxes_3d: int = state.get("boxes_3d", 0)
        self._masks: int = state.get("masks", 0)
        # A state that was stored may have lost the order of its keys (PostgreSQL's jsonb does).
        self._frames = _per_split(state.get("frames"))
        self._annotations = _per_split(state.get("annotations"))
        counted = state.get("classes") or {}
        self._classes = {item.name: _per_split(counted.get(item.name)) for item in classes}

    def add(self, frame: ExportFrame, split: str, number: int) -> None:
        """Write `frame` as the `number`th (from 0) of `split`."""
        self.add_batch([(frame, split, number)])

    def add_batch(self, batch: Sequence[Placed]) -> None:
        """Write some frames, each given with its split and its number there (from 0)."""
        for writer in self._writers:
            writer.write(batch)
        self._folder.forget_sources()
        for frame, split, _ in batch:
            self._frames[split] += 1
            self._annotations[split] += len(frame.annotations)
            self._empty += not frame.annotations
            for annotation in frame.annotations:
                self._classes[annotation.class_name][split] += 1
                self._boxes_3d += annotation.box is not None
                self._masks += annotation.mask is not None

    def state(self) -> dict[str, Any]:
        """Everything up to here is on disk; plain JSON."""
        return {
            "folder": self._folder.state(),
            **{writer.name: writer.state() for writer in self._writers},
            "frames": self._frames,
            "annotations": self._annotations,
            "empty": self._empty,
            "boxes_3d": self._boxes_3d,
            "masks": self._masks,
            "classes": self._classes,
        }

    @property
    def statistics(self) -> dict[str, Any]:
        """The specification's totals and frames per split, then annotations per split and class."""
        return {
            "total_frames": sum(self._frames.values()),
            "total_annotations": sum(self._annotations.values()),
            **{f"{split}_frames": self._frames[split] for split in SPLITS},
            **{f"{split}_annotations": self._annotations[split] for split in SPLITS},
            "frames_without_annotations": self._empty,
            "annotations_with_3d_box": self._boxes_3d,
            "annotations_with_mask": self._masks,
            "classes": self._classes,
        }

    @property
    def size_bytes(self) -> int:
        """Of all exported files, linked or written."""
        return self._folder.size_bytes

    def finish(self) -> dict[str, Any]:
        """Join what was streamed, close the manifest, and say what it holds (for lineage.json).

        `parts` is left to the caller to remove, once nothing can go wrong any more.
        """
        for writer in self._writers:
            writer.finish()
        self._folder.close()
        return manifest_digest(self.root)


def _per_split(counts: dict[str, int] | None) -> dict[str, int]:
    return {split: (counts or {}).get(split, 0) for split in SPLITS}


def write_lineage(root: Path, document: dict[str, Any]) -> None:
    """The last file of an export: not in the manifest, which it seals."""
    content = json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    (root / "lineage.json").write_text(content)
