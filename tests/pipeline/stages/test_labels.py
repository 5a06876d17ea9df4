import numpy as np
import pytest

from pipeline.stages.labels import how_seen, kitti_label, settled
from pipeline.storage.records import BoxRecord, DetectionRecord, FrameRecord, TrackRecord

FRAME = FrameRecord(0, 0, 0, 640, 480, "0" * 16, 0.0)
MATRIX = np.array([[500.0, 0, 320], [0, 500, 240], [0, 0, 1]])
BOX = np.array([0.0, 1.0, 8.0, 1.6, 1.6, 4.0, 0.0])
DETECTION = DetectionRecord(0, 0, 1, "car", 0.8, [10.0, 20.0, 30.0, 40.0], 900, {"size": [1, 1], "counts": "1"})


@pytest.mark.parametrize(("x", "expected"), [(0.0, 0.0), (4.5, 0.5), (30.0, 1.0)])
def test_truncation_is_the_share_outside_the_image(x, expected):
    truncated, _ = how_seen(BOX + np.array([x, 0, 0, 0, 0, 0, 0]), MATRIX, FRAME, None, None)
    assert truncated == pytest.approx(expected, abs=0.15)


@pytest.mark.parametrize(("columns", "expected"), [(0, 0), (40, 1), (200, 2)])
def test_occlusion_is_the_share_behind_something_nearer(columns, expected):
    mask, depth = np.zeros((480, 640), bool), np.full((480, 640), 20, np.float32)
    mask[200:300, 180:460] = True
    mask[:, 180 : 180 + columns] = False
    depth[mask] = 7.2
    depth[:, 180 : 180 + columns] = 3.0
    assert how_seen(BOX, MATRIX, FRAME, mask, depth)[1] == expected


def test_what_tracking_refined_stands_in_the_label():
    box = BoxRecord(0, 0, [0.0, 1.0, 8.0], [1.6, 1.6, 4.0], 0.0, 0.0, truncated=0.1, occluded=1, points_used=70)
    track = TrackRecord(0, 0, 3, [2.0, 1.0, 2.0, 1.5, 1.7, 3.9, 0.5], [0.1] * 7, truncated=0.3, occluded=2)
    final = settled(box, track)
    label = kitti_label(DETECTION, final)
    assert label.box.tolist() == track.box
    assert label.alpha == pytest.approx(0.5 - np.pi / 4, abs=1e-4)
    assert (label.truncated, label.occluded, final.points_used) == (0.3, 2, 70)


@pytest.mark.parametrize("track", [None, TrackRecord(0, 0, None), TrackRecord(0, 0, 2)])
def test_without_a_refined_box_that_of_the_frame_stands(track):
    box = BoxRecord(0, 0, [0.0, 1.0, 8.0], [1.6, 1.6, 4.0], 0.0, 0.0)
    assert settled(box, track) is box


def test_a_detection_that_had_no_box_can_get_one_from_its_track():
    none = BoxRecord(0, 0, occluded=3, reason="Too few pixels of the mask have a depth.")
    final = settled(none, TrackRecord(0, 0, 3, [2.0, 1.0, 2.0, 1.5, 1.7, 3.9, 0.5], [0.1] * 7, 0.0, 1))
    assert kitti_label(DETECTION, final).has_box_3d
    assert final.reason == ""
    assert not kitti_label(DETECTION, none).has_box_3d
