import pytest

from pipeline.simulation.scoring import PredictedBox, score

BOX = [0.5, 1.5, 5.0, 1.7, 0.6, 0.7, 0.3]
OTHER = [-2.0, 1.5, 6.0, 0.8, 0.8, 1.0, 0.0]


def truth(frames=2, hidden=0):
    objects = [
        {"object_id": 1, "class_name": "person", "box": BOX, "visible_pixels": 900},
        {"object_id": 2, "class_name": "crate", "box": OTHER, "visible_pixels": hidden or 900},
    ]
    return {"frames": [{"index": i, "gravity": [0.0, 1.0, 0.0], "objects": objects} for i in range(frames)]}


def both(track=1, name="person"):
    return [PredictedBox(BOX, name, track), PredictedBox(OTHER, "crate", 9)]


def test_the_truth_itself_scores_full_marks():
    result = score({0: both(), 1: both()}, truth())
    assert (result.mean_iou_3d, result.recall, result.precision, result.class_accuracy) == pytest.approx((1, 1, 1, 1))
    assert (result.frames, result.objects, result.matched, result.identity_switches) == (2, 4, 4, 0)
    assert result.tracks_per_object == 1
    assert result.mean_centre_error == pytest.approx(0, abs=1e-9)


def test_nothing_predicted_is_no_recall_and_no_crash():
    result = score({0: [], 1: []}, truth())
    assert (result.recall, result.precision, result.mean_iou_3d, result.objects) == (0, 0, 0, 4)


def test_no_frames_at_all():
    assert score({}, truth()).frames == 0


def test_an_invented_box_costs_precision():
    invented = PredictedBox([5.0, 1.5, 9.0, 1.0, 1.0, 1.0, 0.0], "crate")
    assert score({0: [*both(), invented]}, truth()).precision == pytest.approx(2 / 3)


def test_a_wrong_class_is_still_found():
    result = score({0: both(name="car")}, truth())
    assert (result.recall, result.class_accuracy) == (1, 0.5)


def test_a_changed_track_is_an_identity_switch():
    result = score({0: both(track=1), 1: both(track=4)}, truth())
    assert result.identity_switches == 1
    assert result.tracks_per_object == 1.5


def test_a_hardly_visible_object_is_neither_demanded_nor_held_against_anyone():
    for predicted in (both(), both()[:1]):
        result = score({0: predicted}, truth(hidden=20))
        assert (result.objects, result.predictions, result.recall, result.precision) == (1, 1, 1, 1)


def test_a_tilted_camera_is_levelled_before_boxes_are_compared():
    tilted = truth(frames=1)
    tilted["frames"][0]["gravity"] = [0.0, 0.9962, 0.0872]
    assert score({0: both()}, tilted).mean_iou_3d == pytest.approx(1)
