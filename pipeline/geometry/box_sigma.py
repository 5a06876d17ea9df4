"""How far a box fitted to one view may be off: from the noise of its depth, and from what of it was not seen."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]
Size = tuple[float, float, float]

_SURFACE_M: Final = 0.04
"""By which even an exact depth misses the sides of a box: no thing is one."""
_END_PIXELS: Final = 3.0
_NOISE_SHARE: Final = 1.3
"""Of the noise of single pixels: errors of a whole surface go together, and more than the mean of its pixels says."""
_HIDDEN: Final = 0.13
_HIDDEN_UNKNOWN: Final = 0.35
"""Of a side that was not seen whole: the spread of sizes within a class, and of what has no typical size."""
_SEEN: Final = 0.06
"""Of a side that was: an end may be hidden without a sign of it."""
_HEIGHT: Final = 0.03
_ROUND_YAW: Final = 0.9
"""Radians: what has no sides to be seen may face anywhere (half a turn over the square root of twelve)."""
_LEAST_YAW: Final = 0.04
_MISTAKEN: Final = 0.12
"""How often a fit takes one side for another, by a quarter turn or so, where it has only one to go by."""


def box_sigma(
    size_hwl: Size,
    yaw: float,
    centre_xz: Vector,
    seen_whole: tuple[bool, bool],
    *,
    typical_known: bool,
    rounded: bool,
    inverse_depth_noise: float,
    pixel: float,
    cut: tuple[bool, bool],
) -> Vector:
    """(7,) standard deviations of x, y, z, height, width, length (metres) and yaw (radians), levelled camera.

    seen_whole: whether width and length were seen from end to end. pixel: radians. The rest is as `fit_box` has it.
    """
    _, width, length = size_hwl
    distance = float(np.hypot(*centre_xz))
    bearing = float(np.arctan2(*centre_xz))
    depth = _NOISE_SHARE * inverse_depth_noise * distance**2
    end = _END_PIXELS * pixel * distance
    spread = _HIDDEN if typical_known else _HIDDEN_UNKNOWN
    measured = float(np.hypot(_SURFACE_M, max(end, 0.5 * depth)))
    of_width, of_length = (
        min(np.hypot(measured, _SEEN * side), spread * side) if whole else spread * side
        for side, whole in zip((width, length), seen_whole, strict=True)
    )
    # A side that was not seen extends away from the camera: half of what is wrong with it is wrong with the centre.
    facing = bearing - yaw  # 0: the width lies along the ray
    back = np.hypot(of_width * np.cos(facing), of_length * np.sin(facing)) / 2
    aside = np.hypot(of_width * np.sin(facing), of_length * np.cos(facing)) / (1 if any(cut) else 2)
    along = float(np.sqrt(_SURFACE_M**2 + depth**2 + back**2))
    across = float(np.sqrt(_SURFACE_M**2 + end**2 + aside**2))
    x = np.hypot(along * np.sin(bearing), across * np.cos(bearing))
    z = np.hypot(along * np.cos(bearing), across * np.sin(bearing))
    longest = max((side for side, whole in zip((width, length), seen_whole, strict=True) if whole), default=0.0)
    if rounded or not longest:
        turn = _ROUND_YAW
    else:
        turn = min(_ROUND_YAW, float(np.hypot(_LEAST_YAW, (_SURFACE_M + depth) / longest)))
        turn = float(np.hypot(turn, np.sqrt(_MISTAKEN) * _ROUND_YAW * (not all(seen_whole))))
    floor = float(np.hypot(0.03, 0.004 * distance))
    tall = float(np.hypot(_HEIGHT, max(end, 0.01 * distance)))
    return np.array([x, floor, z, tall, of_width, of_length, turn])
