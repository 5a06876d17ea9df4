import numpy as np

from pipeline.stereo.agreement import left_right_difference

INF, NAN = np.inf, np.nan


def test_two_matches_that_say_the_same_do_not_differ():
    left = np.full((2, 6), 2, np.float32)
    difference = left_right_difference(left, left)
    assert np.array_equal(difference, [[INF, INF, 0, 0, 0, 0]] * 2), "the first two columns are outside the right image"
    assert difference.dtype == np.float32


def test_the_right_match_is_looked_up_where_the_left_one_points():
    left = np.array([[NAN, 1.0, 1.0, 2.4, 3.0, 1.0]], np.float32)
    from_right = np.array([[1.5, 2.0, NAN, 0.0, 0.75, 9.0]], np.float32)
    expected = [[INF, 0.5, 1.0, 0.4, 1.0, 0.25]]
    assert np.allclose(left_right_difference(left, from_right), expected)


def test_where_the_right_image_has_no_match_the_difference_is_infinite():
    left, nothing = np.ones((1, 4), np.float32), np.full((1, 4), NAN, np.float32)
    assert np.isinf(left_right_difference(left, nothing)).all()
