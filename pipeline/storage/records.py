"""What the stages find out, one record per frame or detection: the lines of the journals and the rows of the database.

All records are plain values (JSON without loss), so a record read back from a journal equals the one written.
"""

from dataclasses import asdict, dataclass, field
from typing import Any, Self


@dataclass(frozen=True, slots=True)
class Record:
    """Base: to and from JSON values."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Self:
        return cls(**value)


@dataclass(frozen=True, slots=True)
class FrameRecord(Record):
    """A kept frame. `number` counts kept frames from 0 and names the files; `source_index`: place in the recording."""

    number: int
    source_index: int
    timestamp_ns: int
    width: int
    height: int
    dhash: str
    motion_score: float
    image_extension: str = "png"
    has_right: bool = False
    has_depth: bool = False
    depth_coverage: float = 0.0
    gravity: list[float] | None = None  # unit vector pointing down, in rectified left camera axes, from the IMU


@dataclass(frozen=True, slots=True)
class DetectionRecord(Record):
    """One instance in one frame. `instance` counts from 0 within the frame and names the mask file.

    bbox_xywh: pixels, float. rle: COCO compressed RLE of the full frame {"size": [h, w], "counts": str}.
    top_predictions: [{"class_id", "class_label", "confidence"}], descending, summing to at most 1. quality, stability
    and agreement: as in pipeline.segmentation.base.Instance; margin: the best class probability minus the second best.
    """

    number: int
    instance: int
    class_id: int
    class_name: str
    confidence: float
    bbox_xywh: list[float]
    area: int
    rle: dict[str, Any]
    top_predictions: list[dict[str, Any]] = field(default_factory=list)
    quality: float | None = None
    stability: float | None = None
    margin: float | None = None
    agreement: float | None = None


@dataclass(frozen=True, slots=True)
class BoxRecord(Record):
    """The 3D box of one detection, or why there is none (`location` is None and `reason` says why).

    KITTI conventions: location is the centre of the bottom face in the rectified left camera (metres);
    dimensions_hwl in metres; rotation_y about +Y in [-pi, pi]; alpha = rotation_y - atan2(x, z).
    sigma: standard deviations of x, y, z, height, width, length (metres) and rotation_y (radians).
    outline: what the box was laid around, as `pipeline.geometry.outline.Outline` writes it; tracking refines from it.
    """

    number: int
    instance: int
    location: list[float] | None = None
    dimensions_hwl: list[float] | None = None
    rotation_y: float | None = None
    alpha: float | None = None
    truncated: float = 0.0
    occluded: int = 0
    points_used: int = 0
    score: float = 0.0
    reason: str = ""
    sigma: list[float] | None = None
    outline: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class TrackRecord(Record):
    """The track a detection belongs to; track ids count from 1 within a sequence. None: not tracked.

    box: x, y, z, height, width, length, rotation_y as refined over the whole track, in the conventions of BoxRecord,
    its sigma, and truncated and occluded as they are for that box; None: the box of the frame stands as it is.
    """

    number: int
    instance: int
    track_id: int | None
    box: list[float] | None = None
    sigma: list[float] | None = None
    truncated: float | None = None
    occluded: int | None = None
