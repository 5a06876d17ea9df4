"""Dense disparity by semi-global matching, keeping only what two independent matches agree on.

Hirschmüller, "Stereo Processing by Semiglobal Matching and Mutual Information", TPAMI 2008, as OpenCV implements it
(three-path variant). Holes stay holes: a filled-in disparity looks well and is wrong.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Self

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.stereo.agreement import left_right_difference
from pipeline.stereo.base import Depth, Disparity, Grey, StereoMatch
from pipeline.stereo.camera import RectifiedCamera
from pipeline.stereo.confidence import confidence_of

_NEAREST_M: Final = 0.4
_NEAREST_BASELINES: Final = 3.3
"""A rig is not used nearer than some baselines: 0.4 m for a ZED's 0.12 m, 1.8 m for KITTI's 0.54 m."""
_MAX_WIDTH: Final = 1300
"""Wider images are matched at half size: their disparities are as many times larger, the cost grows with the cube."""
_STEPS: Final = 16
"""OpenCV's disparities are sixteenths of a pixel."""
_TRUE_OFFSETS: Final = (0.0, 0.16, 0.25, 0.31, 0.365, 0.41, 0.445, 0.475, 0.5)
"""Where a match really lies, in pixels from the next whole one, by OpenCV's offset in steps; mean of simulated streets.

OpenCV fits a parabola to costs that rise in straight lines from their minimum, and its smoothness term favours whole
steps: 28 % of all disparities came out whole (cf. Shimizu & Okutomi, "Precise Sub-pixel Estimation", ICCV 2001)."""
_SPECKLE_RANGE: Final = 2.0
_MEDIAN: Final = 5
_GAIN_IGNORED: Final = 1.05
_LARGEST_GAIN: Final = 2.0


@dataclass(frozen=True, slots=True)
class SemiGlobalMatcher:
    """Sub-pixel disparity of a rectified pair.

    num_disparities: search range in pixels, a multiple of 16. block_size: odd, pixels. small_step, large_step: what a
    change of disparity between neighbours costs, by one pixel and by more, per pixel of the block. gradient_cap:
    horizontal gradients are cut off there before they are compared. downscale: match at 1/n size. uniqueness: percent
    by which the best cost must win against any other disparity. max_difference: pixels the left and the right match may
    differ by. speckle_size, speckle_share: connected patches of fewer pixels, or of a smaller share of the image, are
    dropped.

    The numbers were chosen on Middlebury, Aloe, simulated and real ZED pictures by what `benchmarks.stereo` prints: a
    smaller block than usual with costlier steps keeps object borders and loses no coverage. Matching rank-transformed
    or colour images, on eight paths, and refining the sub-pixel part by gradient descent were tried as well; each cost
    accuracy, coverage or time. What has no texture drops out by itself: there neither match is unique and the two
    disagree. (A threshold on the gradient removed a third of the right depths of a glossy real floor.)
    """

    num_disparities: int = 128
    block_size: int = 3
    small_step: int = 12
    large_step: int = 48
    gradient_cap: int = 31
    downscale: int = 1
    uniqueness: int = 5
    max_difference: float = 1.0
    speckle_size: int = 120
    speckle_share: float = 0.0004

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
        """The disparity alone, for whoever needs no confidence: float32 (H, W) in pixels, NaN where unknown."""
        size = left.shape[1::-1]
        return self._enlarged(self._matched(*self._at_work_size(left, right))[0], size)

    def measure(self, left: NDArray[np.uint8], right: NDArray[np.uint8]) -> StereoMatch:
        """See `StereoMatcher`. The same pair gives the same bytes on any number of threads."""
        size = left.shape[1::-1]
        left, right = self._at_work_size(left, right)
        disparity, difference = self._matched(left, right)
        confidence = confidence_of(left, right, disparity, difference)
        if self.downscale > 1:
            confidence = np.asarray(cv2.resize(confidence, size, interpolation=cv2.INTER_NEAREST), np.float32)
        return StereoMatch(self._enlarged(disparity, size), confidence)

    def _at_work_size(self, left: NDArray[np.uint8], right: NDArray[np.uint8]) -> tuple[Grey, Grey]:
        if left.shape[:2] != right.shape[:2]:
            raise ValueError(f"left is {left.shape[:2]}, right is {right.shape[:2]}")
        height, width = left.shape[:2]
        pair = _equally_bright(_grey(left), _grey(right))
        if self.downscale == 1:
            return pair
        size = (width // self.downscale, height // self.downscale)
        small = [np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8) for image in pair]
        return small[0], small[1]

    def _enlarged(self, disparity: Disparity, size: tuple[int, int]) -> Disparity:
        if self.downscale == 1:
            return disparity
        # Nearest neighbour: interpolating would invent depths between an object and what is behind it.
        large = np.asarray(cv2.resize(disparity, size, interpolation=cv2.INTER_NEAREST), np.float32)
        large *= np.float32(size[0] / disparity.shape[1])
        return large

    def _matched(self, left: Grey, right: Grey) -> tuple[Disparity, Disparity]:
        """The disparity, NaN where unknown, and the difference of the two matches."""
        table = _pixels(self.num_disparities)
        fixed = self._one_way(left, right)
        disparity = table[fixed]
        from_right = table[self._one_way(right[:, ::-1], left[:, ::-1])[:, ::-1]]
        difference = left_right_difference(disparity, from_right)
        fixed[difference > self.max_difference] = -_STEPS
        smallest = max(self.speckle_size, round(self.speckle_share * fixed.size))
        cv2.filterSpeckles(fixed, -_STEPS, smallest, int(_SPECKLE_RANGE * _STEPS))
        disparity[fixed <= 0] = np.nan
        return _median(disparity), difference

    def _one_way(self, left: Grey, right: Grey) -> NDArray[np.int16]:
        """SGM of grey images: int16 (H, W), sixteenths of a pixel, 0 where nothing was found.

        OpenCV leaves the first num_disparities columns out; padding brings them back.
        """
        pad = self.num_disparities
        padded = [np.pad(image, ((0, 0), (pad, 0)), mode="edge") for image in (left, right)]
        area = self.block_size**2
        sgbm = cv2.StereoSGBM.create(
            minDisparity=0,
            numDisparities=self.num_disparities,
            blockSize=self.block_size,
            P1=self.small_step * area,
            P2=self.large_step * area,
            disp12MaxDiff=-1,  # its own check reads the same cost volume; ours matches the other way round
            preFilterCap=self.gradient_cap,
            uniquenessRatio=self.uniqueness,
            speckleWindowSize=0,
            speckleRange=0,
            mode=cv2.STEREO_SGBM_MODE_SGBM_3WAY,
        )
        return np.maximum(np.asarray(sgbm.compute(*padded)[:, pad:], np.int16), 0)


