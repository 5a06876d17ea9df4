from dataclasses import replace

import numpy as np
import pytest

from pipeline.segmentation.agreement import mirrored, with_agreement
from pipeline.segmentation.base import Instance, View
from pipeline.segmentation.geometric import Geometric
from pipeline.simulation.scene import CLASSES


def found(*boxes):
    masks = []
    for top, bottom, left, right in boxes:
        mask = np.zeros((20, 40), bool)
        mask[top:bottom, left:right] = True
        masks.append(mask)
    return [Instance(mask, 1, 0.9) for mask in masks]


def test_a_mirrored_view_sees_the_same_points_on_the_other_side(street):
    view = street.view
    turned = mirrored(view)
    assert np.array_equal(turned.image[:, 0], view.image[:, -1])
    w = view.depth.shape[1]

    def x(view, u, v):
        return (u - view.camera_matrix[0, 2]) / view.camera_matrix[0, 0] * view.depth[v, u]

    v, u = np.argwhere(np.isfinite(view.depth))[1000]
    assert x(turned, w - 1 - u, v) == pytest.approx(-x(view, u, v))
    assert turned.gravity == pytest.approx(view.gravity * (-1, 1, 1))
    assert np.array_equal(mirrored(turned).image, view.image)
    assert mirrored(View(view.image)).depth is None


def test_agreement_is_the_overlap_with_the_best_of_the_mirrored_masks():
    mine = found((2, 12, 4, 14), (2, 12, 20, 30), (15, 18, 1, 3))
    # In the mirrored image: the first as it is, the second half as wide, nothing of the third.
    theirs = found((2, 12, 26, 36), (2, 12, 10, 15))
    assert [each.agreement for each in with_agreement(mine, theirs)] == [1.0, 0.5, 0.0]
    assert [each.agreement for each in with_agreement(mine, [])] == [0.0, 0.0, 0.0]
    empty = replace(mine[0], mask=np.zeros((20, 40), bool))
    assert with_agreement([empty], [empty])[0].agreement == 0


def test_what_stands_free_agrees_with_its_mirror_image(street):
    segmenter = Geometric(CLASSES)
    here, there = (segmenter.segment([view])[0] for view in (street.view, mirrored(street.view)))
    sure = [each.agreement for each in with_agreement(here, there) if each.confidence > 0.5]
    assert len(sure) >= 3
    assert np.median(sure) > 0.9
