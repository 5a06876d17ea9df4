import numpy as np
import pytest

from pipeline.diversity.motion import motion_score, thumbnail


@pytest.mark.parametrize("shape", [(720, 1280, 3), (36, 64, 3), (1, 1, 3), (641, 483, 3)])
def test_a_thumbnail_has_one_size_whatever_the_image(shape):
    result = thumbnail(np.full(shape, 77, np.uint8))
    assert (result.shape, result.dtype) == ((36, 64), np.uint8)
    assert np.all(result == 77)


@pytest.mark.parametrize(("a", "b", "expected"), [(0, 0, 0.0), (0, 255, 1.0), (255, 0, 1.0), (100, 151, 0.2)])
def test_motion_is_the_mean_grey_difference(a, b, expected):
    first, second = np.full((36, 64), a, np.uint8), np.full((36, 64), b, np.uint8)
    assert motion_score(first, second) == pytest.approx(expected, abs=1e-12)


def test_an_object_that_moves_scores_by_the_area_it_uncovers():
    still, moved = np.zeros((360, 640, 3), np.uint8), np.zeros((360, 640, 3), np.uint8)
    still[:, :60] = 255
    moved[:, 100:160] = 255
    assert motion_score(thumbnail(still), thumbnail(moved)) == pytest.approx(0.1875, abs=0.005)


def test_thumbnails_of_different_size_are_refused():
    with pytest.raises(ValueError, match="cannot be compared"):
        motion_score(np.zeros((36, 64), np.uint8), np.zeros((1, 1), np.uint8))
