"""Turn the two raw eyes of a calibrated rig into a row-aligned pair that shares one camera matrix."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.errors import CalibrationError
from pipeline.stereo.calibration import StereoCalibration
from pipeline.stereo.camera import RectifiedCamera

Image = NDArray[np.uint8]
Maps = tuple[NDArray[Any], NDArray[Any]]

_MAX_VERTICAL_SHARE: Final = 0.5
"""Share of the baseline that may be vertical before the rig counts as one above the other."""
_MIN_BASELINE_M: Final = 1e-4


@dataclass(frozen=True)
class Rectifier:
    """Bouguet rectification (`cv2.stereoRectify`, alpha 0: only pixels both lenses saw, no black borders).

    Images keep their size. Where the calibration says that the pair is rectified already and both eyes share K, nothing
    is touched. Raises CalibrationError for a rig that is not side by side, left eye left.
    """

    calibration: StereoCalibration

    def __post_init__(self) -> None:
        x, y, _ = self.calibration.translation
        source = self._source
        if not np.all(np.isfinite(self.calibration.translation)) or abs(x) < _MIN_BASELINE_M:
            raise CalibrationError(f"{source}: the baseline is {x} m; two eyes side by side need one.")
        if x > 0:
            raise CalibrationError(f"{source}: the right camera stands to the left of the left one; swap the two eyes.")
        if abs(y) > _MAX_VERTICAL_SHARE * abs(x):
            raise CalibrationError(f"{source}: the cameras stand above each other; only side by side can be matched.")
        if (self.calibration.left.width, self.calibration.left.height) != (
            self.calibration.right.width,
            self.calibration.right.height,
        ):
            raise CalibrationError(f"{source}: the two eyes have different resolutions.")

    @property
    def _source(self) -> str:
        return self.calibration.source or "The calibration"

    @property
    def is_identity(self) -> bool:
        left, right = self.calibration.left, self.calibration.right
        return self.calibration.rectified and left == right and not any(left.distortion)

    @cached_property
    def _geometry(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """(R1, R2, K): raw left → rectified, raw right → rectified, and the common camera matrix."""
        if self.is_identity:
            return np.eye(3), np.eye(3), self.calibration.left.matrix
        left, right = self.calibration.left, self.calibration.right
        r1, r2, p1, *_ = cv2.stereoRectify(
            left.matrix,
            np.array(left.distortion or (0.0,) * 5),
            right.matrix,
            np.array(right.distortion or (0.0,) * 5),
            (left.width, left.height),
            self.calibration.rotation_matrix,
            np.array(self.calibration.translation, dtype=np.float64).reshape(3, 1),  # OpenCV 5 refuses (3,)
            flags=cv2.CALIB_ZERO_DISPARITY,
            alpha=0,
        )
        k = p1[:3, :3]
        if not np.all(np.isfinite(k)) or k[0, 0] <= 0:
            raise CalibrationError(f"{self._source}: the lenses share no field of view.")
        return np.asarray(r1, np.float64), np.asarray(r2, np.float64), np.asarray(k, np.float64)

    @cached_property
    def camera(self) -> RectifiedCamera:
        _, _, k = self._geometry
        return RectifiedCamera(
            width=self.calibration.left.width,
            height=self.calibration.left.height,
            fx=float(k[0, 0]),
            fy=float(k[1, 1]),
            cx=float(k[0, 2]),
            cy=float(k[1, 2]),
            baseline=self.calibration.baseline,
            metric=True,
            source=self.calibration.source,
        )

    @property
    def rotation_left(self) -> NDArray[np.float64]:
        """(3, 3): axes of the raw left camera → axes of the rectified left camera. Turns inertial vectors, too."""
        return self._geometry[0]

    @cached_property
    def _maps(self) -> tuple[Maps, Maps]:
        r1, r2, k = self._geometry
        left, right = (
            cv2.initUndistortRectifyMap(
                eye.matrix,
                np.array(eye.distortion or (0.0,) * 5),
                rotation,
                k,
                (eye.width, eye.height),
                cv2.CV_16SC2,  # fixed point: a quarter of the memory and twice the speed of float maps
            )
            for eye, rotation in ((self.calibration.left, r1), (self.calibration.right, r2))
        )
        return left, right

    def rectify(self, left: Image, right: Image) -> tuple[Image, Image]:
        """Rectify uint8 (H, W[, 3]) images of the calibration's size. Raises CalibrationError for another size."""
        expected = (self.calibration.left.height, self.calibration.left.width)
        for height, width in (left.shape[:2], right.shape[:2]):
            if (height, width) != expected:
                raise CalibrationError(
                    f"The image is {width}×{height}, the calibration is for {expected[1]}×{expected[0]}."
                )
        if self.is_identity:
            return left, right
        maps_left, maps_right = self._maps
        return _remap(left, maps_left), _remap(right, maps_right)


def _remap(image: Image, maps: Maps) -> Image:
    return np.asarray(cv2.remap(image, *maps, interpolation=cv2.INTER_LINEAR), dtype=np.uint8)
