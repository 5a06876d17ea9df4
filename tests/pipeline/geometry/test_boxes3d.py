import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.geometry.boxes3d import alpha_of, bev_iou, box_corners, iou_3d, level_rotation, project_boxes, wrap_angle

UNIT = np.array([0.0, 0.0, 10.0, 1.0, 1.0, 1.0, 0.0])
K = np.array([[500.0, 0, 320], [0, 500, 240], [0, 0, 1]])
boxes = st.tuples(
    *(st.floats(-3, 3) for _ in range(3)), *(st.floats(0.2, 4) for _ in range(3)), st.floats(-np.pi, np.pi)
).map(np.array)


def moved(*changes: float) -> np.ndarray:
    return UNIT + np.array(changes)


@pytest.mark.parametrize(
    ("other", "bev", "volume"),
    [
        (UNIT, 1.0, 1.0),
        (moved(0.5, 0, 0, 0, 0, 0, 0), 1 / 3, 1 / 3),
        (moved(0, 0.5, 0, 0, 0, 0, 0), 1.0, 1 / 3),
        (moved(0, 0, 0, 0, 0, 0, np.pi / 2), 1.0, 1.0),
        (moved(0, 0, 0, 0, 0, 0, np.pi / 4), 2 * (np.sqrt(2) - 1) / (2 - 2 * (np.sqrt(2) - 1)), None),
        (moved(2.0, 0, 0, 0, 0, 0, 0), 0.0, 0.0),
        (moved(1.0, 0, 0, 0, 0, 0, 0), 0.0, 0.0),
        (np.array([0, 0, 10, 1, 0.5, 0.5, 0.3]), 0.25, 0.25),
    ],
)
def test_overlaps_are_those_of_plane_geometry(other, bev, volume):
    assert bev_iou(UNIT, other)[0, 0] == pytest.approx(bev, abs=1e-9)
    if volume is not None:
        assert iou_3d(UNIT, other)[0, 0] == pytest.approx(volume, abs=1e-9)


def test_no_boxes_have_an_empty_overlap():
    assert iou_3d(np.empty((0, 7)), UNIT).shape == (0, 1)
    assert iou_3d(UNIT, np.empty((0, 7))).shape == (1, 0)


@settings(max_examples=60, deadline=None)
@given(boxes, boxes)
def test_overlap_agrees_with_counting_random_points(a, b):
    rng = np.random.default_rng(0)
    points = rng.uniform(-6, 6, (20_000, 2))

    def inside(box):
        dx, dz = points[:, 0] - box[0], points[:, 1] - box[2]
        along = np.cos(box[6]) * dx - np.sin(box[6]) * dz
        across = np.sin(box[6]) * dx + np.cos(box[6]) * dz
        return (np.abs(along) <= box[5] / 2) & (np.abs(across) <= box[4] / 2)

    both, any_ = (inside(a) & inside(b)).sum(), (inside(a) | inside(b)).sum()
    if any_ > 400:
        assert bev_iou(a, b)[0, 0] == pytest.approx(both / any_, abs=0.12)
    assert bev_iou(a, b)[0, 0] == pytest.approx(bev_iou(b, a)[0, 0], abs=1e-9)
    assert 0 <= iou_3d(a, b)[0, 0] <= 1 + 1e-9


def test_corners_follow_kitti_length_along_x_and_a_positive_turn_towards_minus_z():
    corners = box_corners(np.array([0, 2.0, 5.0, 1.5, 1.0, 4.0, np.pi / 2]))[0]
    assert corners[:4, 1] == pytest.approx(2.0)
    assert corners[4:, 1] == pytest.approx(0.5)
    assert corners[0] == pytest.approx([0.5, 2.0, 3.0])  # the front right corner of an unturned box is (2, 2, 5.5)


def test_a_box_on_a_tilted_camera_stands_along_gravity():
    down = np.array([0.0, np.cos(0.4), np.sin(0.4)])
    corners = box_corners(UNIT, down)[0]
    assert corners[4:].mean(axis=0) - corners[:4].mean(axis=0) == pytest.approx(-down)


@pytest.mark.parametrize("down", [None, [0, 1, 0], [0.3, 0.8, 0.4], [0, -1, 0], [1, 0, 0]])
def test_levelling_is_a_rotation_that_takes_down_to_plus_y(down):
    rotation = level_rotation(None if down is None else np.array(down, float))
    assert rotation @ rotation.T == pytest.approx(np.eye(3), abs=1e-12)
    assert np.linalg.det(rotation) == pytest.approx(1)
    if down is not None:
        assert rotation @ np.array(down, float) == pytest.approx([0, np.linalg.norm(down), 0], abs=1e-12)


def test_projection_is_clipped_to_the_image_and_survives_boxes_behind_the_camera():
    clipped, whole = project_boxes(
        np.array(
            [[0, 0.5, 10, 1, 1, 1, 0], [-6, 0.5, 10, 1, 1, 1, 0], [0, 0.5, 0, 1, 1, 1, 0], [0, 0, -9, 1, 1, 1, 0]]
        ),
        K,
        (640, 480),
    )
    assert clipped[0] == pytest.approx([320 - 250 / 9.5, 240 - 250 / 9.5, 320 + 250 / 9.5, 240 + 250 / 9.5])
    assert whole[1, 0] < 0 == clipped[1, 0]
    assert np.isfinite(whole[2]).all()
    assert np.isnan(whole[3]).all()


def test_alpha_is_the_turn_relative_to_the_ray():
    assert alpha_of(0.3, [0.0, 0.0, 5.0]) == pytest.approx(0.3)
    assert alpha_of(0.0, [5.0, 0.0, 5.0]) == pytest.approx(-np.pi / 4)
    assert -np.pi <= wrap_angle(7.0) < np.pi
