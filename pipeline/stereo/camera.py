"""The rectified camera of a sequence: what every stage after extraction needs to know of the lenses."""

from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class RectifiedCamera:
    """Both rectified eyes share K; the right one stands `baseline` metres along +X.

    `metric` is False where no calibration was found: then fx, fy, cx, cy are a guess for drawing only and `baseline`
    is None, and nothing may yield 3D boxes. `source` says where the numbers come from.
    """

    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float
    baseline: float | None
    metric: bool
    source: str = ""

    @property
    def matrix(self) -> NDArray[np.float64]:
        """K, (3, 3)."""
        return np.array([[self.fx, 0, self.cx], [0, self.fy, self.cy], [0, 0, 1]], dtype=np.float64)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Self:
        return cls(**value)
