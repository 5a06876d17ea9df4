from dataclasses import replace

import cv2
import numpy as np
import pytest

from pipeline.recordings.opening import open_recording
from pipeline.segmentation.base import ClassSpec, View
from pipeline.segmentation.geometric import Geometric
from pipeline.simulation.scene import CLASSES
from pipeline.stereo.inertial import Gravity
from pipeline.stereo.matching import SemiGlobalMatcher, disparity_to_depth
from pipeline.stereo.rectification import Rectifier


@pytest.fixture(scope="module")
def found(street):
    return Geometric(CLASSES).segment([street.view])[0]


def iou(a, b):
    return np.count_nonzero(a & b) / max(1, np.count_nonzero(a | b))


def best_of(street, found):
    """(class, visible pixels, best IoU, class found) of every object of which enough is seen."""
    for number, name in street.names.items():
        truth = street.instances == number
        if truth.sum() >= 300:
            best = max(found, key=lambda each: iou(each.mask, truth))
            yield name, iou(best.mask, truth), next(c.name for c in CLASSES if c.id == best.class_id)


def test_most_objects_of_the_street_are_found_with_their_outlines(street, found):
    overlaps = [overlap for _, overlap, _ in best_of(street, found)]
    assert len(overlaps) >= 6
    assert np.mean([overlap > 0.5 for overlap in overlaps]) >= 0.75
    assert np.mean([overlap for overlap in overlaps if overlap > 0.5]) > 0.82


def test_what_is_found_gets_the_class_of_its_size(street, found):
    classes = [name == guess for name, overlap, guess in best_of(street, found) if overlap > 0.5]
    assert np.mean(classes) >= 0.8


def test_walls_trees_and_ground_are_not_objects(street, found):
    background = street.instances == 0
    for each in found:
        if each.confidence >= 0.5:
            assert np.count_nonzero(each.mask & background) < 0.03 * background.sum()


def test_the_most_confident_comes_first_and_scores_are_probabilities(found):
    confidences = [each.confidence for each in found]
    assert confidences == sorted(confidences, reverse=True)
    for each in found:
        assert 0 < each.confidence <= 1
        assert sum(each.class_scores.values()) <= 1 + 1e-6
        assert max(each.class_scores, key=each.class_scores.get) == each.class_id


def test_masks_are_those_of_their_logits_and_no_pixel_has_two_owners(street, found):
    for each in found:
        assert each.logits.dtype == np.float16
        assert np.array_equal(each.mask, each.logits > 0)
        assert 0 < each.stability <= 1
    assert np.max(np.sum([each.mask for each in found], axis=0)) == 1


def test_the_expected_overlap_of_a_mask_is_near_its_own(street, found):
    pairs = [
        (each.quality, max(iou(each.mask, street.instances == number) for number in street.names)) for each in found
    ]
    good = [(quality, overlap) for quality, overlap in pairs if overlap > 0.5]
    assert abs(np.mean([quality - overlap for quality, overlap in good])) < 0.06


def test_the_same_view_gives_the_same_instances(street, found):
    again = Geometric(CLASSES).segment([street.view, street.view])
    for result in again:
        assert [each.confidence for each in result] == [each.confidence for each in found]
        assert all(np.array_equal(a.mask, b.mask) for a, b in zip(result, found, strict=True))


def test_without_depth_there_is_nothing_to_go_by(street):
    assert Geometric(CLASSES).segment([replace(street.view, depth=None)]) == [[]]


@pytest.mark.parametrize("value", [np.nan, 3.0])
def test_an_empty_or_flat_depth_map_yields_nothing(value):
    view = View(np.zeros((90, 160, 3), np.uint8), np.full((90, 160), value, np.float32), np.diag([80.0, 80.0, 1.0]))
    assert Geometric(CLASSES).segment([view]) == [[]]


def test_a_larger_image_finds_the_same_things(street, found):
    view, size = street.view, (1344, 752)
    matrix = view.camera_matrix * np.array([[2.0], [2.0], [1.0]])
    large = View(
        cv2.resize(view.image, size),
        cv2.resize(view.depth, size, interpolation=cv2.INTER_NEAREST),
        matrix,
        view.gravity,
    )
    result = Geometric(CLASSES).segment([large])[0]
    strong = [each for each in found if each.confidence > 0.7]
    again = sum(any(iou(each.mask, other.mask[::2, ::2]) > 0.6 for other in result) for each in strong)
    assert result[0].mask.shape == (752, 1344)
    assert again >= 0.8 * len(strong)


def test_no_classes_no_objects(street):
    assert Geometric(()).segment([street.view]) == [[]]
    assert Geometric((ClassSpec(1, "gizmo"),)).segment([street.view]) == [[]]


def test_the_structures_of_a_real_hall_are_hardly_ever_taken_for_objects(data_folder):
    """An empty arena behind glass: whatever is found is wrong. Splinters of walls and stands have any size."""
    with open_recording(data_folder / "svo2_zed2i" / "test.svo2", prefer_sdk=False) as recording:
        rectifier, frame = Rectifier(recording.calibration), next(recording.frames([4]))
        gravity = Gravity((each.timestamp_ns, each.acceleration) for each in recording.imu()).down(frame.timestamp_ns)
    left, right = rectifier.rectify(frame.left, frame.right)
    matcher = SemiGlobalMatcher.for_camera(rectifier.camera)
    depth = disparity_to_depth(matcher.match(left, right), rectifier.camera)
    view = View(left, depth, rectifier.camera.matrix, rectifier.rotation_left @ gravity)
    classes = [ClassSpec(number, name) for number, name in enumerate(("person", "car", "bicycle", "dog"), start=1)]
    found = Geometric(tuple(classes)).segment([view])[0]
    assert sum(each.confidence >= 0.5 for each in found) <= 1
    assert max((each.confidence for each in found), default=0) < 0.8
