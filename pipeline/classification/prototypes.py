"""Classes as clouds around a middle that is itself uncertain: what can be said from the first label on.

The two-covariance model behind probabilistic linear discriminant analysis (Prince and Elder, 2007; Brümmer and de
Villiers, 2010), with diagonal covariances. The middle of a class is a draw from the cloud of all things; an instance is
a draw around the middle of its class. Few labels leave the middle uncertain and the cloud wide. What lies nowhere near
a middle is likelier a class never seen, and the model has a likelihood for that too.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_WITHIN: Final = 0.35
"""Share of the variance of all things that is within classes, before anything is known of it."""
_POOLED: Final = 10.0
_OWN: Final = 25.0
_SPREAD: Final = 5.0
"""Labels' worth of trust in: that share; the classes' common spread as against a class's own; equal variances of all
dimensions."""


@dataclass(frozen=True, slots=True)
class Prototypes:
    """centre (D,) and scale of the features; middle and variance of each class's instances (C, D); variance (D,) of
    the instances of a class never seen. All in centred and scaled units."""

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
        # Of one instance nothing is known of how things vary: they are taken to differ as much as they are large.
        prior = float(np.mean(np.square(x))) + 1e-12
        total = (np.square(x - centre).sum(axis=0) + _SPREAD * prior) / (n + _SPREAD)
        scale = float(np.sqrt(np.mean(total)))
        total = (n * total + _SPREAD * scale**2) / (n + _SPREAD) / scale**2
        z, means = (x - centre) / scale, np.where(count[:, None] > 0, (sums / seen - centre) / scale, 0.0)
        residual = of_class @ np.square(z - means[column])
        freedom = max(n - int(np.count_nonzero(count)), 0)
        within = (residual.sum(axis=0) + _POOLED * _WITHIN * total) / (freedom + _POOLED)
        own = (residual + _OWN * within) / (np.maximum(count - 1, 0)[:, None] + _OWN)
        between = np.maximum(total - within, 0.1 * total)
        doubt = 1 / (1 / between + count[:, None] / own)
        middle = doubt * (count[:, None] * means) / own
        return cls(centre, scale, middle, own + doubt, within + between)

    def scores(self, features: NDArray[np.floating]) -> Floats:
        """(M, C) log of how much likelier each instance is of the class than of one never seen, per dimension."""
        z = (np.asarray(features, dtype=np.float64) - self.centre) / self.scale
        squared = np.square(z)
        mahalanobis = (
            squared @ (1 / self.variance).T
            - 2 * (z @ (self.middle / self.variance).T)
            + (np.square(self.middle) / self.variance).sum(axis=1)
        )
        known = -0.5 * (mahalanobis + np.log(self.variance).sum(axis=1))
        unseen = -0.5 * (squared @ (1 / self.unseen) + np.log(self.unseen).sum())
        return np.asarray((known - unseen[:, None]) / z.shape[1], dtype=np.float64)
