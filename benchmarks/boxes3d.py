"""3D boxes against ground truth, beside boxes by principal components: KITTI's LiDAR, and stereo of the simulation.

    python -m benchmarks.boxes3d [FOLDER]

FOLDER (default: FOVEA_TEST_DATA or ../shared/data) holds kitti_object. There are no instance masks in KITTI, so two
stand-ins are scored: "2D box": all LiDAR points that project into the labelled 2D box (background included: the fit
must find the object itself), and "GT mask": of these, the points inside the labelled 3D box, which is what a perfect
mask with a perfect depth would give. Objects with at least MIN_LIDAR_POINTS points are counted.

The second table has true masks and the depth our matcher finds: frames of the simulated recording, rendered here.
"""

import os
import sys
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.geometry.box_fit import Box3D, fit_box
from pipeline.geometry.boxes3d import iou_3d, level_rotation
from pipeline.geometry.kitti import KittiCalibration, KittiObject, read_labels, read_velodyne
from pipeline.geometry.own_pixels import without_rim
from pipeline.geometry.plane import Plane, fit_ground_plane
from pipeline.geometry.pointcloud import back_project
from pipeline.simulation.recording import CLASSES, FPS, _Camera
from pipeline.simulation.render import Stage
from pipeline.stereo.matching import SemiGlobalMatcher, disparity_to_depth

MIN_LIDAR_POINTS = 30
MIN_VISIBLE_PIXELS = 300
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


def score_kitti(data: Path) -> None:
    cases = load_cases(data / "kitti_object")
    header = ("2D box, PCA", "2D box, fovea", "GT mask, PCA", "GT mask, fovea")
    print(f"{'frame':<8}{'class':<12}{'z m':>6}{'points':>8}" + "".join(f"{name:>16}" for name in header))
    rows = []
    for case in cases:
        row = [
            iou(box, case)
            for points in (case.points_2d, case.points_3d)
            for box in (pca_box(points), ours(points, case))
        ]
        rows.append(row)
        print(
            f"{case.frame:<8}{case.label.type:<12}{case.label.location[2]:>6.1f}{len(case.points_3d):>8}"
            + "".join(f"{value:>16.2f}" for value in row)
        )
    means = np.mean(rows, axis=0)
    print(f"{'mean 3D IoU':<34}" + "".join(f"{value:>16.3f}" for value in means))
    print(f"ratio to PCA: {means[1] / means[0]:.2f} (2D box), {means[3] / means[2]:.2f} (GT mask)")


def score_simulation(frames: tuple[int, ...] = (0, 12, 24, 36, 48, 60), resolution: str = "VGA") -> None:
    """True masks, depth by semi-global matching: what reconstruction does with a perfect segmenter."""
    film = _Camera(7, resolution)
    camera, typical = film.rectifier.camera, {item.id: item.typical_size_hwl for item in CLASSES}
    matcher, per_pixel = SemiGlobalMatcher.for_camera(camera), 1 / (camera.fx * (camera.baseline or 1))
    rows: dict[str, list[tuple[float, float]]] = {}
    for index in frames:
        left, right, truth = film.film(index)
        axes, centre = film.scene.rig_pose(index / FPS)
        instances = Stage(film.scene, index / FPS).picture(film.eyes[0], axes, centre).instances
        instances = cv2.remap(instances, *film.maps, interpolation=cv2.INTER_NEAREST)
        depth = disparity_to_depth(matcher.match(*film.rectifier.rectify(left, right)), camera)
        down = np.array(truth["gravity"])
        level = level_rotation(down)
        ground = fit_ground_plane(back_project(depth, camera, stride=4), down, inverse_depth_noise=0.5 * per_pixel)
        for item in truth["objects"]:
            mask = instances == item["object_id"]
            points = back_project(depth, camera, without_rim(mask)[0])
            if item["visible_pixels"] < MIN_VISIBLE_PIXELS or len(points) < MIN_LIDAR_POINTS:
                continue
            true = np.array(item["box"])
            true[:3] = level @ true[:3]
            simple = pca_box(points @ level.T)
            fitted = fit_box(points, -down, typical[item["class_id"]], ground, inverse_depth_noise=0.2 * per_pixel)
            row = None if fitted is None else fitted.row
            if row is not None:
                row[:3] = level @ row[:3]
            pair = (
                float(iou_3d(simple.row, true)[0, 0]),
                0.0 if row is None else float(iou_3d(row, true)[0, 0]),
            )
            rows.setdefault(item["class_name"], []).append(pair)
    print(f"\n{'simulation, ' + resolution:<20}{'objects':>8}{'PCA':>8}{'fovea':>8}")
    for name, pairs in sorted(rows.items()):
        print(f"{name:<20}{len(pairs):>8}" + "".join(f"{value:>8.2f}" for value in np.mean(pairs, axis=0)))
    everything = np.array([pair for pairs in rows.values() for pair in pairs])
    print(f"{'mean 3D IoU':<20}{len(everything):>8}" + "".join(f"{value:>8.3f}" for value in everything.mean(axis=0)))


def main(data: Path) -> None:
    score_kitti(data)
    score_simulation()


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else os.environ.get("FOVEA_TEST_DATA") or "../shared/data"))
