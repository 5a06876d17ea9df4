"""The reader that goes through the ZED SDK, against a module with the real API's signatures in a real subprocess."""

import sys
import time
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import RecordingError
from pipeline.recordings import open_recording
from pipeline.recordings.base import Recording
from pipeline.recordings.opening import sdk_available
from pipeline.recordings.zed import ZedRecording

HERE = Path(__file__).parent


@pytest.fixture
def svo(tmp_path):
    path = tmp_path / "walk.svo"
    path.write_bytes(bytes.fromhex("f5ffffff00050000d0020000c00a0000") + bytes(5000))
    return path


@pytest.fixture
def sdk(monkeypatch):
    """Put the stand-in on the path, as `sdk(version, fault)`."""

    def install(version="5.3", fault="", folder="fake_sdk"):
        monkeypatch.syspath_prepend(HERE / folder)
        monkeypatch.setenv("FAKE_ZED_API", version)
        monkeypatch.setenv("FAKE_ZED_FAULT", fault)

    yield install
    for name in [name for name in sys.modules if name.partition(".")[0] == "pyzed"]:
        del sys.modules[name]


@pytest.mark.parametrize("version", ["4.0", "4.2", "5.3"])
def test_frames_depth_and_calibration_come_from_the_sdk(svo, sdk, version):
    sdk(version)
    with ZedRecording(svo) as recording:
        assert isinstance(recording, Recording)
        metadata, frames = recording.metadata, list(recording.frames())
        calibration = recording.calibration
    assert (metadata.kind, metadata.frame_count, metadata.width, metadata.height) == ("zed", 5, 64, 48)
    assert (metadata.camera_serial, metadata.camera_model, metadata.fps) == ("33234316", "ZED2i", 15)
    assert metadata.extra["sdk_version"] == version
    assert (calibration.rectified, calibration.baseline, calibration.left.fx) == (True, 0.12, 500)
    for index, frame in enumerate(frames):
        assert (frame.index, frame.timestamp_ns) == (index, 1_000_000_000 + index * 66_666_667)
        assert frame.left.shape == frame.right.shape == (48, 64, 3)
        assert (frame.left == 10 * index).all()
        assert (frame.right[..., 1] == 10 * index + 100).all()
        assert np.isnan(frame.depth[0, :4]).all()
        assert (frame.depth[1:] == 2 + index).all()


@pytest.mark.parametrize("version", ["4.0", "5.3"])
def test_chosen_frames_are_sought(svo, sdk, version):
    sdk(version)
    with ZedRecording(svo) as recording:
        for wanted in ([1, 3], [4], [0, 1, 2]):
            assert [(frame.index, int(frame.left[0, 0, 0])) for frame in recording.frames(wanted)] == [
                (index, 10 * index) for index in wanted
            ]


@pytest.mark.parametrize("version", ["4.0", "4.2", "5.3"])
def test_a_frame_the_sdk_cannot_decode_is_left_out(svo, sdk, version):
    sdk(version, "corrupt")
    with ZedRecording(svo) as recording:
        assert [frame.index for frame in recording.frames()] == [0, 1, 3, 4]


def test_inertial_rows_are_converted_to_radians(svo, sdk):
    sdk()
    with ZedRecording(svo) as recording:
        rows = list(recording.imu())
    assert len(rows) == 5
    np.testing.assert_allclose(rows[3].angular_velocity, (np.pi, 0, np.radians(3)))
    assert (rows[3].timestamp_ns, rows[3].acceleration, rows[3].orientation) == (1003, (0, -9.81, 0), (0, 0, 0, 1))


def test_frames_of_an_svo2_are_counted_without_believing_the_sdk(data_folder, sdk):
    sdk()
    with ZedRecording(data_folder / "svo2_zed2i" / "test.svo2") as recording:
        assert recording.metadata.frame_count == 5  # the stand-in can give no more
        assert recording.metadata.imu_count == len(list(recording.imu())) == 1433


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("refuse", "the ZED SDK cannot read it .INVALID_SVO_FILE"),
        ("crash", "ended unexpectedly .exit code -6"),
        ("hang", "did not answer within 1.5 s"),
    ],
)
def test_an_sdk_that_fails_ends_in_one_clear_sentence(svo, sdk, fault, words):
    sdk("5.3", fault)
    started = time.monotonic()
    with pytest.raises(RecordingError, match=words):
        ZedRecording(svo, open_timeout_s=1.5)
    assert time.monotonic() - started < 10


def test_a_crash_in_the_middle_is_an_error_and_not_the_end_of_the_program(svo, sdk):
    sdk("5.3", "crash-later")
    with ZedRecording(svo) as recording:
        seen = []
        with pytest.raises(RecordingError, match="ended unexpectedly"):
            seen.extend(frame.index for frame in recording.frames())
        # Another process takes over for what is asked next.
        assert [frame.index for frame in recording.frames([4])] == [4]


def test_a_frame_the_sdk_hangs_on_is_left_out(svo, sdk):
    sdk("5.3", "hang-once")
    with ZedRecording(svo, frame_timeout_s=2) as recording:
        frames = [(frame.index, int(frame.left[0, 0, 0])) for frame in recording.frames()]
        assert frames == [(0, 0), (1, 10), (3, 30), (4, 40)]
        assert [row.timestamp_ns for row in recording.imu()] == [1000, 1001, 1003, 1004]


def test_an_sdk_that_hangs_on_frame_after_frame_is_given_up(svo, sdk):
    sdk("5.3", "hang-later")
    with ZedRecording(svo, frame_timeout_s=1, timeouts_allowed=1) as recording:
        frames = recording.frames()
        assert [next(frames).index, next(frames).index] == [0, 1]
        with pytest.raises(RecordingError, match="did not answer within 1 s"):
            next(frames)


def test_a_file_that_no_longer_opens_in_time_is_no_frame_to_leave_out(svo, sdk, monkeypatch):
    sdk("5.3", "hang-once")
    with ZedRecording(svo, frame_timeout_s=2) as recording:
        assert list(recording.frames([2])) == []
        monkeypatch.setenv("FAKE_ZED_FAULT", "hang")
        monkeypatch.setattr(recording, "_open_timeout_s", 1)
        with pytest.raises(RecordingError, match="did not answer within 1 s"):
            list(recording.frames([3]))


def test_the_sdk_is_chosen_first_where_it_is_installed(svo, sdk):
    assert not sdk_available()
    sdk()
    assert sdk_available()
    with open_recording(svo) as recording:
        assert recording.metadata.kind == "zed"


def test_without_preferring_the_sdk_an_svo2_is_read_directly(data_folder, sdk):
    sdk()
    with open_recording(data_folder / "svo2_zed2i" / "test.svo2", prefer_sdk=False) as recording:
        assert recording.metadata.kind == "svo2"


def test_an_svo2_is_read_directly_where_the_sdk_refuses_it(data_folder, sdk):
    sdk("5.3", "refuse")
    with open_recording(data_folder / "svo2_zed2i" / "test.svo2") as recording:
        assert (recording.metadata.kind, recording.metadata.frame_count) == ("svo2", 12)


def test_the_impostor_from_the_package_index_is_not_taken_for_the_sdk(data_folder, sdk):
    sdk(folder="impostor_sdk")
    assert not sdk_available()
    with open_recording(data_folder / "svo2_zed2i" / "test.svo2") as recording:
        assert recording.metadata.kind == "svo2"


def test_asking_for_the_sdk_where_there_is_none_says_so(svo):
    with pytest.raises(RecordingError, match=r"ZED SDK cannot read it .No module named 'pyzed'"):
        open_recording(svo, kind="zed")
