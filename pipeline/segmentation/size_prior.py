"""How well what is seen of an object fits the typical size of a class.

Sizes are taken as log-normal: sizes of one kind differ by factors. What is hidden can only make a thing look smaller,
so too small in the direction of sight costs little, too large costs as much as the other way round does for height.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pipeline.segmentation.base import ClassSpec
from pipeline.segmentation.vocabulary import voc_names, words

DEFAULT_SIZES: Final[dict[str, tuple[float, float, float]]] = {
    "person": (1.72, 0.60, 0.70),
    "cyclist": (1.74, 0.60, 1.76),
    "bicycle": (1.10, 0.60, 1.75),
    "motorbike": (1.30, 0.80, 2.10),
    "car": (1.53, 1.63, 3.88),
    "van": (2.20, 1.90, 5.08),
    "truck": (3.25, 2.59, 10.1),
    "bus": (3.10, 2.60, 11.0),
    "tram": (3.53, 2.54, 16.1),
    "dog": (0.60, 0.30, 0.80),
    "chair": (0.90, 0.55, 0.55),
    "sofa": (0.85, 0.90, 1.90),
}
"""(h, w, l) in metres for label classes without a size of their own: the means of KITTI's labels where it has them."""

HEIGHT_SPREAD: Final = 0.16
ACROSS_SPREAD: Final = 0.28
ALONG_SPREAD: Final = 0.30
HIDDEN_SPREAD: Final = 1.1
CUT_SPREAD: Final = 0.7
"""Standard deviations of the logarithm; HIDDEN_SPREAD for the side in the direction of sight, of which often only the
front is seen, CUT_SPREAD for one that the image border or something nearer may have cut."""
_ALWAYS_HIDDEN: Final = float(np.log((1 + HIDDEN_SPREAD / ALONG_SPREAD) / 2))
"""Of everything only the front is seen: that tells nothing against a class."""
NOTHING: Final = -3.0
"""Log-likelihood of "none of the classes": about 1.7 standard deviations off in two directions."""


def typical_size(spec: ClassSpec) -> tuple[float, float, float] | None:
    """(h, w, l) of the class itself, else of what its name says, else None."""
    if spec.typical_size_hwl:
        return spec.typical_size_hwl
    for word in (*reversed(words(spec.name)), *voc_names(spec)):
        if word in DEFAULT_SIZES:
            return DEFAULT_SIZES[word]
    return None


def log_likelihoods(
    classes: Sequence[ClassSpec],
    *,
    height: float,
    across: float,
    along: float,
    cut_above: bool = False,
    cut_aside: bool = False,
) -> NDArray[np.float64]:
    """One value per class, -inf for a class without a size.

    height: metres above the ground of its top. across, along: metres it extends sideways and in the direction of sight.
    cut_above, cut_aside: the image border (or something nearer) hides the rest, so it may be larger than it looks.
    """
    h, true_across, true_along = _tables(tuple(map(typical_size, classes)))
    score = _fit(across / true_across, ACROSS_SPREAD, CUT_SPREAD if cut_aside else ACROSS_SPREAD)
    score += _fit(along / true_along, ALONG_SPREAD, HIDDEN_SPREAD) + _ALWAYS_HIDDEN
    best: NDArray[np.float64] = np.max(score, axis=1, initial=-np.inf)
    best += _fit(height / h, HEIGHT_SPREAD, CUT_SPREAD if cut_above else HEIGHT_SPREAD)
    best[np.isnan(h)] = -np.inf
    return best


@lru_cache(maxsize=64)
def _tables(
    sizes: tuple[tuple[float, float, float] | None, ...],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Heights (n,), and how far things of these sizes extend across and along the line of sight (n, 19) as they turn
    from 0 to 90 degrees; NaN for a size that is not known."""
    h, w, length = np.array([size or (np.nan,) * 3 for size in sizes], dtype=np.float64).reshape(-1, 3).T[:, :, None]
    yaw = np.linspace(0, np.pi / 2, 19)
    across = length * np.sin(yaw) + w * np.cos(yaw)
    along = length * np.cos(yaw) + w * np.sin(yaw)
    return h[:, 0], across, along


def _fit(ratio: NDArray[np.float64], larger: float, smaller: float) -> NDArray[np.float64]:
    """Log-density of seeing `ratio` times the typical size, 0 at the peak where it is as likely larger as smaller.

    The wider the curve the lower its peak: a size that may be cut off says less, for a class as against "none".
    """
    log = np.log(np.maximum(ratio, 1e-6))
    peak = np.log((1 + smaller / larger) / 2)
    return np.asarray(-0.5 * np.square(log / np.where(log > 0, larger, smaller)) - peak, dtype=np.float64)


def posterior(log_likelihood: NDArray[np.float64]) -> NDArray[np.float64]:
    """Probability of each class; what is missing to 1 is "none of them"."""
    if not log_likelihood.size:
        return log_likelihood
    top = max(float(log_likelihood.max()), NOTHING)
    share = np.exp(log_likelihood - top)
    return np.asarray(share / (share.sum() + np.exp(NOTHING - top)))
