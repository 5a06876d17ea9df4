import numpy as np

from pipeline.geometry.own_pixels import own_pixels, without_rim

SHAPE = (120, 160)


def rectangle(top: int, left: int, bottom: int, right: int) -> np.ndarray:
    mask = np.zeros(SHAPE, bool)
    mask[top:bottom, left:right] = True
    return mask


def test_the_rim_is_left_out_and_its_width_told():
    mask = rectangle(20, 30, 100, 80)
    ((own, radius),) = own_pixels([mask], np.full(SHAPE, 5, np.float32))
    assert radius == 1
    np.testing.assert_array_equal(own, rectangle(21, 31, 99, 79))


def test_beside_someone_nearer_the_depth_is_not_ones_own():
    near, far = rectangle(20, 30, 100, 60), rectangle(20, 60, 100, 100)
    depth = np.full(SHAPE, 9, np.float32)
    depth[far], depth[near] = 7, 4
    (of_near, _), (of_far, _) = own_pixels([near, far], depth)
    np.testing.assert_array_equal(of_near, rectangle(21, 31, 99, 59))
    np.testing.assert_array_equal(of_far, rectangle(21, 65, 99, 99))


def test_depth_that_is_not_trusted_is_left_out_unless_hardly_any_would_remain():
    mask = rectangle(20, 30, 100, 80)
    depth, confidence = np.full(SHAPE, 5, np.float32), np.ones(SHAPE, np.float32)
    confidence[:, :50] = 0.1
    ((own, _),) = own_pixels([mask], depth, confidence)
    np.testing.assert_array_equal(own, rectangle(21, 50, 99, 79))
    ((own, _),) = own_pixels([mask], depth, np.full(SHAPE, 0.1, np.float32))
    np.testing.assert_array_equal(own, rectangle(21, 31, 99, 79))


def test_masks_that_are_empty_or_thin_and_depth_that_is_missing_are_borne():
    thin, empty = rectangle(20, 30, 100, 32), np.zeros(SHAPE, bool)
    depth = np.full(SHAPE, np.nan, np.float32)
    assert [int(own.sum()) for own, _ in own_pixels([thin, empty], depth)] == [0, 0]
    assert without_rim(thin)[1] == 0
    assert own_pixels([], depth) == []
