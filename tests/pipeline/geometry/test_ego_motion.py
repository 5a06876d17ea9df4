import cv2
import numpy as np
import pytest

from pipeline.geometry.ego_motion import camera_motion
from pipeline.recordings.stereo_images import StereoImagesRecording
from pipeline.stereo.camera import RectifiedCamera
from pipeline.stereo.matching import SemiGlobalMatcher, disparity_to_depth
from pipeline.stereo.rectification import Rectifier

CAMERA = RectifiedCamera(320, 240, 260.0, 260.0, 160.0, 120.0, baseline=0.12, metric=True)


def wall(rotation: np.ndarray, translation: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Picture and depth of a blotchy slope as seen after the camera moved: X_after = R X_before + t."""
    rng = np.random.default_rng(5)
    texture = cv2.GaussianBlur(rng.integers(0, 256, (600, 600)).astype(np.uint8), (0, 0), 2.0)
    texture = cv2.normalize(texture, None, 0, 255, cv2.NORM_MINMAX)
    v, u = np.mgrid[: CAMERA.height, : CAMERA.width]
    rays = np.stack([(u - CAMERA.cx) / CAMERA.fx, (v - CAMERA.cy) / CAMERA.fy, np.ones(u.shape)], axis=-1)
    normal, offset = np.array([0.3, -0.2, 1.0]), 5.0  # of the plane, before
    turned, shift = rays @ rotation, -translation @ rotation  # X_before = turned · scale + shift
    scale = (offset - shift @ normal) / (turned @ normal)
    points = turned * scale[..., None] + shift
    at = ((points[..., :2] + 6) * 50).astype(np.float32)
    picture = cv2.remap(texture, at[..., 0], at[..., 1], cv2.INTER_LINEAR)
    return picture, (rays[..., 2] * scale).astype(np.float32)


def test_a_known_motion_is_found():
    rotation = cv2.Rodrigues(np.array([0.01, -0.03, 0.005]))[0]
    translation = np.array([0.05, -0.02, -0.12])
    (before, depth), (after, _) = wall(np.eye(3), np.zeros(3)), wall(rotation, translation)
    motion = camera_motion(before, after, depth, CAMERA)
    assert motion is not None
    assert motion.inliers > 100
    assert np.degrees(np.linalg.norm(cv2.Rodrigues(motion.rotation @ rotation.T)[0])) < 0.05
    assert motion.translation == pytest.approx(translation, abs=0.01)


def test_what_moves_of_itself_does_not_count_where_it_is_known_to():
    translation = np.array([0.0, 0.0, -0.1])
    (before, depth), (after, _) = wall(np.eye(3), np.zeros(3)), wall(np.eye(3), translation)
    half = np.zeros(before.shape, bool)
    half[:, :190] = True
    after[:, :190] = np.roll(before, 6, axis=1)[:, :190]  # three fifths of the picture slide to the right
    motion = camera_motion(before, after, depth, CAMERA, half)
    assert motion is not None
    assert motion.translation == pytest.approx(translation, abs=0.02)


@pytest.mark.parametrize("case", ["black", "no depth", "another picture"])
def test_where_too_little_agrees_there_is_no_motion(case):
    before, depth = wall(np.eye(3), np.zeros(3))
    after = before.copy()
    if case == "black":
        before[:] = 0
    if case == "no depth":
        depth[:] = np.nan
    if case == "another picture":
        after = np.random.default_rng(0).integers(0, 256, before.shape).astype(np.uint8)
    assert camera_motion(before, after, depth, CAMERA) is None


def test_on_a_real_road_the_motion_there_and_the_motion_back_cancel(data_folder):
    with StereoImagesRecording(data_folder / "kitti_vo00") as recording:
        rectifier = Rectifier(recording.calibration)
        pairs = [rectifier.rectify(frame.left, frame.right) for frame in recording.frames([0, 1])]
    camera, matcher = rectifier.camera, SemiGlobalMatcher.for_camera(rectifier.camera)
    grey = [cv2.cvtColor(left, cv2.COLOR_BGR2GRAY) for left, _ in pairs]
    depth = [disparity_to_depth(matcher.match(*pair), camera) for pair in pairs]
    there, back = camera_motion(*grey, depth[0], camera), camera_motion(*grey[::-1], depth[1], camera)
    assert there is not None
    assert back is not None
    assert there.translation[2] < -0.5  # the car drives ahead: what stands still comes nearer
    assert back.rotation @ there.translation + back.translation == pytest.approx(np.zeros(3), abs=0.03)
    assert back.rotation @ there.rotation == pytest.approx(np.eye(3), abs=0.001)
