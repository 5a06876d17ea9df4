import cv2
import numpy as np
import pytest

from benchmarks._stereo_motion import load_rectified, steadiness
from benchmarks._stereo_scenes import NUM_DISPARITIES, load_pair
from benchmarks.stereo import sample, score
from pipeline.geometry.plane import angle_between_deg, fit_ground_plane
from pipeline.geometry.pointcloud import back_project
from pipeline.recordings.opening import open_recording
from pipeline.stereo.camera import RectifiedCamera
from pipeline.stereo.inertial import Gravity
from pipeline.stereo.matching import SemiGlobalMatcher, disparity_to_depth
from pipeline.stereo.rectification import Rectifier

CAMERA = RectifiedCamera(1280, 720, 530.0, 530.0, 640.0, 360.0, baseline=0.12, metric=True)


def shifted_pair(shift: int, shape=(120, 240)) -> tuple[np.ndarray, np.ndarray]:
    texture = np.random.default_rng(1).integers(0, 255, (shape[0], shape[1] + shift), dtype=np.uint8)
    texture = cv2.GaussianBlur(texture, (3, 3), 0)
    return texture[:, : shape[1]].copy(), texture[:, shift:].copy()


@pytest.mark.parametrize("name", list(NUM_DISPARITIES))
def test_middlebury_disparities_are_right_where_given_and_better_than_those_of_opencvs_sample(data_folder, name):
    left, right, truth = load_pair(data_folder / "stereo_middlebury" / name)
    limit = NUM_DISPARITIES[name]
    ours, theirs = (
        score(SemiGlobalMatcher(num_disparities=limit).match(left, right), truth),
        score(sample(left, right, limit), truth),
    )
    assert ours.epe < 0.45
    assert ours.bad_2 < 0.035
    assert ours.coverage > 0.86
    assert ours.epe < 0.8 * theirs.epe
    assert ours.coverage > theirs.coverage


@pytest.mark.parametrize("gain", [0.75, 1.3])
def test_an_eye_that_is_darker_or_brighter_than_the_other_costs_little(data_folder, gain):
    left, right, truth = load_pair(data_folder / "stereo_middlebury" / "tsukuba")
    matcher = SemiGlobalMatcher(num_disparities=32)
    even = score(matcher.match(left, right), truth)
    uneven = score(matcher.match(left, cv2.convertScaleAbs(right, alpha=gain)), truth)
    assert uneven.coverage > even.coverage - 0.02
    assert uneven.epe < even.epe * 1.1


def test_a_drone_whose_eyes_expose_by_themselves_sees_its_tent(data_folder):
    camera, pairs = load_rectified(data_folder / "euroc_micro")
    disparity = SemiGlobalMatcher.for_camera(camera).match(*pairs[0])
    assert np.isfinite(disparity).mean() > 0.82


def test_a_black_frame_has_no_depth():
    black = np.zeros((120, 240), np.uint8)
    assert not np.isfinite(SemiGlobalMatcher(num_disparities=32).match(black, shifted_pair(5)[0])).any()


def test_depth_on_a_drone_agrees_from_one_frame_to_the_next(data_folder):
    camera, pairs = load_rectified(data_folder / "euroc_micro")
    found = steadiness(SemiGlobalMatcher.for_camera(camera).match, camera, pairs[:3])
    assert found.tracks > 10_000
    assert found.within_1px > 0.98
    assert found.agree > 0.98


@pytest.mark.parametrize("downscale", [1, 2])
def test_a_shifted_image_has_the_shift_as_its_disparity_up_to_the_left_border(downscale):
    left, right = shifted_pair(12)
    disparity = SemiGlobalMatcher(num_disparities=32, downscale=downscale).match(left, right)
    assert disparity.dtype == np.float32
    assert np.nanmedian(disparity) == pytest.approx(12, abs=0.3)
    assert np.isfinite(disparity[:, 20:]).mean() > 0.9
    assert np.isnan(disparity[:, :8]).all(), "what the right eye does not see has no disparity"


