import numpy as np
import pytest

from benchmarks.boxes3d import errors, load_cases, ours
from pipeline.geometry.box_sigma import box_sigma

CAR = (1.5, 1.8, 4.2)


def sigma(yaw: float = 0.0, centre=(0.0, 10.0), seen=(True, True), **changed) -> np.ndarray:
    settings = {
        "typical_known": True,
        "rounded": False,
        "inverse_depth_noise": 0.005,
        "pixel": 0.003,
        "cut": (False, False),
    }
    return box_sigma(CAR, yaw, np.array(centre), seen, **(settings | changed))


def test_depth_is_less_certain_than_direction_and_the_more_so_the_farther():
    near, far = sigma(centre=(0.0, 4.0)), sigma(centre=(0.0, 16.0))
    assert near[2] < far[2] / 3
    assert far[0] < far[2] / 2


def test_a_side_that_was_not_seen_is_as_uncertain_as_its_class_and_shifts_the_centre():
    # At yaw 0 the length lies across the ray, the width along it.
    seen, hidden = sigma(inverse_depth_noise=0.0), sigma(seen=(False, True), inverse_depth_noise=0.0)
    assert hidden[4] == pytest.approx(0.13 * CAR[1])
    assert seen[4] < hidden[4] / 1.5
    assert hidden[2] > 1.3 * seen[2]
    assert hidden[5] == seen[5]


def test_of_what_has_no_typical_size_the_hidden_side_may_be_anything():
    assert sigma(seen=(False, True), typical_known=False)[4] > 2 * sigma(seen=(False, True))[4]


def test_what_is_cut_off_may_stand_farther_to_the_side():
    assert sigma(cut=(False, True), seen=(False, False))[0] > 1.5 * sigma(seen=(False, False))[0]


def test_a_person_may_face_anywhere_a_car_seen_whole_may_not():
    assert sigma(rounded=True)[6] > 0.8
    assert sigma(centre=(0.0, 5.0))[6] < 0.1


def test_on_kitti_the_errors_are_about_as_large_as_sigma_says(data_folder):
    cases = load_cases(data_folder / "kitti_object")
    ratios = [errors(box, case) for case in cases if (box := ours(case.points_3d, case)) is not None]
    assert len(ratios) >= 9
    assert 0.3 < np.square(ratios).mean() < 2