@lru_cache(maxsize=8)
def _pixels(num_disparities: int) -> Disparity:
    """OpenCV's fixed-point disparities in pixels, by value, without their pull to whole pixels; NaN at 0."""
    steps = np.arange((num_disparities + 1) * _STEPS)
    whole = (steps + _STEPS // 2) // _STEPS
    offset = steps - whole * _STEPS
    table: Disparity = (whole + np.sign(offset) * np.array(_TRUE_OFFSETS)[np.abs(offset)]).astype(np.float32)
    table[0] = np.nan
    table.flags.writeable = False
    return table


def _equally_bright(left: Grey, right: Grey) -> tuple[Grey, Grey]:
    """The pair with the darker eye brightened to the median of the other.

    The costs compare grey levels: eyes that expose by themselves (EuRoC's differ by 18 %) lose smooth surfaces else. It
    is the darker one that changes, so that what is burnt out in one eye is so in both.
    """
    brightness = [max(_median_level(image), 1) for image in (left, right)]
    gain = min(max(brightness) / min(brightness), _LARGEST_GAIN)
    if gain < _GAIN_IGNORED:
        return left, right
    if brightness[0] < brightness[1]:
        return np.asarray(cv2.convertScaleAbs(left, alpha=gain), np.uint8), right
    return left, np.asarray(cv2.convertScaleAbs(right, alpha=gain), np.uint8)


def _median_level(image: Grey) -> int:
    counts = np.asarray(cv2.calcHist([image], [0], None, [256], [0, 256])).ravel()
    return int(np.searchsorted(np.cumsum(counts), image.size / 2))


def _median(disparity: Disparity) -> Disparity:
    """Median of 5x5 where most of it is known; nothing known is lost, no hole is filled."""
    known = np.isfinite(disparity)
    smooth = np.asarray(cv2.medianBlur(np.where(known, disparity, np.float32(-1)), _MEDIAN), np.float32)
    smooth[~(known & (smooth > 0))] = np.nan
    return np.where(np.isnan(smooth), disparity, smooth).astype(np.float32, copy=False)


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
