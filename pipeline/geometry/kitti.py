"""KITTI object files: label_2, calib, velodyne (format of the object development kit's readme)."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import CalibrationError, PipelineError
from pipeline.geometry.pointcloud import VELODYNE_FROM_CAMERA
from pipeline.stereo.camera import RectifiedCamera

UNKNOWN_ALPHA: Final = -10.0
UNKNOWN_DIMENSIONS_HWL: Final = (-1.0, -1.0, -1.0)
UNKNOWN_LOCATION: Final = (-1000.0, -1000.0, -1000.0)
UNKNOWN_ROTATION_Y: Final = -10.0
UNKNOWN_OCCLUSION: Final = 3
COLUMNS: Final = 15


class LabelError(PipelineError):
    """A label file does not follow the format; the message names file and line."""

    code = "label_invalid"


@dataclass(frozen=True, slots=True)
class KittiObject:
    """One line of a label file. bbox: x1, y1, x2, y2 in pixels; score: only in results.

    truncated: share outside the image, 0…1; occluded: 0 visible, 1 partly, 2 largely, 3 unknown.
    location: centre of the bottom face, rectified left camera, metres.
    """

    type: str
    truncated: float
    occluded: int
    alpha: float
    bbox_xyxy: tuple[float, float, float, float]
    dimensions_hwl: tuple[float, float, float] = UNKNOWN_DIMENSIONS_HWL
    location: tuple[float, float, float] = UNKNOWN_LOCATION
    rotation_y: float = UNKNOWN_ROTATION_Y
    score: float | None = None

    @property
    def has_box_3d(self) -> bool:
        return self.dimensions_hwl[0] > 0 and self.location[0] > -999

    @property
    def box(self) -> NDArray[np.float64]:
        """(7,): x, y, z, h, w, l, rotation_y."""
        return np.array([*self.location, *self.dimensions_hwl, self.rotation_y])

    def line(self) -> str:
        """The line without a line end; spaces within the type become underscores, for columns are split at spaces."""
        numbers = (*self.bbox_xyxy, *self.dimensions_hwl, *self.location, self.rotation_y)
        score = "" if self.score is None else f" {self.score:.4f}"
        name = "_".join(self.type.split()) or "DontCare"
        return f"{name} {self.truncated:.2f} {self.occluded:d} {self.alpha:.2f} {_fixed(numbers)}{score}"

    @classmethod
    def parse(cls, line: str) -> Self:
        """Raises ValueError for a line with other than 15 or 16 columns or with words where numbers belong."""
        name, *rest = line.split()
        if len(rest) not in (COLUMNS - 1, COLUMNS):
            raise ValueError(f"{len(rest) + 1} columns instead of {COLUMNS} or {COLUMNS + 1}")
        v = [float(word) for word in rest]
        return cls(
            type=name,
            truncated=v[0],
            occluded=int(v[1]),
            alpha=v[2],
            bbox_xyxy=(v[3], v[4], v[5], v[6]),
            dimensions_hwl=(v[7], v[8], v[9]),
            location=(v[10], v[11], v[12]),
            rotation_y=v[13],
            score=v[14] if len(v) > COLUMNS - 1 else None,
        )


def _fixed(numbers: Iterable[float]) -> str:
    return " ".join(f"{number:.2f}" for number in numbers)


def read_labels(path: Path) -> list[KittiObject]:
    """The objects of a label file. Raises LabelError."""
    return list(_parse_labels(path))


def _parse_labels(path: Path) -> Iterator[KittiObject]:
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        if line.strip():
            try:
                yield KittiObject.parse(line)
            except ValueError as error:
                raise LabelError(f"{path.name}, line {number}: {error}.") from error


def format_labels(objects: Iterable[KittiObject]) -> str:
    return "".join(item.line() + "\n" for item in objects)


@dataclass(frozen=True, slots=True)
class KittiCalibration:
    """Projections P0…P3 (3, 4), R0_rect (3, 3), Tr_velo_to_cam and Tr_imu_to_velo (3, 4)."""

    p0: NDArray[np.float64]
    p1: NDArray[np.float64]
    p2: NDArray[np.float64]
    p3: NDArray[np.float64]
    r0_rect: NDArray[np.float64]
    tr_velo_to_cam: NDArray[np.float64]
    tr_imu_to_velo: NDArray[np.float64]

    @classmethod
    def from_camera(cls, camera: RectifiedCamera) -> Self:
        """Left eye as camera 0 and 2, right as 1 and 3; velodyne and IMU sit in the left eye."""
        left = np.hstack([camera.matrix, np.zeros((3, 1))])
        right = left.copy()
        right[0, 3] = -camera.fx * (camera.baseline or 0.0)
        no_shift = np.zeros((3, 1))
        return cls(
            p0=left,
            p1=right,
            p2=left,
            p3=right,
            r0_rect=np.eye(3),
            tr_velo_to_cam=np.hstack([VELODYNE_FROM_CAMERA.T, no_shift]),
            tr_imu_to_velo=np.hstack([VELODYNE_FROM_CAMERA, no_shift]),
        )

    @classmethod
    def read(cls, path: Path) -> Self:
        """Raises CalibrationError naming file and entry."""
        entries = {}
        for line in path.read_text().splitlines():
            key, _, words = line.partition(":")
            if words.strip():
                entries[key.strip()] = words.split()
        names = dict(_ENTRIES)

        def matrix(field: str, columns: int) -> NDArray[np.float64]:
            name = names[field]
            try:
                return np.array([float(word) for word in entries[name]]).reshape(3, columns)
            except KeyError:
                raise CalibrationError(f"{path.name}: {name} is missing.") from None
            except ValueError:
                raise CalibrationError(f"{path.name}: {name} is not {3 * columns} numbers.") from None

        return cls(**{field: matrix(field, 3 if field == "r0_rect" else 4) for field in names})

    def text(self) -> str:
        """The file's content, numbers as KITTI prints them."""
        lines = (
            f"{name}: {' '.join(f'{value:.12e}' for value in np.ravel(getattr(self, field)) + 0.0)}"
            for field, name in _ENTRIES
        )
        return "\n".join(lines) + "\n"

    @property
    def camera_matrix(self) -> NDArray[np.float64]:
        """(3, 3) of the left colour camera."""
        return self.p2[:, :3]

    @property
    def left_shift(self) -> NDArray[np.float64]:
        """(3,) t with P2 = K [I | t]: labels are in camera 0's frame, the left colour camera sees X + t."""
        return np.asarray(np.linalg.solve(self.p2[:, :3], self.p2[:, 3]))

    def velodyne_to_rectified(self, points: NDArray[np.floating]) -> NDArray[np.float64]:
        """(N, 3) velodyne → rectified camera 0, metres."""
        in_camera = points @ self.tr_velo_to_cam[:, :3].T + self.tr_velo_to_cam[:, 3]
        return np.asarray(in_camera @ self.r0_rect.T)

    def project(self, points: NDArray[np.floating]) -> NDArray[np.float64]:
        """(N, 3) rectified camera 0 → (N, 2) pixels of the left colour image."""
        pixels = points @ self.p2[:, :3].T + self.p2[:, 3]
        return np.asarray(pixels[:, :2] / pixels[:, 2:])


_ENTRIES: Final = (
    ("p0", "P0"),
    ("p1", "P1"),
    ("p2", "P2"),
    ("p3", "P3"),
    ("r0_rect", "R0_rect"),
    ("tr_velo_to_cam", "Tr_velo_to_cam"),
    ("tr_imu_to_velo", "Tr_imu_to_velo"),
)


def read_velodyne(path: Path) -> NDArray[np.float32]:
    """(N, 4) float32 x, y, z, reflectance. Raises LabelError if the file is not whole rows."""
    values = np.fromfile(path, dtype="<f4")
    if len(values) % 4:
        raise LabelError(f"{path.name}: {values.nbytes} bytes are not whole points of 16 bytes.")
    return values.reshape(-1, 4)


def velodyne_bytes(points: NDArray[np.float32]) -> bytes:
    """(N, 4) points as the file's content."""
    return np.ascontiguousarray(points, dtype="<f4").tobytes()
