import json

import cv2
import numpy as np
import pytest

from pipeline.geometry.boxes3d import box_corners
from pipeline.recordings.opening import open_recording
from pipeline.simulation.recording import FPS, IMU_RATE, write_demo_recording
from pipeline.stereo.rectification import Rectifier


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    return write_demo_recording(tmp_path_factory.mktemp("demo"), frames=3, workers=1)


@pytest.fixture(scope="module")
def truth(demo):
    return json.loads(demo.ground_truth.read_text())


def test_the_recording_reads_like_one_of_a_camera(demo):
    with open_recording(demo.recording) as recording:
        assert recording.metadata.frame_count == 3
        assert recording.metadata.codec == "h264"
        assert recording.metadata.fps == pytest.approx(FPS)
        assert recording.calibration is not None
        assert recording.calibration.baseline == pytest.approx(0.11985, abs=1e-4)
        assert [frame.index for frame in recording.frames()] == [0, 1, 2]
        assert len(list(recording.imu())) == pytest.approx(2 / FPS * IMU_RATE, abs=2)


def test_the_inertial_unit_feels_gravity_where_the_truth_says_it_is(demo, truth):
    with open_recording(demo.recording) as recording:
        felt = np.mean([sample.acceleration for sample in recording.imu()], axis=0)
        down = -Rectifier(recording.calibration).rotation_left @ felt
    cosine = down @ truth["frames"][1]["gravity"] / np.linalg.norm(down)
    assert np.degrees(np.arccos(min(1.0, cosine))) < 1.5
    assert np.linalg.norm(felt) == pytest.approx(9.81, rel=0.05)


def test_rectified_rows_are_aligned(demo):
    with open_recording(demo.recording) as recording:
        frame = next(iter(recording.frames([0])))
        left, right = Rectifier(recording.calibration).rectify(frame.left, frame.right)
    orb = cv2.ORB_create(1500)
    (a, da), (b, db) = (orb.detectAndCompute(cv2.cvtColor(each, cv2.COLOR_BGR2GRAY), None) for each in (left, right))
    matches = cv2.BFMatcher(cv2.NORM_HAMMING, crossCheck=True).match(da, db)
    rows = np.array([a[m.queryIdx].pt[1] - b[m.trainIdx].pt[1] for m in matches if m.distance < 25])
    assert rows.size > 80
    assert abs(np.median(rows)) < 0.3


def test_boxes_project_onto_what_is_visible(truth):
    camera = truth["camera"]
    matrix = np.array([[camera["fx"], 0, camera["cx"]], [0, camera["fy"], camera["cy"]], [0, 0, 1]])
    judged = 0
    for frame in truth["frames"]:
        for thing in frame["objects"]:
            if thing["visible_pixels"] < 300:
                continue
            judged += 1
            pixels = box_corners(np.array([thing["box"]]), np.array(frame["gravity"]))[0] @ matrix.T
            pixels = pixels[:, :2] / pixels[:, 2:]
            x, y, w, h = thing["bbox_xywh"]
            slack = 0.12 * max(w, h) + 3
            assert pixels[:, 0].min() - slack < x
            assert x + w < pixels[:, 0].max() + slack
            assert pixels[:, 1].min() - slack < y
            assert y + h < pixels[:, 1].max() + slack
    assert judged >= 18


def test_the_same_seed_tells_the_same_truth(demo, tmp_path):
    again = write_demo_recording(tmp_path, frames=1, workers=1)
    mine, other = (json.loads(each.ground_truth.read_text())["frames"][0] for each in (demo, again))
    assert mine == other


@pytest.mark.parametrize(("asked", "message"), [({"frames": 0}, "frames"), ({"resolution": "8K"}, "resolution")])
def test_nonsense_is_refused_by_name(tmp_path, asked, message):
    with pytest.raises(ValueError, match=message):
        write_demo_recording(tmp_path, **asked)


@pytest.mark.slow
def test_rendering_in_processes_changes_nothing(demo, tmp_path):
    spread = write_demo_recording(tmp_path, frames=8, workers=2)
    frames = json.loads(spread.ground_truth.read_text())["frames"]
    assert frames[:3] == json.loads(demo.ground_truth.read_text())["frames"]
