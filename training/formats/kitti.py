"""KITTI object detection: `kitti/{train,val,test}/{image_2,label_2,depth,masks,calib,velodyne}`.

Label files have the 15 columns of the development kit's readme; what is not known (no 3D box) carries its own values
for "don't know". Numbers restart at 000000 in each split.
"""

import math
from collections.abc import Sequence
from typing import Any, ClassVar

from pipeline.geometry.kitti import (
    UNKNOWN_ALPHA,
    UNKNOWN_DIMENSIONS_HWL,
    UNKNOWN_LOCATION,
    UNKNOWN_ROTATION_Y,
    KittiObject,
    format_labels,
)
from training.formats.base import ExportAnnotation, ExportFolder, ExportFrame, ExportOptions, Placed


class KittiWriter:
    name: ClassVar[str] = "kitti"

    def __init__(self, folder: ExportFolder, options: ExportOptions) -> None:
        self._folder = folder
        self._options = options

    def write(self, batch: Sequence[Placed]) -> None:
        for frame, split, number in batch:
            self._write(frame, split, number)

    def _write(self, frame: ExportFrame, split: str, number: int) -> None:
        folder, options, stem = self._folder, self._options, f"{number:06d}"
        folder.link(frame.image, f"kitti/{split}/image_2/{stem}{frame.image[frame.image.rindex('.') :]}")
        labels = format_labels(label(item, options.include_3d_boxes) for item in frame.annotations)
        folder.write(f"kitti/{split}/label_2/{stem}.txt", labels.encode())
        if frame.calib:
            folder.link(frame.calib, f"kitti/{split}/calib/{stem}.txt")
        if options.include_depth and frame.depth:
            folder.link(frame.depth, f"kitti/{split}/depth/{stem}.npy")
        if options.include_velodyne and frame.velodyne:
            folder.link(frame.velodyne, f"kitti/{split}/velodyne/{stem}.bin")
        if options.include_masks:
            write_masks(folder, frame, f"kitti/{split}/masks/{stem}")

    def state(self) -> dict[str, Any]:
        return {}

    def finish(self) -> None:
        pass


def label(annotation: ExportAnnotation, include_3d_boxes: bool = True) -> KittiObject:
    """The annotation as a line of a label file; the `n`th line of a file belongs to the mask `…_n.png`."""
    x, y, width, height = annotation.bbox_xywh
    box = annotation.box if include_3d_boxes else None
    alpha = UNKNOWN_ALPHA
    if box:
        bearing = math.atan2(box.location[0], box.location[2])
        alpha = (box.rotation_y - bearing + math.pi) % (2 * math.pi) - math.pi
    return KittiObject(
        type=annotation.class_name,
        truncated=annotation.truncated,
        occluded=annotation.occluded,
        alpha=alpha,
        bbox_xyxy=(x, y, x + width, y + height),
        dimensions_hwl=box.dimensions_hwl if box else UNKNOWN_DIMENSIONS_HWL,
        location=box.location if box else UNKNOWN_LOCATION,
        rotation_y=box.rotation_y if box else UNKNOWN_ROTATION_Y,
    )


def write_masks(folder: ExportFolder, frame: ExportFrame, stem: str) -> None:
    """Put each annotation's mask in as `<stem>_<place in the frame>.png`."""
    for place, annotation in enumerate(frame.annotations):
        if annotation.mask_path and folder.link_if_there(annotation.mask_path, f"{stem}_{place}.png"):
            continue
        if annotation.mask:
            folder.write(f"{stem}_{place}.png", annotation.mask.png(frame.width, frame.height))
