import numpy as np
import pytest

from pipeline.geometry.boxes3d import iou_3d
from pipeline.geometry.outline import outline_of
from pipeline.tracking.refinement import Sight, Standpoint, refine
from tests.pipeline.geometry.test_outline import seen_from_above

CAR = (1.5, 1.8, 4.2)
END = 0.006
NOISE = 0.005


def drive(truth: np.ndarray, *, seed: int = 0, outlines: bool = True, wrong_yaw: float = 0.5) -> list[Sight]:
    """What reconstruction might say of boxes (F, 7): places off by a third of a metre, a heading that is a guess."""
    rng = np.random.default_rng(seed)
    sights = []
    for number, row in enumerate(truth):
        points = seen_from_above(row[[0, 2]], row[4], row[5], row[6], rows=6)
        points *= 1 + rng.normal(0, 0.004 * row[2])  # the whole surface is off along the ray
        guess = row + rng.normal(0, (0.15, 0.02, 0.3, 0.05, 0.2, 0.3, wrong_yaw))
        sights.append(Sight(number, guess, outline_of(points, NOISE) if outlines else None, True))
    return sights


def still_camera(count: int) -> list[Standpoint]:
    return [Standpoint(number / 15, 0.0, (0.0, 0.0), 1e-6, 1.5) for number in range(count)]


def overlap(found, truth) -> np.ndarray:
    return np.array([float(iou_3d(each.box, row)[0, 0]) for each, row in zip(found, truth, strict=True)])


def passing(count: int = 40, yaw: float = np.pi) -> np.ndarray:
    """A car that drives by from right to left."""
    rows = np.tile([0.0, 1.5, 9.0, 1.45, 1.75, 4.0, yaw], (count, 1))
    rows[:, 0] = np.linspace(5, -3, count)
    return rows


def test_a_car_that_drives_by_gets_its_heading_from_its_motion_and_one_size():
    truth = passing()
    sights = drive(truth)
    found = refine(sights, still_camera(len(truth)), CAR, END)
    before = np.mean([float(iou_3d(sight.box, row)[0, 0]) for sight, row in zip(sights, truth, strict=True)])
    assert overlap(found, truth).mean() > max(0.8, before + 0.25)
    assert len({tuple(each.box[3:6]) for each in found}) == 1
    assert np.cos(found[20].box[6] - np.pi) > 0.99


def test_a_parked_car_keeps_one_place_and_the_heading_its_outlines_fit():
    truth = np.tile([2.0, 1.5, 8.0, 1.5, 1.8, 4.2, 0.7], (30, 1))
    found = refine(drive(truth), still_camera(30), CAR, END)
    assert overlap(found, truth).mean() > 0.8
    assert np.ptp([each.box[:3] for each in found], axis=0).max() < 0.1
    off = np.array([each.box[6] - 0.7 for each in found])
    assert np.abs((off + np.pi / 2) % np.pi - np.pi / 2).max() < np.radians(6)


def test_the_motion_of_the_camera_is_taken_out():
    # The camera drives past a parked car: in its own frame the car comes nearer.
    truth = np.tile([2.5, 1.5, 0.0, 1.5, 1.8, 4.2, 0.2], (30, 1))
    shifts = np.linspace(0, 4, 30)
    truth[:, 2] = 12 - shifts
    moving = [Standpoint(n / 15, 0.0, (0.0, float(shifts[n])), 1e-6, 1.5) for n in range(30)]
    assert overlap(refine(drive(truth), moving, CAR, END), truth).mean() > 0.8


def test_sigma_is_about_the_size_of_the_error():
    ratios = []
    for seed in range(12):
        truth = passing()
        found = refine(drive(truth, seed=seed), still_camera(len(truth)), CAR, END)
        error = np.array([each.box - row for each, row in zip(found, truth, strict=True)])
        error[:, 6] = (error[:, 6] + np.pi / 2) % np.pi - np.pi / 2
        ratios.append(np.square(error / [each.sigma for each in found]).mean(axis=0))
    place_x, _, place_z, _, width, length, yaw = np.mean(ratios, axis=0)
    assert 0.01 < place_x < 2
    assert 0.01 < place_z < 2
    assert width < 2
    assert length < 2
    assert yaw < 2


def test_a_frame_without_a_box_gets_one_from_its_neighbours_but_not_beyond_them():
    truth = passing()
    sights = drive(truth)
    for number in (0, 10, 11):
        sights[number] = Sight(number, None, None, False)
    found = refine(sights, still_camera(len(truth)), CAR, END)
    assert found[0] is None
    assert overlap(found[10:12], truth[10:12]).min() > 0.7


def test_without_outlines_the_boxes_themselves_are_smoothed():
    truth = passing()
    sights = drive(truth, outlines=False)
    found = refine(sights, still_camera(len(truth)), CAR, END)
    before = np.mean([np.linalg.norm((sight.box - row)[:3]) for sight, row in zip(sights, truth, strict=True)])
    assert np.mean([np.linalg.norm((each.box - row)[:3]) for each, row in zip(found, truth, strict=True)]) < before / 2


def test_a_height_cut_off_is_at_least_that_and_the_typical_one():
    truth = passing()
    cut = [Sight(s.frame, s.box * (1, 1, 1, 0.5, 1, 1, 1), s.outline, False) for s in drive(truth)]
    assert refine(cut, still_camera(len(truth)), CAR, END)[5].box[3] == CAR[0]


@pytest.mark.parametrize("count", [1, 2, 3])
def test_short_tracks_are_refined_too(count):
    truth = passing()[:count]
    found = refine(drive(truth, wrong_yaw=0.05), still_camera(count), CAR, END)
    assert overlap(found, truth).mean() > 0.4
    assert all(np.isfinite(each.sigma).all() and (each.sigma > 0).all() for each in found)


def test_a_track_that_never_had_a_box_gets_none():
    assert refine([Sight(0, None, None, False)], still_camera(1), CAR, END) == [None]


def test_a_thing_of_unknown_kind_gets_the_size_of_its_outlines():
    truth = np.tile([1.0, 1.5, 5.0, 1.0, 1.0, 2.2, 0.6], (30, 1))
    found = refine(drive(truth, wrong_yaw=0.1), still_camera(30), None, END)
    assert sorted(found[0].box[4:6]) == pytest.approx((1.0, 2.2), rel=0.2)
