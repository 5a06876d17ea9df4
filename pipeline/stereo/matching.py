"""Dense disparity by semi-global matching, keeping only what two independent matches agree on.

Hirschmüller, "Stereo Processing by Semiglobal Matching and Mutual Information", TPAMI 2008, as OpenCV implements it
(three-path variant). Holes stay holes: a filled-in disparity looks well and is wrong.
"""

from dataclasses import dataclass
from typing import Final, Self

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.stereo.camera import RectifiedCamera

Grey = NDArray[np.uint8]
Disparity = NDArray[np.float32]
Depth = NDArray[np.float32]

_NEAREST_M: Final = 0.4
_NEAREST_BASELINES: Final = 3.3
"""A rig is not used nearer than some baselines: 0.4 m for a ZED's 0.12 m, 1.8 m for KITTI's 0.54 m."""
_MAX_WIDTH: Final = 1300
"""Wider images are matched at half size: their disparities are as many times larger, the cost grows with the cube."""


@dataclass(frozen=True, slots=True)
class SemiGlobalMatcher:
    """Sub-pixel disparity of a rectified pair.

    num_disparities: search range in pixels, a multiple of 16. block_size: odd, pixels. downscale: match at 1/n size.
    uniqueness: percent by which the best cost must win against any other disparity. max_difference: pixels the left and
    the right match may differ by. speckle_size: connected patches of fewer pixels are dropped.

    What has no texture drops out by itself: there neither match is unique and the two disagree. (A threshold on the
    gradient was tried: on a glossy real floor it removed a third of the right depths and made its plane worse.)
    """

    num_disparities: int = 128
    block_size: int = 5
    downscale: int = 1
    uniqueness: int = 5
    max_difference: float = 1.0
    speckle_size: int = 120

    @classmethod
    def for_camera(cls, camera: RectifiedCamera, nearest: float | None = None) -> Self:
        """Parameters for a camera: the disparity of the nearest distance (metres) that matters, at a useful size."""
        if camera.baseline is None:
            raise ValueError("a camera without a baseline yields no depth")
        nearest = nearest or max(_NEAREST_M, _NEAREST_BASELINES * camera.baseline)
        downscale = -(-camera.width // _MAX_WIDTH)
        needed = camera.fx * camera.baseline / nearest / downscale
        most = camera.width // downscale // 3
        return cls(num_disparities=max(16, round(min(needed, most) / 16 + 0.49) * 16), downscale=downscale)

    def match(self, left: NDArray[np.uint8], right: NDArray[np.uint8]) -> Disparity:
        """Disparity, float32 (H, W) in pixels of the input, NaN where unknown; x_right = x_left - disparity.

        left, right: uint8 BGR (H, W, 3) or grey (H, W). The same pair gives the same bytes on any number of threads.
        """
        if left.shape[:2] != right.shape[:2]:
            raise ValueError(f"left is {left.shape[:2]}, right is {right.shape[:2]}")
        height, width = left.shape[:2]
        left, right = _grey(left), _grey(right)
        if self.downscale > 1:
            size = (width // self.downscale, height // self.downscale)
            left, right = (
                np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8) for image in (left, right)
            )
        disparity = self._cross_checked(left, right)
        if self.downscale > 1:
            # Nearest neighbour: interpolating would invent depths between an object and what is behind it.
            disparity = np.asarray(cv2.resize(disparity, (width, height), interpolation=cv2.INTER_NEAREST), np.float32)
            disparity *= np.float32(width / (width // self.downscale))
        return disparity

    def _cross_checked(self, left: Grey, right: Grey) -> Disparity:
        disparity = self._one_way(left, right)
        from_right = self._one_way(right[:, ::-1], left[:, ::-1])[:, ::-1]

        width = left.shape[1]
        columns = np.arange(width, dtype=np.float32)[None, :]
        there = np.nan_to_num(columns - disparity, nan=-1.0)
        inside = there >= 0
        back = np.take_along_axis(from_right, np.clip(np.rint(there), 0, width - 1).astype(np.intp), axis=1)
        with np.errstate(invalid="ignore"):
            agree = inside & (np.abs(disparity - back) <= self.max_difference)
        disparity[~agree] = np.nan
        return self._without_speckles(disparity)

    def _one_way(self, left: Grey, right: Grey) -> Disparity:
        """SGM of grey images. OpenCV leaves the first num_disparities columns out; padding brings them back."""
        pad = self.num_disparities
        padded = [np.pad(image, ((0, 0), (pad, 0)), mode="edge") for image in (left, right)]
        area = self.block_size**2
        sgbm = cv2.StereoSGBM.create(
            minDisparity=0,
            numDisparities=self.num_disparities,
            blockSize=self.block_size,
            P1=8 * area,
            P2=32 * area,
            disp12MaxDiff=-1,  # its own check reads the same cost volume; ours matches the other way round
            preFilterCap=63,
            uniquenessRatio=self.uniqueness,
            speckleWindowSize=0,
            speckleRange=0,
            mode=cv2.STEREO_SGBM_MODE_SGBM_3WAY,
        )
        fixed = sgbm.compute(*padded)[:, pad:]
        disparity: Disparity = fixed.astype(np.float32) / np.float32(
            16
        )  # OpenCV's disparities are sixteenths of a pixel
        disparity[fixed <= 0] = np.nan
        return disparity

    def _without_speckles(self, disparity: Disparity) -> Disparity:
        fixed = np.nan_to_num(disparity * 16, nan=-16).astype(np.int16)
        cv2.filterSpeckles(fixed, -16, self.speckle_size, 2 * 16)
        disparity[fixed < 0] = np.nan
        return disparity


def disparity_to_depth(disparity: Disparity, camera: RectifiedCamera, min_disparity: float = 1.0) -> Depth:
    """Depth along the optical axis, float32 metres (H, W), NaN where unknown: f·B/d.

    Disparities below `min_disparity` pixels say "far away" and no more; they become NaN.
    """
    if camera.baseline is None:
        raise ValueError("a camera without a baseline yields no depth")
    with np.errstate(invalid="ignore", divide="ignore"):
        depth = np.float32(camera.fx * camera.baseline) / disparity
        depth[~(disparity >= min_disparity)] = np.nan
    return depth


def _grey(image: NDArray[np.uint8]) -> Grey:
    return image if image.ndim == 2 else np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), np.uint8)
