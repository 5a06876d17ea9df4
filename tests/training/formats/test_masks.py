"""Masks keep every pixel on their way between rectangle, frame, polygon and PNG."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from pycocotools import mask as coco

from training.formats.masks import CroppedMask

BINARY = arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=24))


def _encode(mask):
    rle = coco.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {"size": list(rle["size"]), "counts": rle["counts"].decode()}


@settings(max_examples=300, deadline=None)
@given(BINARY)
def test_a_cropped_mask_gives_the_frames_rle_to_the_byte(mask):
    cropped = CroppedMask.from_pixels(mask)
    if cropped is None:
        assert not mask.any()
        return
    assert cropped.full_frame(mask.shape[1], mask.shape[0]) == _encode(mask)
    assert np.array_equal(cropped.full_frame_pixels(mask.shape[1], mask.shape[0]), mask)
    assert CroppedMask.from_full_frame(_encode(mask)) == cropped


@settings(max_examples=100, deadline=None)
@given(BINARY, st.integers(0, 9), st.integers(0, 9), st.integers(0, 9), st.integers(0, 9))
def test_a_rectangle_may_be_larger_than_its_mask(mask, left, top, right, bottom):
    height, width = mask.shape
    counts = _encode(mask)["counts"]
    frame = np.pad(mask, ((top, bottom), (left, right)))
    cropped = CroppedMask(left, top, width, height, counts)
    assert cropped.full_frame(frame.shape[1], frame.shape[0]) == _encode(frame)


def test_a_large_mask_gives_the_frames_rle_to_the_byte():
    mask = np.zeros((1080, 1920), np.uint8)
    cv2.ellipse(mask, (700, 500), (300, 420), 30, 0, 360, 1, -1)
    cropped = CroppedMask.from_pixels(mask.astype(bool))
    assert cropped.full_frame(1920, 1080) == _encode(mask)


@pytest.mark.parametrize("angle", [0, 30, 77])
def test_polygons_cover_exactly_the_pixels_of_a_mask_without_holes(angle):
    mask = np.zeros((200, 300), np.uint8)
    cv2.ellipse(mask, (120, 90), (70, 40), angle, 0, 360, 1, -1)
    mask[150:180, 200:260] = 1
    mask[160:180, 240:260] = 0
    polygons = CroppedMask.from_pixels(mask.astype(bool)).polygons()
    assert len(polygons) == 2
    assert np.array_equal(coco.decode(coco.merge(coco.frPyObjects(polygons, 200, 300))), mask)


def test_a_single_pixel_is_a_polygon_of_four_corners():
    mask = np.zeros((5, 5), bool)
    mask[2, 3] = True
    (polygon,) = CroppedMask.from_pixels(mask).polygons()
    assert sorted(zip(polygon[::2], polygon[1::2], strict=True)) == [(3, 2), (3, 3), (4, 2), (4, 3)]


def test_the_png_is_white_on_the_object():
    mask = np.zeros((40, 60), bool)
    mask[10:20, 5:30] = True
    decoded = cv2.imdecode(np.frombuffer(CroppedMask.from_pixels(mask).png(60, 40), np.uint8), cv2.IMREAD_UNCHANGED)
    assert np.array_equal(decoded, mask.astype(np.uint8) * 255)
