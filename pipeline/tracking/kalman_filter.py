"""Constant-velocity Kalman filters over many objects at once.

Every coordinate has a position and a velocity, and all noise is diagonal. The covariance of ByteTrack's 8-state filter
is then block-diagonal, one 2x2 block per coordinate, for ever: the filter *is* four scalar filters side by side.
Written so, it needs no inverse and no 8x8 product, and gives the same numbers.

A state is float64 (5, n, d): position, velocity, and the covariance block's pp, pv, vv, for n objects of d coordinates.
Time is counted in frames.
"""

from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

POSITION, VELOCITY, PP, PV, VV = range(5)


class NoiseModel(Protocol):
    """Variances of a filter over d coordinates. `pair` is (2, n, d): of position and of velocity."""

    dimensions: int

    def initial(self, measured: Array) -> Array:
        """Variances of a new state, from its measurement (n, d)."""
        ...

    def process(self, position: Array) -> Array:
        """Variances that one frame adds, from the positions (n, d) before it."""
        ...

    def measurement(self, position: Array) -> Array:
        """Variance of a measurement (n, d), from the predicted positions (n, d)."""
        ...


def initiate(measured: Array, noise: NoiseModel) -> Array:
    """States of newly seen objects: at rest where they were measured, float64 (n, d)."""
    state = np.zeros((5, *measured.shape))
    state[POSITION] = measured
    state[PP::2] = noise.initial(measured)
    return state


_STEP: Final = np.array(
    [[1, 1, 0, 0, 0], [0, 1, 0, 0, 0], [0, 0, 1, 2, 1], [0, 0, 0, 1, 1], [0, 0, 0, 0, 1]], dtype=np.float64
)
"""One frame's motion, on the five rows of a state: p + v; v; pp + 2 pv + vv; pv + vv; vv."""


def predict(state: Array, noise: NoiseModel) -> Array:
    """The states one frame on. The input is left alone."""
    moved: Array = (_STEP @ state.reshape(5, -1)).reshape(state.shape)
    moved[PP::2] += noise.process(state[POSITION])
    return moved


def correct(state: Array, innovation: Array, noise: NoiseModel) -> Array:
    """States after a measurement that lies `innovation` (n, d) off the predicted position. The input is left alone."""
    shared = state[PP:VV]  # pp and pv: the covariance of position with either half of the state
    gain = shared / (state[PP] + noise.measurement(state[POSITION]))
    corrected = np.empty_like(state)
    np.add(state[:PP], gain * innovation, out=corrected[:PP])
    np.subtract(shared, gain[0] * shared, out=corrected[PP:VV])
    np.subtract(state[VV], gain[1] * state[PV], out=corrected[VV])
    return corrected


class BoxNoise:
    """ByteTrack's noise for boxes as (centre x, centre y, aspect ratio, height) in pixels: relative to the height.

    Numbers of Wojke et al. 2017 (DeepSORT), which Zhang et al. 2022 took over.
    """

    dimensions = 4
    # Variance is height² times the first row plus the second: only the aspect ratio's is absolute.
    _INITIAL: Final = (
        np.array([[[1, 1, 0, 1]], [[1, 1, 0, 1]]]) * np.array([2 / 20, 10 / 160])[:, None, None] ** 2,
        np.array([[[0, 0, 1e-4, 0]], [[0, 0, 1e-10, 0]]]),
    )
    _PROCESS: Final = (
        np.array([[[1, 1, 0, 1]], [[1, 1, 0, 1]]]) * np.array([1 / 20, 1 / 160])[:, None, None] ** 2,
        np.array([[[0, 0, 1e-4, 0]], [[0, 0, 1e-10, 0]]]),
    )
    _MEASUREMENT: Final = (np.array([1, 1, 0, 1]) / 20**2, np.array([0, 0, 1e-2, 0]))

    def initial(self, measured: Array) -> Array:
        return self._scaled(measured, *self._INITIAL)

    def process(self, position: Array) -> Array:
        return self._scaled(position, *self._PROCESS)

    def measurement(self, position: Array) -> Array:
        return self._scaled(position, *self._MEASUREMENT)

    @staticmethod
    def _scaled(position: Array, relative: Array, absolute: Array) -> Array:
        height = position[:, 3:]
        return (height * height) * relative + absolute


class CuboidNoise:
    """Noise for boxes in space as (x, y, z, height, width, length, yaw), metres and radians, seen by a stereo camera.

    Depth error grows with the square of the distance (a fixed disparity error): about 0.1 m at 10 m for the
    decimetre baselines and kilopixel focal lengths of stereo cameras, never under 5 cm. Sizes and yaw do not move.
    """

    dimensions = 7
    velocity_std: Final = 1.0
    """Of a newly seen object, metres per frame: a car crossing at 10 frames a second."""
    acceleration_std: Final = 0.05
    """Metres per frame²."""
    _FIXED_MEASUREMENT: Final = np.array([0.2, 0.2, 0.3, 0.3]) ** 2  # of height, width, length, yaw

    def initial(self, measured: Array) -> Array:
        variance = np.zeros((2, *measured.shape))
        variance[0] = self.measurement(measured)
        variance[1, :, :3] = self.velocity_std**2
        return variance

    def process(self, position: Array) -> Array:
        variance = np.zeros((2, *position.shape))
        variance[0, :, :3] = self.acceleration_std**2 / 4
        variance[1, :, :3] = self.acceleration_std**2
        variance[0, :, 3:] = 0.02**2
        return variance

    def measurement(self, position: Array) -> Array:
        variance = np.empty(position.shape)
        depth_std = 0.05 + 1e-3 * position[:, 2:3] ** 2
        variance[:, :3] = depth_std * depth_std
        variance[:, 3:] = self._FIXED_MEASUREMENT
        return variance
