import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra.numpy import array_shapes, arrays
from pycocotools import mask as coco

from pipeline.errors import PipelineError
from pipeline.segmentation import rle


@settings(max_examples=200, deadline=None)
@given(arrays(bool, array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=24)))
def test_encoding_equals_pycocotools_and_comes_back(mask):
    encoded = rle.encode(mask)
    expected = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    assert encoded == {"size": list(mask.shape), "counts": expected["counts"].decode()}
    assert np.array_equal(rle.decode(encoded), mask)
    assert rle.area(encoded) == mask.sum()


@settings(max_examples=100, deadline=None)
@given(arrays(bool, array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=24)))
def test_the_box_equals_pycocotools(mask):
    encoded = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    assert rle.bbox_xywh(mask) == coco.toBbox(encoded).tolist()


@pytest.mark.parametrize(
    "broken",
    [
        {},
        {"size": [4, 4]},
        {"size": [2, 2], "counts": 7},
        {"size": [2, 2], "counts": "PPPPPPP0"},
        {"size": [2, 2], "counts": "é"},
        {"size": [0, 0], "counts": ""},
    ],
)
def test_what_is_no_encoding_is_refused(broken):
    with pytest.raises(PipelineError, match="rle"):
        rle.decode(broken)
