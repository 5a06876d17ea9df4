"""Camera calibration as plain values: intrinsics, distortion, and the pose of the right camera against the left."""

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class CameraIntrinsics:
    """A pinhole camera with OpenCV distortion.

    `distortion` is in OpenCV's order: (k1, k2, p1, p2, k3) or the rational (k1, k2, p1, p2, k3, k4, k5, k6); or empty.
    Pixels have their centre at integer coordinates.
    """

    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float
    distortion: tuple[float, ...] = ()

    @property
    def matrix(self) -> "NDArray[np.float64]":
        """K, (3, 3)."""
        import numpy as np

        return np.array([[self.fx, 0, self.cx], [0, self.fy, self.cy], [0, 0, 1]], dtype=np.float64)

    def scaled(self, width: int, height: int) -> "CameraIntrinsics":
        """The same camera read out at another resolution."""
        sx, sy = width / self.width, height / self.height
        return replace(
            self,
            width=width,
            height=height,
            fx=self.fx * sx,
            fy=self.fy * sy,
            cx=(self.cx + 0.5) * sx - 0.5,
            cy=(self.cy + 0.5) * sy - 0.5,
        )


@dataclass(frozen=True, slots=True)
class StereoCalibration:
    """Two cameras: X_right = rotation @ X_left + translation, in metres, in OpenCV camera axes.

    `rectified` says that the images already come rectified (KITTI): then rotation is the identity,
    distortion is empty and translation is (-baseline, 0, 0). `source` says where the numbers come from.
    """

    left: CameraIntrinsics
    right: CameraIntrinsics
    rotation: tuple[float, ...] = (1, 0, 0, 0, 1, 0, 0, 0, 1)
    translation: tuple[float, float, float] = (0.0, 0.0, 0.0)
    rectified: bool = False
    source: str = ""
    serial: str = ""
    extra: dict[str, object] = field(default_factory=dict)

    @property
    def rotation_matrix(self) -> "NDArray[np.float64]":
        import numpy as np

        return np.asarray(self.rotation, dtype=np.float64).reshape(3, 3)

    @property
    def baseline(self) -> float:
        """Distance of the two optical centres in metres."""
        import numpy as np

        return float(np.linalg.norm(self.translation))
