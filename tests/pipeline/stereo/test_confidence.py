import cv2
import numpy as np
import pytest

from benchmarks._stereo_scenes import aloe, middlebury
from benchmarks.stereo_confidence import area_under_curve, calibration_error
from pipeline.stereo.confidence import confidence_of
from pipeline.stereo.matching import SemiGlobalMatcher


def test_the_confidence_of_real_pairs_is_the_share_of_disparities_that_are_right(data_folder):
    told, right = [], []
    for scene in middlebury(data_folder):
        match = scene.matcher.measure(scene.left, scene.right)
        known = np.isfinite(match.disparity) & np.isfinite(scene.truth)
        told.append(match.confidence[known])
        right.append(np.abs(match.disparity - scene.truth)[known] < 1)
    told, right = np.concatenate(told), np.concatenate(right).astype(float)
    assert calibration_error(told, right) < 0.02
    assert area_under_curve(told, right) > 0.9
    trusted, doubted = right[told > 0.95], right[told < 0.5]
    assert len(trusted) > 0.8 * len(right)
    assert trusted.mean() > 0.98
    assert doubted.mean() < 0.6


def test_keeping_the_more_certain_half_makes_the_mean_error_smaller(data_folder):
    scene = aloe(data_folder)[1]
    match = scene.matcher.measure(scene.left, scene.right)
    known = np.isfinite(match.disparity) & np.isfinite(scene.truth)
    error, confidence = np.abs(match.disparity - scene.truth)[known], match.confidence[known]
    assert error[confidence > np.median(confidence)].mean() < 0.6 * error.mean()


def test_what_has_no_disparity_has_no_confidence_and_the_rest_has_some(data_folder):
    scene = middlebury(data_folder)[2]
    match = scene.matcher.measure(scene.left, scene.right)
    unknown = np.isnan(match.disparity)
    assert 0.01 < unknown.mean() < 0.2
    assert not match.confidence[unknown].any()
    assert match.confidence.dtype == np.float32
    assert ((match.confidence[~unknown] > 0) & (match.confidence[~unknown] < 1)).all()


def test_a_match_of_a_picture_with_another_one_is_trusted_less_than_with_its_own():
    rng = np.random.default_rng(3)
    picture, other = (cv2.GaussianBlur(rng.integers(0, 255, (80, 120), dtype=np.uint8), (3, 3), 0) for _ in range(2))
    flat, agreed = np.full((80, 120), 5, np.float32), np.zeros((80, 120), np.float32)
    shifted = np.roll(picture, -5, axis=1)
    own, foreign = (confidence_of(picture, eye, flat, agreed)[10:-10, 20:-20] for eye in (shifted, other))
    assert own.min() > 0.98
    assert foreign.max() < own.min()


@pytest.mark.parametrize("downscale", [1, 2])
def test_the_number_of_threads_does_not_change_a_bit_of_it(data_folder, downscale):
    scene = middlebury(data_folder)[0]
    matcher, threads = SemiGlobalMatcher(num_disparities=64, downscale=downscale), cv2.getNumThreads()
    try:
        results = set()
        for number in (1, 2, 4):
            cv2.setNumThreads(number)
            match = matcher.measure(scene.left, scene.right)
            results.add(match.disparity.tobytes() + match.confidence.tobytes())
    finally:
        cv2.setNumThreads(threads)
    assert len(results) == 1
