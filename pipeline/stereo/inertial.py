"""Inertial rows of a recording: written out in the axes of the rectified camera, and gravity read back from them."""

import csv
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from pipeline.recordings.base import ImuSample
from pipeline.storage.atomic import atomic_open

COLUMNS: Final = ("timestamp_ns", "ax", "ay", "az", "gx", "gy", "gz", "qx", "qy", "qz", "qw")
_BATCH: Final = 4096
_BIN_NS: Final = 50_000_000
_HALF_WINDOW_NS: Final = 500_000_000
"""Half of the moving average that takes shaking out of gravity."""
_GRAVITY: Final = 9.80665
_TOLERANCE: Final = 0.25
"""An average that is off g by more than this share is a manoeuvre (or another unit), not gravity."""


def write_imu(path: Path, samples: Iterable[ImuSample], rotation: NDArray[np.float64]) -> int:
    """Write all rows as CSV (COLUMNS; m/s², rad/s, quaternion or empty), streaming; returns how many.

    rotation: (3, 3) axes of the samples → axes of the file. The orientation is that of the camera in its world: the
    world stays, the camera's axes turn. No file appears if there are no rows.
    """
    rows = iter(samples)
    batch = list(islice(rows, _BATCH))
    if not batch:
        return 0
    count = 0
    inverse = Rotation.from_matrix(rotation).inv()
    with atomic_open(path, "w") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(COLUMNS)
        while batch:
            turned = np.array([(sample.acceleration, sample.angular_velocity) for sample in batch]) @ rotation.T
            for sample, (acceleration, rate) in zip(batch, turned, strict=True):
                orientation: list[str] = [""] * 4
                if sample.orientation is not None and any(sample.orientation):
                    orientation = _words((Rotation.from_quat(sample.orientation) * inverse).as_quat(), 7)
                writer.writerow([sample.timestamp_ns, *_words(acceleration, 6), *_words(rate, 7), *orientation])
            count += len(batch)
            batch = list(islice(rows, _BATCH))
    return count


def read_accelerations(path: Path) -> Iterator[tuple[int, tuple[float, float, float]]]:
    """(timestamp ns, acceleration m/s²) of each row of `write_imu`; nothing if there is no file."""
    if not path.exists():
        return
    with path.open(newline="") as stream:
        rows = csv.reader(stream)
        next(rows, None)
        for row in rows:
            yield int(row[0]), (float(row[1]), float(row[2]), float(row[3]))


class Gravity:
    """The direction of gravity over time: accelerations averaged over a second around a moment.

    Keeps sums of 50 ms, so that an hour of 400 Hz takes two megabytes.
    """

    def __init__(self, accelerations: Iterable[tuple[int, tuple[float, float, float]]]) -> None:
        sums: dict[int, list[float]] = {}
        for timestamp_ns, (x, y, z) in accelerations:
            row = sums.setdefault(timestamp_ns // _BIN_NS, [0.0, 0.0, 0.0, 0.0])
            row[0] += x
            row[1] += y
            row[2] += z
            row[3] += 1
        bins = sorted(sums)
        self._bins = np.array(bins, dtype=np.int64)
        self._sums = np.array([sums[index] for index in bins], dtype=np.float64).reshape(-1, 4)

    def down(self, timestamp_ns: int) -> NDArray[np.float64] | None:
        """Unit vector pointing down at a moment, or None where no row is near it or the unit was not nearly at rest."""
        first = np.searchsorted(self._bins, (timestamp_ns - _HALF_WINDOW_NS) // _BIN_NS, side="left")
        last = np.searchsorted(self._bins, (timestamp_ns + _HALF_WINDOW_NS) // _BIN_NS, side="right")
        total = self._sums[first:last].sum(axis=0)
        if total[3] == 0:
            return None
        mean = total[:3] / total[3]
        norm = float(np.linalg.norm(mean))
        if abs(norm - _GRAVITY) > _TOLERANCE * _GRAVITY:
            return None
        return np.asarray(-mean / norm)


def _words(values: Iterable[float], digits: int) -> list[str]:
    return [f"{value:.{digits}f}" for value in values]
