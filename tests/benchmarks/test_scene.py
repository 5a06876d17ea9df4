"""The demo scene through all four stages, on half a second of it."""

import json

import pytest

from benchmarks import scene
from pipeline.simulation.recording import CLASSES
from pipeline.simulation.scoring import matches, score
from pipeline.stages.base import StageContext
from pipeline.storage.layout import SequenceLayout


@pytest.mark.slow
def test_half_a_second_of_the_street_gets_good_boxes_that_say_how_far_off_they_are(street, tmp_path):
    context = StageContext(
        SequenceLayout(tmp_path), street.recording, CLASSES, calibration_folders=[street.recording.parent]
    )
    speed = scene.run(context)
    assert set(speed) == {"extraction", "segmentation", "reconstruction", "tracking"}
    truth = json.loads(street.ground_truth.read_text())
    plain, refined = (scene.predicted(context.layout, refined=flag) for flag in (False, True))
    before, after = score(plain, truth), score(refined, truth)
    assert after.mean_iou_3d > max(0.65, before.mean_iou_3d - 0.02)
    assert after.recall >= before.recall > 0.8
    assert after.identity_switches == 0
    found = [each for each in matches(refined, truth) if each.sigma is not None]
    assert len(found) > 0.9 * after.matched
    assert (
        0.05 < sum(float((each.error / each.sigma) @ (each.error / each.sigma)) for each in found) / len(found) / 7 < 3
    )