def test_disparities_of_a_slanted_plane_are_not_pulled_to_whole_pixels():
    texture = cv2.GaussianBlur(np.random.default_rng(1).integers(0, 255, (120, 280), dtype=np.uint8), (5, 5), 0)
    rows, columns = np.mgrid[:120, :240].astype(np.float32)
    right = cv2.remap(texture, (columns + 5) / (1 - 4 / 240), rows, cv2.INTER_CUBIC)
    truth, left, seen = 5 + columns * np.float32(4 / 240), texture[:, :240].copy(), np.s_[10:-10, 20:]
    matcher = SemiGlobalMatcher(num_disparities=32)
    theirs = np.abs(matcher._one_way(left, right) / np.float32(16) - truth)[seen]
    ours = np.abs(matcher.match(left, right) - truth)[seen]
    assert np.nanmean(ours) < 0.65 * theirs.mean()
    assert np.nanmean(ours) < 0.1


def test_a_small_patch_that_stands_alone_is_dropped_a_larger_one_stays():
    rng = np.random.default_rng(2)
    left = cv2.GaussianBlur(rng.integers(0, 255, (120, 240), dtype=np.uint8), (3, 3), 0)
    right = np.roll(left, -6, axis=1)
    for size, column in ((9, 60), (24, 150)):
        patch = np.s_[40 : 40 + size, column : column + size]
        left[patch] = rng.integers(0, 255, (size, size), dtype=np.uint8)
        right[40 : 40 + size, column - 20 : column - 20 + size] = left[patch]
    disparity = SemiGlobalMatcher(num_disparities=32).match(left, right)
    assert not (np.abs(disparity[42:47, 62:67] - 20) < 1).any()
    assert (np.abs(disparity[45:59, 155:169] - 20) < 1).mean() > 0.8


def test_a_plain_wall_has_no_depth_rather_than_a_wrong_one():
    wall = np.full((120, 240), 128, np.uint8)
    disparity = SemiGlobalMatcher(num_disparities=32).match(wall, wall)
    assert np.isfinite(disparity).mean() < 0.01


def test_the_number_of_threads_does_not_change_a_bit():
    left, right = shifted_pair(7)
    matcher, threads = SemiGlobalMatcher(num_disparities=32), cv2.getNumThreads()
    try:
        results = []
        for number in (1, 2, 4):
            cv2.setNumThreads(number)
            results.append(matcher.match(left, right).tobytes())
    finally:
        cv2.setNumThreads(threads)
    assert len(set(results)) == 1


def test_images_of_different_sizes_are_refused():
    with pytest.raises(ValueError, match="left is"):
        SemiGlobalMatcher().match(np.zeros((10, 10), np.uint8), np.zeros((10, 12), np.uint8))


@pytest.mark.parametrize(
    ("width", "fx", "baseline", "num_disparities", "downscale"),
    [(672, 265, 0.12, 80, 1), (1280, 530, 0.12, 160, 1), (2208, 1063, 0.12, 160, 2), (1241, 718, 0.54, 224, 1)],
)
def test_the_search_range_follows_the_camera(width, fx, baseline, num_disparities, downscale):
    camera = RectifiedCamera(width, 720, fx, fx, 0, 0, baseline=baseline, metric=True)
    matcher = SemiGlobalMatcher.for_camera(camera)
    assert (matcher.num_disparities, matcher.downscale) == (num_disparities, downscale)


def test_depth_is_focal_length_times_baseline_over_disparity_and_holes_stay_holes():
    depth = disparity_to_depth(np.array([[63.6, np.nan, 0.5, 0.0]], np.float32), CAMERA)
    assert depth[0, 0] == pytest.approx(1.0)
    assert np.isnan(depth[0, 1:]).all()


def test_the_floor_of_a_real_zed_recording_is_level_with_its_inertial_unit(data_folder):
    with open_recording(data_folder / "svo2_zed2i" / "test.svo2", prefer_sdk=False) as recording:
        rectifier = Rectifier(recording.calibration)
        camera = rectifier.camera
        turned = ((sample.timestamp_ns, rectifier.rotation_left @ sample.acceleration) for sample in recording.imu())
        gravity = Gravity(turned)
        for frame in recording.frames([0, 6, 11]):
            disparity = SemiGlobalMatcher.for_camera(camera).match(*rectifier.rectify(frame.left, frame.right))
            points = back_project(disparity_to_depth(disparity, camera), camera, stride=3)
            down = gravity.down(frame.timestamp_ns)
            floor = fit_ground_plane(points, down, inverse_depth_noise=0.5 / (camera.fx * camera.baseline))
            assert angle_between_deg(-floor.normal, down) < 1.0
            assert floor.offset == pytest.approx(0.93, abs=0.05)
