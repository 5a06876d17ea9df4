import numpy as np
import pytest

from pipeline.recordings.base import ImuSample
from pipeline.recordings.svo2 import Svo2Recording
from pipeline.recordings.svo2_writer import Svo2Writer

START = 1_700_000_000_000_000_000
STEP = 33_333_333


def picture(shift: int, width: int = 320, height: int = 192) -> np.ndarray:
    """Smooth colours that move, so that a lossy codec keeps them and a wrong frame is noticed."""
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    channels = (128 + 100 * np.sin((x + 6 * shift) / 25), 128 + 100 * np.cos(y / 30), 100 + 0.3 * x + 0.2 * y)
    return np.stack(channels, axis=-1).clip(0, 255).astype(np.uint8)


def write(path, codec, frames=12):
    with Svo2Writer(path, width=320, height=192, fps=30, serial=12345678, codec=codec, key_interval=5) as writer:
        for index in range(frames):
            time = START + index * STEP
            for row in range(4):
                writer.add_imu(
                    ImuSample(
                        time - (3 - row) * 1_000_000,
                        (0.1, -9.7, row),
                        (0.01 * row, 0.2, -0.3),
                        (0.1, 0.2, 0.3, 0.927362),
                    )
                )
            writer.add_frame(time, picture(index), picture(index + 3))
    return path


@pytest.mark.parametrize("codec", ["h264", "h265", "jpeg"])
def test_what_was_written_is_read_back(tmp_path, codec):
    with Svo2Recording(write(tmp_path / "a.svo2", codec)) as recording:
        metadata = recording.metadata
        assert (metadata.frame_count, metadata.width, metadata.height, metadata.imu_count) == (12, 320, 192, 48)
        assert (metadata.camera_serial, metadata.camera_model, metadata.warnings) == ("12345678", "ZED 2i", ())
        assert metadata.fps == pytest.approx(30, abs=0.001)
        frames = list(recording.frames())
        assert [frame.timestamp_ns for frame in frames] == [START + index * STEP for index in range(12)]
        for frame in frames:
            for image, shift in ((frame.left, 0), (frame.right, 3)):
                error = np.abs(image.astype(int) - picture(frame.index + shift))
                assert error.mean() < 3


@pytest.mark.parametrize("codec", ["h264", "h265", "jpeg"])
def test_any_choice_of_frames_equals_those_of_a_full_run(tmp_path, codec):
    with Svo2Recording(write(tmp_path / "a.svo2", codec)) as recording:
        everything = {frame.index: frame for frame in recording.frames()}
        for wanted in ([7], [0, 11], [3, 4, 9], range(1, 12, 4), []):
            chosen = list(recording.frames(wanted))
            assert [frame.index for frame in chosen] == list(wanted)
            for frame in chosen:
                np.testing.assert_array_equal(frame.left, everything[frame.index].left)
                np.testing.assert_array_equal(frame.right, everything[frame.index].right)


def test_inertial_values_keep_their_axes_and_units(tmp_path):
    with Svo2Recording(write(tmp_path / "a.svo2", "h264")) as recording:
        row = list(recording.imu())[6]
    assert row.timestamp_ns == START + STEP - 1_000_000
    np.testing.assert_allclose(row.acceleration, (0.1, -9.7, 2), rtol=1e-6)
    np.testing.assert_allclose(row.angular_velocity, (0.02, 0.2, -0.3), rtol=1e-6)
    np.testing.assert_allclose(row.orientation, (0.1, 0.2, 0.3, 0.927362), rtol=1e-5)


@pytest.mark.parametrize("codec", ["h264", "h265", "jpeg"])
def test_the_same_frames_give_the_same_bytes(tmp_path, codec):
    first, second = (write(tmp_path / name, codec, frames=7).read_bytes() for name in ("a.svo2", "b.svo2"))
    assert first == second


def test_other_mcap_readers_find_the_topics_and_the_index(tmp_path):
    from mcap.reader import make_reader

    with write(tmp_path / "a.svo2", "h264").open("rb") as stream:
        reader = make_reader(stream, validate_crcs=True)
        summary = reader.get_summary()
        counts = {
            channel.topic: summary.statistics.channel_message_counts[channel.id]
            for channel in summary.channels.values()
        }
        footer = next(reader.iter_messages(topics=["svo_footer"]))[2].data
    assert counts == {
        "svo_header": 1,
        "Camera_SN12345678/side_by_side": 12,
        "Camera_SN12345678/sensors": 48,
        "Camera_SN12345678/integrated_sensors": 12,
        "svo_footer": 1,
    }
    assert str(START + 11 * STEP).encode() in footer


def test_nothing_is_left_behind_when_writing_fails(tmp_path):
    with (
        pytest.raises(ValueError, match="shape"),
        Svo2Writer(tmp_path / "a.svo2", width=320, height=192, fps=30, serial=1) as w,
    ):
        w.add_frame(START, picture(0), picture(0)[:-4])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("size", [(321, 192), (320, 190), (0, 192)])
def test_sizes_that_cannot_be_encoded_are_refused(tmp_path, size):
    with pytest.raises(ValueError, match="even width"):
        Svo2Writer(tmp_path / "a.svo2", width=size[0], height=size[1], fps=30, serial=1)


def test_timestamps_that_do_not_ascend_are_refused(tmp_path):
    with (
        pytest.raises(ValueError, match="does not follow"),
        Svo2Writer(tmp_path / "a.svo2", width=320, height=192, fps=30, serial=1) as w,
    ):
        w.add_frame(START, picture(0), picture(0))
        w.add_frame(START, picture(0), picture(0))
