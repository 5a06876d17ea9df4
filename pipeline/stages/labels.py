"""A detection and its 3D box as a line of KITTI's label_2, and what KITTI wants to know of how it is seen."""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pipeline.geometry.boxes3d import alpha_of, project_boxes
from pipeline.geometry.kitti import UNKNOWN_ALPHA, KittiObject
from pipeline.storage.records import BoxRecord, DetectionRecord, FrameRecord, TrackRecord

Mask = NDArray[np.bool_]
Depth = NDArray[np.float32]

_PARTLY: Final = 0.1
_LARGELY: Final = 0.5
"""Share of the box's image hidden by nearer things from which KITTI's occlusion is 1 and 2."""
_IN_FRONT_M: Final = 0.3


def how_seen(
    row: NDArray[np.float64],
    camera_matrix: NDArray[np.float64],
    frame: FrameRecord,
    mask: Mask | None,
    depth: Depth | None,
) -> tuple[float, int]:
    """KITTI's truncation (0…1) and occlusion (0, 1, 2) of a box (7,) in camera axes; 0 without mask or depth."""
    down = None if frame.gravity is None else np.array(frame.gravity, dtype=np.float64)
    clipped, whole = project_boxes(row, camera_matrix, (frame.width, frame.height), down)
    hidden = 0 if mask is None or depth is None else _occlusion(clipped[0], mask, depth)
    return round(_truncation(clipped[0], whole[0]), 4), hidden


def _truncation(clipped: NDArray[np.float64], whole: NDArray[np.float64]) -> float:
    """Share of the projected box (x1, y1, x2, y2) that lies outside the image."""
    area = float(np.prod(whole[2:] - whole[:2]))
    inside = float(np.prod(np.clip(clipped[2:] - clipped[:2], 0, None)))
    return float(np.clip(1 - inside / area, 0, 1)) if np.isfinite(area) and area > 0 else 0.0


def _occlusion(clipped: NDArray[np.float64], mask: Mask, depth: Depth) -> int:
    """0, 1, 2 by the share of the box's image, outside the mask, where something nearer was measured."""
    if not np.isfinite(clipped).all():
        return 0
    x1, y1, x2, y2 = np.rint(clipped).astype(int)
    part, inside = depth[y1 : y2 + 1, x1 : x2 + 1], mask[y1 : y2 + 1, x1 : x2 + 1]
    own = part[inside & np.isfinite(part)]
    if not len(own):
        return 0
    near = float(np.quantile(own, 0.05)) - _IN_FRONT_M
    with np.errstate(invalid="ignore"):
        hidden = float((~inside & (part < near)).mean())
    return 2 if hidden >= _LARGELY else 1 if hidden >= _PARTLY else 0


def settled(box: BoxRecord, track: TrackRecord | None) -> BoxRecord:
    """The box as it stands in the end: refined over the track where it was, else that of the frame."""
    if track is None or track.box is None:
        return box
    location, size, rotation_y = track.box[:3], track.box[3:6], track.box[6]
    changed: dict[str, Any] = {
        "location": location,
        "dimensions_hwl": size,
        "rotation_y": rotation_y,
        "alpha": round(alpha_of(rotation_y, location), 4),
        "truncated": box.truncated if track.truncated is None else track.truncated,
        "occluded": box.occluded if track.occluded is None else track.occluded,
        "sigma": track.sigma,
        "reason": "",
    }
    return BoxRecord.from_json(box.to_json() | changed)


def kitti_label(detection: DetectionRecord, box: BoxRecord) -> KittiObject:
    """The line of a detection; without a box it carries KITTI's values for "unknown"."""
    x, y, width, height = detection.bbox_xywh
    flat = KittiObject(
        type=detection.class_name,
        truncated=box.truncated,
        occluded=box.occluded,
        alpha=UNKNOWN_ALPHA,
        bbox_xyxy=(x, y, x + width, y + height),
        score=detection.confidence,
    )
    if box.location is None or box.dimensions_hwl is None or box.rotation_y is None or box.alpha is None:
        return flat
    return KittiObject(
        flat.type,
        flat.truncated,
        flat.occluded,
        box.alpha,
        flat.bbox_xyxy,
        (box.dimensions_hwl[0], box.dimensions_hwl[1], box.dimensions_hwl[2]),
        (box.location[0], box.location[1], box.location[2]),
        box.rotation_y,
        detection.confidence,
    )
