import numpy as np
import pytest

from pipeline.tracking.smoothing import smooth


def precisions(count: int, across: float, along: float) -> np.ndarray:
    return np.tile(np.diag([across**-2, along**-2]), (count, 1, 1))


def test_a_steady_walk_comes_out_nearer_to_the_truth_than_its_measurements():
    rng = np.random.default_rng(0)
    times = np.arange(60) / 15
    truth = np.stack([1.3 * times, 6 + 0.2 * times], axis=1)
    measured = truth + rng.normal(0, (0.05, 0.3), truth.shape)
    path = smooth(times, measured, precisions(60, 0.05, 0.3))
    assert not path.still
    assert np.abs(path.places - truth).mean() < 0.35 * np.abs(measured - truth).mean()
    assert (path.covariances[:, 1, 1] < 0.15**2).all()


def test_what_stands_still_is_found_to_stand_still():
    rng = np.random.default_rng(1)
    measured = rng.normal((2.0, 5.0), 0.1, (40, 2))
    path = smooth(np.arange(40) / 15, measured, precisions(40, 0.1, 0.1))
    assert path.still
    assert np.ptp(path.places, axis=0).max() < 0.05
    assert path.places.mean(axis=0) == pytest.approx((2, 5), abs=0.05)


def test_one_that_turns_is_followed():
    times = np.arange(90) / 15
    truth = np.stack([3 * np.sin(times), 8 + 3 * np.cos(times)], axis=1)
    measured = truth + np.random.default_rng(2).normal(0, 0.05, truth.shape)
    path = smooth(times, measured, precisions(90, 0.05, 0.05))
    assert np.linalg.norm(path.places - truth, axis=1).max() < 0.12


def test_a_wild_measurement_hardly_pulls():
    times = np.arange(30) / 15
    truth = np.stack([times, 5 + 0 * times], axis=1)
    measured = truth.copy()
    measured[12] += 3
    path = smooth(times, measured, precisions(30, 0.05, 0.05))
    assert np.abs(path.places[12] - truth[12]).max() < 0.1
    assert path.weights[12] < 0.1 < 0.9 < path.weights[20]


def test_where_nothing_was_measured_the_path_goes_on_and_is_less_certain():
    times = np.arange(30) / 15
    measured = np.stack([times, 5 + 0 * times], axis=1)
    known = precisions(30, 0.05, 0.05)
    complete = smooth(times, measured, known)
    measured[10:20], known[10:20] = 0, 0
    path = smooth(times, measured, known)
    assert path.places[15] == pytest.approx((times[15], 5), abs=0.05)
    assert np.trace(path.covariances[15]) > 1.2 * np.trace(complete.covariances[15])


def test_its_covariance_is_that_of_the_full_problem():
    # A place that creeps by variance c·t per step, measured twice: worked out by hand.
    path = smooth(np.array([0.0, 1.0]), np.array([[0.0, 0], [0, 0]]), precisions(2, 0.1, 0.1))
    creep = 1e-4
    expected = 1 / (1 / 0.01 + 1 / (0.01 + creep))
    assert path.covariances[0] == pytest.approx(np.eye(2) * expected, rel=1e-3)


@pytest.mark.parametrize("count", [1, 2])
def test_short_tracks_are_taken_as_they_are(count):
    measured = np.array([[1.0, 5], [1.02, 5]])[:count]
    path = smooth(np.arange(count) / 15, measured, precisions(count, 0.05, 0.05))
    assert path.places == pytest.approx(measured, abs=0.03)
    assert path.covariances.shape == (count, 2, 2)


def test_a_frame_of_reference_that_slips_lets_the_path_jump():
    times = np.arange(20) / 15
    measured = np.repeat([[0.0, 5], [1.0, 5]], 10, axis=0)
    slack = np.full(19, 1e-6)
    slack[9] = 4.0
    path = smooth(times, measured, precisions(20, 0.05, 0.05), slack)
    assert path.places[9:11, 0] == pytest.approx((0, 1), abs=0.1)
