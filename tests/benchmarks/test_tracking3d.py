"""The tracker in space on KITTI's sequences, beside AB3DMOT's method."""

import numpy as np
import pytest

pytest.importorskip("trackeval", reason="TrackEval is not installed: pip install --no-deps trackeval")

from benchmarks import tracking3d


@pytest.fixture
def kitti(data_folder):
    return data_folder / "kitti_tracking"


def sequence(kitti, name: str, number: str):
    truth = tracking3d.read_truth(kitti / "label_02" / f"{number}.txt", name)
    folder = kitti / "detection" / f"pointrcnn_{name}_val"
    return truth, tracking3d.read_detections(folder / f"{number}.txt", len(truth))


def test_the_truth_scores_one_against_itself(kitti):
    truth, _ = sequence(kitti, "Car", "0012")
    itself = [(each.ids, each.cuboids, np.zeros((len(each.ids), 4))) for each in truth]
    found = tracking3d.evaluate({"0012": tracking3d.comparable(truth, itself)})
    assert (found["HOTA"], found["MOTA"], found["IDF1"], found["IDSW"]) == pytest.approx((1, 1, 1, 0), abs=1e-6)


def test_what_lies_on_a_van_or_a_region_nobody_cares_for_is_not_wrong(kitti):
    truth, _ = sequence(kitti, "Car", "0000")
    frame = next(each for each in truth if len(each.others) and len(each.regions_xyxy))
    boxes = np.array([[0.0, 0, 1, 1], frame.regions_xyxy[0], [600, 100, 700, 200]])
    cuboids = np.array([frame.others[0], [0, 2, 90, 1.5, 1.6, 4, 0], [0, 2, 95, 1.5, 1.6, 4, 0]])
    data = tracking3d.comparable([frame], [(np.array([1, 2, 3]), cuboids, boxes)])
    assert data["num_tracker_dets"] == 1


@pytest.mark.parametrize("number", ["0005", "0012"])
def test_cars_are_tracked_at_least_as_well_as_by_ab3dmot(kitti, number):
    truth, frames = sequence(kitti, "Car", number)
    ours, theirs = (
        tracking3d.evaluate({number: tracking3d.comparable(truth, tracker(frames, threshold))})
        for tracker, threshold in ((tracking3d.ours, 1.0), (tracking3d.baseline, 2.0))
    )
    assert theirs["MOTA"] > 0.65  # a baseline that works
    assert ours["MOTA"] > theirs["MOTA"] - 0.005
    assert ours["HOTA"] > theirs["HOTA"] - 0.005
