"""What every recording looks like to the engine, whatever it was recorded with.

A reader streams: it holds a few frames at a time, however long the recording. Frame counts are counted, never believed.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol, Self, runtime_checkable

from pipeline.stereo.calibration import StereoCalibration

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Kind = Literal["svo2", "zed", "stereo_video", "stereo_images", "video", "images"]


@dataclass(frozen=True, slots=True)
class RecordingMetadata:
    """What is known of a recording without decoding all of it.

    `frame_count` counts frames that can be decoded. `width` and `height` are of one eye. `warnings` are sentences for
    the user (a truncated file, dropped frames); `truncated` says that the end is missing and the rest was salvaged.
    """

    kind: Kind
    frame_count: int
    width: int
    height: int
    fps: float
    duration_s: float
    stereo: bool
    codec: str = ""
    camera_model: str = ""
    camera_serial: str = ""
    imu_count: int = 0
    truncated: bool = False
    warnings: tuple[str, ...] = ()
    extra: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StereoFrame:
    """One moment. Images are uint8 BGR (H, W, 3), as recorded (not rectified unless the calibration says so).

    `index` is the position in the recording, 0-based; `right` is None for one eye.
    `depth` is given only by readers that have one of their own (the ZED SDK): float32 metres, NaN where unknown,
    and then `left`/`right` are already rectified.
    """

    index: int
    timestamp_ns: int
    left: "NDArray[np.uint8]"
    right: "NDArray[np.uint8] | None" = None
    depth: "NDArray[np.float32] | None" = None


@dataclass(frozen=True, slots=True)
class ImuSample:
    """Calibrated inertial values in the axes of the left image (x right, y down, z forward).

    `acceleration` in m/s² (at rest it points against gravity: y is about -9.8 for a level camera),
    `angular_velocity` in rad/s, `orientation` a unit quaternion x, y, z, w or None.
    """

    timestamp_ns: int
    acceleration: tuple[float, float, float]
    angular_velocity: tuple[float, float, float]
    orientation: tuple[float, float, float, float] | None = None


@runtime_checkable
class Recording(Protocol):
    """A readable recording. Readers are context managers and may be iterated more than once."""

    @property
    def metadata(self) -> RecordingMetadata: ...

    @property
    def calibration(self) -> StereoCalibration | None:
        """Found beside the recording or in the calibration folders; None means "not metric"."""
        ...

    def frames(self, indices: Iterable[int] | None = None) -> Iterator[StereoFrame]:
        """Yield the frames of `indices` (ascending; all by default), seeking to the first one.

        A frame that cannot be decoded is left out: the caller sees a gap in `index`.
        Raises RecordingError where nothing further can be read though more was counted.
        """
        ...

    def imu(self) -> Iterator[ImuSample]: ...

    def close(self) -> None: ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *exc: object) -> None: ...
