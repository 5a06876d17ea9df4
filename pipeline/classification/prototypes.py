"""Classes as clouds around a middle that is itself uncertain: what can be said from the first label on.

The two-covariance model behind probabilistic linear discriminant analysis (Prince and Elder, 2007; Brümmer and de
Villiers, 2010), with diagonal covariances. The middle of a class is a draw from the cloud of all things; an instance is
a draw around the middle of its class. Few labels leave the middle near the centre of all, and the cloud wide. What lies
nowhere near a middle is likelier a class never seen, and the model has a likelihood for that too.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_WITHIN: Final = 0.5
"""Share of the variance of all things that is within classes, before anything is known of it."""
_POOLED: Final = 10.0
_SPREAD: Final = 5.0
"""Labels' worth of trust in that share, and in equal variances of all dimensions."""


@dataclass(frozen=True, slots=True)
class Prototypes:
    """centre (D,) and scale of the features; in centred and scaled units: middle (C, D) of each class, variance (D,) of
    instances around it, and variance (D,) of the instances of a class never seen.

    All classes have one variance. One of their own, or more of it for a class with few labels, would be right only if
    dimensions were independent: in hundreds of them the wider class wins or loses everywhere. Measured: 0.97 instead
    of 0.99 of the instances called right.
    """

    centre: Floats
    scale: float
    middle: Floats
    variance: Floats
    unseen: Floats

    @classmethod
    def fit(cls, features: NDArray[np.floating], column: NDArray[np.int64], columns: int) -> "Prototypes":
        """features (N, D), N at least 1; column int (N,), which of the `columns` classes each is of. A class without
        a label is put nowhere in particular (as unlikely as one never seen)."""
        x = np.asarray(features, dtype=np.float64)
        n = len(x)
        count = np.bincount(column, minlength=columns).astype(np.float64)
        seen = np.maximum(count, 1)[:, None]
        of_class = (np.arange(columns)[:, None] == column).astype(np.float64)
        sums = of_class @ x
        centre = sums[count > 0].sum(axis=0) / n
        # As differences of sums of squares: in double precision that costs nothing, and time is all in passes over x.
        whole = np.einsum("nd,nd->d", x, x)
        squares = np.maximum(whole - n * np.square(centre), 0)
        means = np.where(count[:, None] > 0, sums / seen - centre, 0.0)
        residual = np.maximum(squares - count @ np.square(means), 0)
        # Of one instance nothing is known of how things vary: they are taken to differ as much as they are large.
        prior = float(whole.mean()) / n + 1e-12
        total = (squares + _SPREAD * prior) / (n + _SPREAD)
        scale = float(np.sqrt(np.mean(total)))
        total = (n * total + _SPREAD * scale**2) / (n + _SPREAD) / scale**2
        means, residual = means / scale, residual / scale**2
        freedom = max(n - int(np.count_nonzero(count)), 0)
        within = (residual + _POOLED * _WITHIN * total) / (freedom + _POOLED)
        between = np.maximum(total - within, 0.1 * total)
        doubt = 1 / (1 / between + count[:, None] / within)
        middle = doubt * (count[:, None] * means) / within
        return cls(centre, scale, middle, within + doubt[count > 0].mean(axis=0), within + between)

    def scores(self, features: NDArray[np.floating]) -> Floats:
        """(M, C) log of how much likelier each instance is of the class than of one never seen, per dimension."""
        z = (np.asarray(features, dtype=np.float64) - self.centre) / self.scale
        squared, precision = np.square(z), 1 / self.variance
        mahalanobis = (
            (squared @ precision)[:, None] - 2 * (z @ (self.middle * precision).T) + np.square(self.middle) @ precision
        )
        known = -0.5 * (mahalanobis + np.log(self.variance).sum())
        unseen = -0.5 * (squared @ (1 / self.unseen) + np.log(self.unseen).sum())
        return np.asarray((known - unseen[:, None]) / z.shape[1], dtype=np.float64)
