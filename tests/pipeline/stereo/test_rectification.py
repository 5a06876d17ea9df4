import cv2
import numpy as np
import pytest

from pipeline.errors import CalibrationError
from pipeline.stereo.calibration import CameraIntrinsics, StereoCalibration
from pipeline.stereo.rectification import Rectifier

EYE = CameraIntrinsics(640, 480, 400.0, 400.0, 320.0, 240.0)
TURN = cv2.Rodrigues(np.array([0.01, -0.02, 0.005]))[0]


def rig(**changes) -> StereoCalibration:
    values = {"left": EYE, "right": EYE, "translation": (-0.12, 0.001, 0.0), "source": "rig.conf"}
    return StereoCalibration(**(values | changes))


def project(eye: CameraIntrinsics, points: np.ndarray) -> np.ndarray:
    pixels, _ = cv2.projectPoints(points, np.zeros(3), np.zeros(3), eye.matrix, np.array(eye.distortion or (0.0,) * 5))
    return pixels.reshape(-1, 2)


def test_a_point_falls_on_the_same_row_in_both_rectified_eyes_at_the_disparity_of_its_depth():
    bent = CameraIntrinsics(640, 480, 400.0, 401.0, 322.0, 238.0, (-0.1, 0.02, 0.001, -0.0005, 0.0))
    calibration = rig(left=bent, right=EYE, rotation=tuple(TURN.ravel()))
    rectifier = Rectifier(calibration)
    points = np.array([[0.1, -0.2, 2.0], [-0.5, 0.3, 3.0], [0.4, 0.1, 5.0]])
    seen_left = points @ rectifier.rotation_left.T
    camera = rectifier.camera
    rows = camera.fy * seen_left[:, 1] / seen_left[:, 2] + camera.cy
    columns = camera.fx * seen_left[:, 0] / seen_left[:, 2] + camera.cx
    for point, row, column in zip(points, rows, columns, strict=True):
        left = _spot(calibration.left, point)
        right = _spot(calibration.right, calibration.rotation_matrix @ point + np.array(calibration.translation))
        found_left, found_right = (_centre(image) for image in rectifier.rectify(left, right))
        depth = (rectifier.rotation_left @ point)[2]
        assert found_left == pytest.approx((column, row), abs=0.3)
        assert found_right[1] == pytest.approx(found_left[1], abs=0.2)
        assert found_left[0] - found_right[0] == pytest.approx(camera.fx * camera.baseline / depth, abs=0.3)


def test_a_rectified_pair_is_not_touched():
    rectifier = Rectifier(rig(translation=(-0.54, 0.0, 0.0), rectified=True))
    image = np.random.default_rng(0).integers(0, 255, (480, 640, 3), dtype=np.uint8)
    left, right = rectifier.rectify(image, image)
    assert left is image
    assert right is image
    assert (rectifier.camera.fx, rectifier.camera.baseline) == (400.0, 0.54)
    assert np.array_equal(rectifier.rotation_left, np.eye(3))


def test_rectified_images_have_no_black_borders():
    rectifier = Rectifier(rig(rotation=tuple(TURN.ravel())))
    white = np.full((480, 640), 255, np.uint8)
    assert all((image > 0).mean() > 0.999 for image in rectifier.rectify(white, white))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"translation": (0.12, 0.0, 0.0)}, "swap the two eyes"),
        ({"translation": (0.0, 0.0, 0.0)}, "baseline is 0.0 m"),
        ({"translation": (-0.1, 0.1, 0.0)}, "above each other"),
        ({"translation": (float("nan"), 0.0, 0.0)}, "baseline is nan"),
        ({"right": CameraIntrinsics(320, 240, 200.0, 200.0, 160.0, 120.0)}, "different resolutions"),
    ],
)
def test_a_rig_that_cannot_be_matched_is_refused_with_its_source_named(changes, words):
    with pytest.raises(CalibrationError, match=rf"rig\.conf: .*{words}"):
        Rectifier(rig(**changes))


def test_an_image_of_another_size_is_refused():
    image = np.zeros((240, 320), np.uint8)
    with pytest.raises(CalibrationError, match="320×240, the calibration is for 640×480"):
        Rectifier(rig()).rectify(image, image)


def _spot(eye: CameraIntrinsics, point: np.ndarray) -> np.ndarray:
    u, v = project(eye, point[None])[0]
    y, x = np.mgrid[: eye.height, : eye.width]
    return (255 * np.exp(-((x - u) ** 2 + (y - v) ** 2) / 8)).astype(np.uint8)


def _centre(image: np.ndarray) -> tuple[float, float]:
    weights = image.astype(float)
    y, x = np.mgrid[: image.shape[0], : image.shape[1]]
    return (x * weights).sum() / weights.sum(), (y * weights).sum() / weights.sum()
