import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.tracking import kalman_filter as kalman

NOISE = kalman.BoxNoise()


def matrices(height: float, position: float, velocity: float) -> np.ndarray:
    """Diagonal 8x8 covariance of ByteTrack for these standard deviations, relative to the height."""
    std = [height * position, height * position, 1e-2, height * position]
    return np.diag(np.square([*std, height * velocity, height * velocity, 1e-5, height * velocity]))


@given(st.integers(0, 2**32 - 1))
def test_the_scalar_filters_give_what_the_8x8_filter_gives(seed):
    rng = np.random.default_rng(seed)
    measured = rng.uniform([0, 0, 0.2, 20], [1920, 1080, 3, 400], (3, 4))
    state = kalman.initiate(measured, NOISE)
    motion, observe = np.eye(8) + np.eye(8, k=4), np.eye(4, 8)
    means = [np.r_[box, np.zeros(4)] for box in measured]
    covariances = [matrices(box[3], 1 / 10, 1 / 16) for box in measured]
    for _ in range(5):
        seen = measured + rng.normal(0, 3, (3, 4)) * [1, 1, 0.01, 1]
        state = kalman.predict(state, NOISE)
        state = kalman.correct(state, seen - state[kalman.POSITION], NOISE)
        for row in range(3):
            added = matrices(means[row][3], 1 / 20, 1 / 160)
            mean, covariance = motion @ means[row], motion @ covariances[row] @ motion.T + added
            noise = np.diag(np.square([mean[3] / 20, mean[3] / 20, 1e-1, mean[3] / 20]))
            gain = covariance @ observe.T @ np.linalg.inv(observe @ covariance @ observe.T + noise)
            means[row] = mean + gain @ (seen[row] - observe @ mean)
            covariances[row] = covariance - gain @ observe @ covariance
    for row in range(3):
        np.testing.assert_allclose(state[: kalman.PP, row].ravel(), means[row], rtol=1e-8, atol=1e-8)
        block = covariances[row]
        np.testing.assert_allclose(state[kalman.PP, row], np.diag(block)[:4], rtol=1e-8)
        np.testing.assert_allclose(state[kalman.PV, row], np.diag(block, 4), rtol=1e-8, atol=1e-14)
        np.testing.assert_allclose(state[kalman.VV, row], np.diag(block)[4:], rtol=1e-8)


@pytest.mark.parametrize("noise", [kalman.BoxNoise(), kalman.CuboidNoise()])
def test_no_objects_are_a_valid_batch(noise):
    state = kalman.initiate(np.empty((0, noise.dimensions)), noise)
    state = kalman.correct(kalman.predict(state, noise), np.empty((0, noise.dimensions)), noise)
    assert state.shape == (5, 0, noise.dimensions)


def test_a_steady_walk_is_learnt_in_a_few_frames():
    noise = kalman.CuboidNoise()
    steps = np.array([0.3, 0, -0.2, 0, 0, 0, 0]) * np.arange(12)[:, None]
    walk = steps + np.array([1, 1.5, 8, 1.8, 0.6, 0.6, 0])
    state = kalman.initiate(walk[:1], noise)
    for place in walk[1:]:
        state = kalman.predict(state, noise)
        state = kalman.correct(state, place - state[kalman.POSITION], noise)
    np.testing.assert_allclose(state[kalman.VELOCITY, 0, :3], [0.3, 0, -0.2], atol=0.01)
    assert np.all(state[kalman.PP] > 0)
