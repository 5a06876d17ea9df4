"""Boxes of single views against ground truth on KITTI's LiDAR, beside boxes by principal components.

    python -m benchmarks.boxes3d [FOLDER]

FOLDER (default: FOVEA_TEST_DATA or ../shared/data) holds kitti_object. There are no instance masks in KITTI, so two
stand-ins are scored: "2D box": all LiDAR points that project into the labelled 2D box (background included: the fit
must find the object itself), and "GT mask": of these, the points inside the labelled 3D box, which is what a perfect
mask with a perfect depth would give. Objects with at least MIN_LIDAR_POINTS points are counted.

What becomes of stereo depth, real masks and tracks is `benchmarks.scene`'s to say. Exits with 1 where the target is
missed.
"""

import os
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.geometry.box_fit import Box3D, fit_box
from pipeline.geometry.boxes3d import iou_3d
from pipeline.geometry.kitti import KittiCalibration, KittiObject, read_labels, read_velodyne
from pipeline.geometry.plane import Plane, fit_ground_plane

MIN_LIDAR_POINTS = 30
TARGET, NEAR_M = 0.67, 30
UP = np.array([0.0, -1.0, 0.0])
TYPICAL_HWL = {
    "Car": (1.53, 1.63, 3.88),
    "Van": (2.21, 1.90, 5.08),
    "Truck": (3.25, 2.59, 10.11),
    "Pedestrian": (1.76, 0.66, 0.84),
    "Cyclist": (1.74, 0.60, 1.76),
}
"""Means over KITTI's training labels. "Misc" has no typical size and is left out."""


@dataclass(frozen=True)
class Case:
    frame: str
    label: KittiObject
    points_2d: NDArray[np.float64]
    points_3d: NDArray[np.float64]
    ground: Plane | None


def load_cases(folder: Path) -> list[Case]:
    """The objects of kitti_object that have a typical size and enough points, with their points in camera 0's frame."""
    cases = []
    for path in sorted((folder / "label_2").glob("*.txt")):
        calibration = KittiCalibration.read(folder / "calib" / path.name)
        cloud = read_velodyne(folder / "velodyne" / f"{path.stem}.bin")
        points = calibration.velodyne_to_rectified(cloud[:, :3])
        points = points[points[:, 2] > 1]
        u, v = calibration.project(points).T
        ground = fit_ground_plane(points[np.abs(points[:, 0]) < 15], -UP, max_tilt_deg=5, tolerance=0.08)
        for label in read_labels(path):
            if label.type not in TYPICAL_HWL:
                continue
            x1, y1, x2, y2 = label.bbox_xyxy
            in_2d = points[(u >= x1) & (u <= x2) & (v >= y1) & (v <= y2)]
            in_3d = in_2d[inside(in_2d, label.box)]
            if len(in_3d) >= MIN_LIDAR_POINTS:
                cases.append(Case(path.stem, label, in_2d, in_3d, ground))
    return cases


def inside(points: NDArray[np.float64], box: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which points (N, 3) lie in a box (7,) of a level camera."""
    x, y, z, h, w, l, ry = box  # noqa: E741
    dx, dz = points[:, 0] - x, points[:, 2] - z
    along, across = np.cos(ry) * dx - np.sin(ry) * dz, np.sin(ry) * dx + np.cos(ry) * dz
    return (np.abs(along) <= l / 2) & (np.abs(across) <= w / 2) & (points[:, 1] <= y) & (points[:, 1] >= y - h)


def pca_box(points: NDArray[np.float64]) -> Box3D:
    """The baseline: principal axes seen from above, extents of all the points."""
    bev = points[:, (0, 2)]
    centre = bev.mean(axis=0)
    axes = np.linalg.eigh(np.cov((bev - centre).T))[1].T[::-1]
    local = (bev - centre) @ axes.T
    low, high = local.min(axis=0), local.max(axis=0)
    middle = axes.T @ ((low + high) / 2) + centre
    length, width = high - low
    top, bottom = points[:, 1].min(), points[:, 1].max()
    yaw = float(np.arctan2(-axes[0, 1], axes[0, 0]))
    return Box3D(np.array([middle[0], bottom, middle[1]]), (bottom - top, width, length), yaw, len(points))


def ours(points: NDArray[np.float64], case: Case) -> Box3D | None:
    return fit_box(points, UP, TYPICAL_HWL[case.label.type], case.ground)


def iou(box: Box3D | None, case: Case) -> float:
    return 0.0 if box is None else float(iou_3d(box.row, case.label.box)[0, 0])


def errors(box: Box3D, case: Case) -> NDArray[np.float64]:
    """(7,) what is wrong with a box over its sigma. A box looks the same from behind."""
    off = box.row - case.label.box
    off[6] = (off[6] + np.pi / 2) % np.pi - np.pi / 2
    assert box.sigma is not None
    return np.asarray(off / box.sigma)


def main(data: Path) -> int:
    cases = load_cases(data / "kitti_object")
    header = ("2D box, PCA", "2D box, fovea", "GT mask, PCA", "GT mask, fovea")
    print(f"{'frame':<8}{'class':<12}{'z m':>6}{'points':>8}" + "".join(f"{name:>16}" for name in header))
    rows, ratios = [], []
    for case in cases:
        fitted = ours(case.points_3d, case)
        row = [
            iou(box, case)
            for box in (pca_box(case.points_2d), ours(case.points_2d, case), pca_box(case.points_3d), fitted)
        ]
        rows.append(row)
        if fitted is not None:
            ratios.append(errors(fitted, case))
        print(
            f"{case.frame:<8}{case.label.type:<12}{case.label.location[2]:>6.1f}{len(case.points_3d):>8}"
            + "".join(f"{value:>16.2f}" for value in row)
        )
    near = np.array([case.label.location[2] < NEAR_M for case in cases])
    for label, chosen in (("mean 3D IoU", near | ~near), (f"mean 3D IoU under {NEAR_M} m", near)):
        means = np.mean(np.array(rows)[chosen], axis=0)
        print(f"{label:<34}" + "".join(f"{value:>16.3f}" for value in means))
    honest = np.square(ratios)
    names = ("x", "y", "z", "height", "width", "length", "yaw")
    print("squared error over sigma², GT mask (1 is honest): ", end="")
    print(", ".join(f"{name} {value:.1f}" for name, value in zip(names, honest.mean(axis=0), strict=True)), end="")
    print(f"; mean {honest.mean():.2f}, median {np.median(honest):.2f} (0.45 of a normal distribution)")
    reached = means[3] >= TARGET
    print(f"target under {NEAR_M} m with GT masks: {TARGET}: {'reached' if reached else 'NOT reached'}")
    return 0 if reached else 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1] if len(sys.argv) > 1 else os.environ.get("FOVEA_TEST_DATA") or "../shared/data")))
