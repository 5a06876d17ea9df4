import numpy as np
import pytest

from benchmarks.boxes3d import iou, load_cases, ours, pca_box
from pipeline.geometry.box_fit import fit_box
from pipeline.geometry.boxes3d import iou_3d, level_rotation
from pipeline.geometry.plane import Plane

UP = np.array([0.0, -1.0, 0.0])
CAR = (1.5, 1.7, 4.0)
GROUND = Plane(UP, 1.6, 1000)


def visible_surface(box: np.ndarray, count: int = 4000, noise: float = 0.0) -> np.ndarray:
    """Points on the vertical sides of a box (7,) that face a camera at the origin."""
    rng = np.random.default_rng(3)
    x, y, z, h, w, l, ry = box  # noqa: E741
    axes = np.array([[np.cos(ry), 0, -np.sin(ry)], [np.sin(ry), 0, np.cos(ry)]])
    points = []
    for axis, half, other, width in ((0, l / 2, 1, w), (1, w / 2, 0, l)):
        for sign in (-1, 1):
            middle = np.array([x, y, z]) + sign * half * axes[axis]
            if sign * (axes[axis] @ middle) < 0:
                along = rng.uniform(-width / 2, width / 2, count)[:, None] * axes[other]
                points.append(middle + along - rng.uniform(0, h, count)[:, None] * [0, 1, 0])
    cloud = np.concatenate(points)
    return cloud * (1 + rng.normal(0, noise, len(cloud)) * cloud[:, 2])[:, None]


@pytest.mark.parametrize("yaw", [0.0, 0.4, -0.8, 1.2, np.pi / 2])
@pytest.mark.parametrize("x", [-4.0, 0.0, 3.0])
def test_a_car_seen_from_any_side_is_completed_away_from_the_camera(yaw, x):
    truth = np.array([x, 1.6, 12.0, *CAR, yaw])
    box = fit_box(visible_surface(truth), UP, CAR, GROUND)
    assert iou_3d(box.row, truth)[0, 0] > 0.8


def test_background_and_stray_points_in_the_mask_do_not_move_the_box():
    truth = np.array([1.0, 1.6, 10.0, *CAR, 0.5])
    rng = np.random.default_rng(0)
    wall = np.stack([rng.uniform(-1, 3, 3000), rng.uniform(0, 1.6, 3000), np.full(3000, 16.0)], axis=1)
    stray = rng.uniform([0, 0, 6], [2, 1.5, 9], (60, 3))
    box = fit_box(np.concatenate([visible_surface(truth), wall, stray]), UP, CAR, GROUND)
    assert iou_3d(box.row, truth)[0, 0] > 0.75


def test_stereo_noise_is_borne_where_it_is_told():
    truth = np.array([0.5, 1.6, 9.0, *CAR, 0.1])
    points = visible_surface(truth, noise=0.004)
    told = fit_box(points, UP, CAR, GROUND, inverse_depth_noise=0.004)
    untold = fit_box(points, UP, CAR, GROUND)
    assert iou_3d(told.row, truth)[0, 0] > max(0.6, iou_3d(untold.row, truth)[0, 0])


def test_something_standing_in_front_may_divide_the_object():
    truth = np.array([0.0, 1.6, 9.0, *CAR, 0.0])
    points = visible_surface(truth)
    points = points[np.abs(points[:, 0] + 0.6) > 0.4]
    assert iou_3d(fit_box(points, UP, CAR, GROUND).row, truth)[0, 0] > 0.8


def test_the_hidden_feet_of_an_object_stand_on_the_ground():
    truth = np.array([0.0, 1.6, 6.0, 1.7, 0.5, 0.6, 0.0])
    points = visible_surface(truth)
    box = fit_box(points[points[:, 1] < 1.1], UP, (1.7, 0.5, 0.6), GROUND)
    assert box.location[1] == pytest.approx(1.6)
    assert box.dimensions_hwl[0] == pytest.approx(1.7, abs=0.05)


def test_a_thing_high_above_the_ground_stays_there():
    truth = np.array([0.0, -1.0, 6.0, 0.5, 0.5, 0.5, 0.0])
    box = fit_box(visible_surface(truth), UP, (0.5, 0.5, 0.5), GROUND)
    assert box.location[1] == pytest.approx(-1.0, abs=0.05)


def test_a_tilted_camera_gets_the_box_of_a_level_one_turned():
    truth = np.array([1.0, 1.6, 8.0, *CAR, 0.6])
    points = visible_surface(truth)
    down = np.array([0.0, np.cos(0.45), np.sin(0.45)])
    to_camera = level_rotation(down).T
    level = fit_box(points, UP, CAR, GROUND)
    tilted = fit_box(points @ to_camera.T, -down, CAR, Plane(to_camera @ UP, 1.6, 1000))
    assert to_camera.T @ tilted.location == pytest.approx(level.location, abs=0.02)
    assert tilted.rotation_y == pytest.approx(level.rotation_y, abs=0.01)
    assert tilted.dimensions_hwl == pytest.approx(level.dimensions_hwl, abs=0.02)


def test_without_a_typical_size_the_box_is_what_was_seen():
    truth = np.array([0.0, 1.0, 5.0, 0.8, 0.6, 1.2, 0.3])
    box = fit_box(visible_surface(truth), UP)
    assert iou_3d(box.row, truth)[0, 0] > 0.8


@pytest.mark.parametrize(
    "points", [np.empty((0, 3)), np.full((50, 3), np.nan), np.random.default_rng(0).random((5, 3))]
)
def test_too_few_points_give_no_box(points):
    assert fit_box(points, UP, CAR) is None


def test_kitti_objects_reach_their_labels_from_lidar_depth(data_folder):
    cases = load_cases(data_folder / "kitti_object")
    assert len(cases) >= 10
    perfect_mask = np.mean([iou(ours(case.points_3d, case), case) for case in cases])
    only_2d_box = np.mean([iou(ours(case.points_2d, case), case) for case in cases])
    baseline = np.mean([iou(pca_box(case.points_2d), case) for case in cases])
    assert perfect_mask >= 0.65
    assert only_2d_box >= 0.5 > 5 * baseline


@pytest.mark.parametrize("side", [-1, 1])
def test_what_something_in_front_hides_is_completed_on_that_side(side):
    box = np.array([0.0, 1.6, 9.0, 1.5, 1.7, 4.1, 0.0])
    points = visible_surface(box)
    seen = points[points[:, 0] * side < 0.7]  # a third of it is hidden
    blind, told = (
        fit_box(seen, UP, tuple(box[3:6]), GROUND, cut=cut) for cut in ((False, False), (side < 0, side > 0))
    )
    assert abs(told.location[0]) < 0.25 < 0.5 < abs(blind.location[0])
    assert iou_3d(told.row, box)[0, 0] > 1.3 * iou_3d(blind.row, box)[0, 0]
