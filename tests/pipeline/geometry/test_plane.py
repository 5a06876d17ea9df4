import numpy as np
import pytest

from pipeline.geometry.plane import angle_between_deg, fit_ground_plane

DOWN = np.array([0.0, 1.0, 0.0])


def scene(tilt: float = 0.0, noise: float = 0.01, clutter: int = 2000) -> np.ndarray:
    rng = np.random.default_rng(5)
    x, z = rng.uniform(-4, 4, 6000), rng.uniform(2, 9, 6000)
    ground = np.stack([x, 1.5 + np.tan(tilt) * z + rng.normal(0, noise, 6000), z], axis=1)
    things = rng.uniform([-4, -1.5, 2], [4, 1.4, 9], (clutter, 3))
    return np.concatenate([ground, things])


@pytest.mark.parametrize("tilt", [0.0, 0.05, -0.1])
@pytest.mark.parametrize("gravity", [DOWN, None])
def test_the_ground_is_found_among_clutter(tilt, gravity):
    plane = fit_ground_plane(scene(tilt), gravity)
    truth = np.array([0, -np.cos(tilt), np.sin(tilt)])
    assert angle_between_deg(plane.normal, truth) < 0.2
    assert plane.offset == pytest.approx(1.5 * np.cos(tilt), abs=0.01)
    assert plane.inliers > 5000
    assert plane.height(np.array([0.0, 0.5, 5.0])) == pytest.approx(truth @ [0, 0.5, 5] + 1.5 * np.cos(tilt), abs=0.02)


def test_noise_that_grows_with_distance_is_borne_where_it_is_told():
    rng = np.random.default_rng(2)
    points = scene(clutter=500)
    points *= (1 / (1 + rng.normal(0, 0.008, len(points)) * points[:, 2]))[:, None]  # 1/z off by 0.008 1/m
    plane = fit_ground_plane(points, DOWN, inverse_depth_noise=0.008)
    assert angle_between_deg(plane.normal, -DOWN) < 0.5


def test_a_table_loses_to_the_floor_around_it_and_a_wall_is_no_ground():
    rng = np.random.default_rng(1)
    table = np.stack([rng.uniform(-1, 1, 1500), np.full(1500, 0.7), rng.uniform(2, 3, 1500)], axis=1)
    assert fit_ground_plane(np.concatenate([scene(clutter=0), table]), DOWN).offset == pytest.approx(1.5, abs=0.02)
    wall = np.stack([rng.uniform(-3, 3, 3000), rng.uniform(-2, 2, 3000), np.full(3000, 5.0)], axis=1)
    assert fit_ground_plane(wall, DOWN) is None


@pytest.mark.parametrize("points", [np.empty((0, 3)), np.full((1000, 3), np.nan), np.zeros((1000, 3)), np.ones((5, 3))])
def test_points_without_a_plane_give_none(points):
    assert fit_ground_plane(points, DOWN) is None


def test_the_same_points_give_the_same_plane():
    first, second = (fit_ground_plane(scene(), DOWN) for _ in range(2))
    assert first.normal.tobytes() == second.normal.tobytes()
