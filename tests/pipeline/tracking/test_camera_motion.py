import cv2
import numpy as np
import pytest

from pipeline.tracking import kalman_filter as kalman
from pipeline.tracking.camera_motion import CameraMotion, from_rotation, moved_boxes


@pytest.fixture(scope="module")
def street_photo(data_folder):
    image = cv2.imread(str(data_folder / "mot17_frcnn" / "MOT17-09-FRCNN" / "img1" / "000001.jpg"))
    assert image is not None
    return image


def turned(image, degrees: float, zoom: float, shift: tuple[float, float]):
    """The image as a camera sees it that rolled, came nearer and swung; and the homography of that."""
    height, width = image.shape[:2]
    affine = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, zoom)
    affine[:, 2] += shift
    return cv2.warpAffine(image, affine, (width, height), borderMode=cv2.BORDER_REFLECT), np.vstack([affine, [0, 0, 1]])


def corners_apart(found, expected, image) -> float:
    """Greatest distance in pixels that the two homographies bring between them to a corner of the image."""
    height, width = image.shape[:2]
    corners = np.array([[0, 0, 1], [width, 0, 1], [0, height, 1], [width, height, 1]], float).T
    a, b = found @ corners, expected @ corners
    return float(np.hypot(*(a[:2] / a[2] - b[:2] / b[2])).max())


@pytest.mark.parametrize(
    ("degrees", "zoom", "shift"), [(0, 1, (0, 0)), (0, 1, (31.4, -12.7)), (1.5, 1.02, (-20, 8)), (-3, 0.97, (5, 5))]
)
def test_the_motion_of_a_real_picture_is_found_to_a_pixel_and_a_half(street_photo, degrees, zoom, shift):
    after, expected = turned(street_photo, degrees, zoom, shift)
    camera = CameraMotion()
    assert camera.update(street_photo).tolist() == np.eye(3).tolist()
    assert corners_apart(camera.update(after), expected, street_photo) < 1.5


def test_objects_that_move_on_their_own_are_left_out(street_photo):
    after, expected = turned(street_photo, 0, 1, (12, 4))
    height, width = street_photo.shape[:2]
    box = [0, 0, int(0.8 * width), height]
    # Most of the picture is an object that goes the other way.
    after[box[1] : box[3], box[0] : box[2]] = turned(street_photo, 0, 1, (-30, 0))[0][box[1] : box[3], box[0] : box[2]]
    blind, told = CameraMotion(), CameraMotion()
    blind.update(street_photo)
    told.update(street_photo)
    assert corners_apart(blind.update(after), expected, street_photo) > 20
    assert corners_apart(told.update(after, [box]), expected, street_photo) < 1.5


def test_where_nothing_is_to_be_seen_the_camera_is_taken_to_stand_still():
    camera = CameraMotion()
    noise = np.random.default_rng(0).integers(0, 255, (120, 160, 3), np.uint8)
    for image in (
        np.zeros((120, 160, 3), np.uint8),
        np.zeros((120, 160), np.uint8),
        noise,
        np.zeros((60, 80), np.uint8),
    ):
        assert camera.update(image).tolist() == np.eye(3).tolist()


def test_the_same_frames_give_the_same_motion(street_photo):
    after, _ = turned(street_photo, 1, 1.01, (9, -7))
    found = []
    for _ in range(2):
        camera = CameraMotion()
        camera.update(street_photo)
        found.append(camera.update(after).tobytes())
    assert found[0] == found[1]


def test_a_camera_that_turns_moves_far_points_as_its_rotation_says():
    matrix = np.array([[700.0, 0, 640], [0, 710, 360], [0, 0, 1]])
    rotation, _ = cv2.Rodrigues(np.array([0.01, -0.03, 0.02]))
    point = np.array([0.3, -0.2, 1.0])
    before, after = matrix @ point, matrix @ rotation @ point
    carried = from_rotation(rotation, matrix) @ (before / before[2])
    np.testing.assert_allclose(carried / carried[2], after / after[2])


def test_boxes_are_carried_with_place_size_velocity_and_uncertainty():
    noise = kalman.BoxNoise()
    state = kalman.initiate(np.array([[100.0, 50, 0.5, 40], [200, 80, 0.5, 60]]), noise)
    state[kalman.VELOCITY, :, 0] = 3
    # A quarter turn and twice the size.
    homography = np.array([[0, -2.0, 7], [2, 0, 9], [0, 0, 1]])
    moved = moved_boxes(state, homography)
    np.testing.assert_allclose(moved[kalman.POSITION], [[-93, 209, 0.5, 80], [-153, 409, 0.5, 120]])
    np.testing.assert_allclose(moved[kalman.VELOCITY, :, :2], [[0, 6], [0, 6]], atol=1e-12)
    np.testing.assert_allclose(moved[kalman.PP, :, 0], 4 * state[kalman.PP, :, 0])
    assert moved_boxes(state[:, :0], homography).shape == (5, 0, 4)
