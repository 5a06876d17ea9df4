import cv2
import numpy as np
import pytest

from pipeline.geometry.boxes3d import box_corners
from pipeline.simulation.render import Eye, Stage
from pipeline.simulation.scene import CAMERA_HEIGHT, Scene, street_corner
from pipeline.stereo.calibration import CameraIntrinsics

CAMERA = CameraIntrinsics(336, 188, 168.0, 168.0, 167.5, 93.5)
LEVEL = np.eye(3), np.array([0.0, -CAMERA_HEIGHT, 0.0])


@pytest.fixture(scope="module")
def stage():
    return Stage(street_corner(), 2.0)


def test_the_ground_has_exactly_the_depth_of_a_plane():
    picture = Stage(Scene(7, ()), 0.0).picture(Eye.of(CAMERA), *LEVEL)
    v = np.arange(100, 188)
    expected = CAMERA_HEIGHT * CAMERA.fy / (v - CAMERA.cy)
    assert np.allclose(picture.depth[100:, 40], expected, rtol=1e-4)
    assert np.isinf(picture.depth[:80]).all()


def test_what_an_instance_shows_lies_in_its_box(stage):
    scene = street_corner()
    picture = stage.picture(Eye.of(CAMERA), *LEVEL, smooth=False)
    v, u = np.mgrid[: CAMERA.height, : CAMERA.width]
    rays = np.stack([(u - CAMERA.cx) / CAMERA.fx, (v - CAMERA.cy) / CAMERA.fy, np.ones_like(u)], axis=2)
    seen = 0
    for actor in scene.actors:
        mask = picture.instances == actor.id
        if not mask.any():
            continue
        seen += 1
        points = (rays * picture.depth[..., None])[mask] + LEVEL[1]
        x, z, heading = actor.path.at(2.0)
        c, s = np.cos(heading), np.sin(heading)
        local = (points - [x, 0, z]) @ np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])
        h, w, length = actor.size_hwl
        slack = 0.2 if actor.class_name == "person" else 0.02
        assert np.abs(local[:, 0]).max() < length / 2 + slack
        assert np.abs(local[:, 2]).max() < w / 2 + slack
        assert -h - slack < local[:, 1].min()
        assert local[:, 1].max() < 0.02
    assert seen >= 6


def test_both_eyes_see_the_same_surfaces(stage):
    baseline = 0.12
    eye = Eye.of(CAMERA)
    left = stage.picture(eye, *LEVEL, smooth=False)
    right = stage.picture(eye, LEVEL[0], LEVEL[1] + [baseline, 0, 0], smooth=False)
    v, u = np.mgrid[: CAMERA.height, : CAMERA.width].astype(np.float32)
    disparity = np.where(np.isfinite(left.depth), CAMERA.fx * baseline / left.depth, 0).astype(np.float32)
    warped = cv2.remap(right.image, u - disparity, v, cv2.INTER_LINEAR).astype(int)
    other_depth = cv2.remap(right.depth, u - disparity, v, cv2.INTER_NEAREST)
    both = (
        np.isfinite(left.depth)
        & (np.abs(other_depth - np.minimum(left.depth, 999)) < 0.02 * left.depth)
        & (u - disparity > 0)
    )
    assert both.mean() > 0.6
    assert np.abs(warped - left.image)[both].mean() < 6


def test_a_lens_bends_the_rays_as_its_distortion_says():
    lens = CameraIntrinsics(336, 188, 168.0, 168.0, 167.5, 93.5, (-0.17, 0.026, 0.0004, -0.0003, 0.0))
    directions = Eye.of(lens).directions[::20, ::20].reshape(-1, 3).astype(np.float64)
    shown, _ = cv2.projectPoints(directions, np.zeros(3), np.zeros(3), lens.matrix, np.array(lens.distortion))
    v, u = np.mgrid[: lens.height : 20, : lens.width : 20]
    assert np.abs(shown[:, 0] - np.stack([u.ravel(), v.ravel()], axis=1)).max() < 0.01


def test_the_same_moment_gives_the_same_picture(stage):
    eye = Eye.of(CAMERA)
    again = Stage(street_corner(), 2.0).picture(eye, *LEVEL)
    assert np.array_equal(stage.picture(eye, *LEVEL).image, again.image)


def test_there_is_texture_for_matching_nearly_everywhere_below_the_sky(stage):
    picture = stage.picture(Eye.of(CAMERA), *LEVEL)
    grey = cv2.cvtColor(picture.image, cv2.COLOR_BGR2GRAY).astype(np.float32)
    gradient = cv2.blur(np.abs(cv2.Sobel(grey, cv2.CV_32F, 1, 0)), (7, 7))
    assert (gradient[np.isfinite(picture.depth)] > 2).mean() > 0.97


def test_boxes_of_the_truth_surround_what_is_seen(stage):
    picture = stage.picture(Eye.of(CAMERA), *LEVEL, smooth=False)
    for actor in street_corner().actors:
        rows, columns = np.nonzero(picture.instances == actor.id)
        if not rows.size:
            continue
        x, z, heading = actor.path.at(2.0)
        corners = box_corners(np.array([[x, CAMERA_HEIGHT, z, *actor.size_hwl, heading]]))[0]
        pixels = corners @ CAMERA.matrix.T
        pixels = pixels[:, :2] / pixels[:, 2:]
        slack = 6
        assert pixels[:, 0].min() - slack < columns.min()
        assert columns.max() < pixels[:, 0].max() + slack
        assert pixels[:, 1].min() - slack < rows.min()
        assert rows.max() < pixels[:, 1].max() + slack
