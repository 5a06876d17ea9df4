import base64
import json
import shutil

import numpy as np
import pytest

from pipeline.errors import CalibrationError, RecordingError, UnsupportedRecordingError
from pipeline.recordings import svo2_container
from pipeline.recordings.base import Recording
from pipeline.recordings.svo2 import Svo2Recording
from pipeline.recordings.svo2_writer import Svo2Writer
from pipeline.storage.atomic import write_bytes

MEAN_ACCELERATION = (-0.11, -8.80, -4.30)


@pytest.fixture(scope="module")
def zed2i(data_folder):
    return data_folder / "svo2_zed2i" / "test.svo2"


def grey_recording(path, times, codec="h264", size=(64, 48), key_interval=30):
    width, height = size
    with Svo2Writer(
        path, width=width, height=height, fps=30, serial=7, codec=codec, key_interval=key_interval
    ) as writer:
        for number, time in enumerate(times):
            image = np.full((height, width, 3), 20 + 5 * number, np.uint8)
            writer.add_frame(time, image, image)
    return path


def test_a_real_zed_2i_recording_is_read_whole(zed2i):
    with Svo2Recording(zed2i) as recording:
        assert isinstance(recording, Recording)
        metadata = recording.metadata
        frames = list(recording.frames())
        rows = list(recording.imu())
    assert (metadata.kind, metadata.frame_count, metadata.width, metadata.height) == ("svo2", 12, 1280, 720)
    assert (metadata.codec, metadata.camera_model, metadata.camera_serial) == ("h264", "ZED 2i", "33234316")
    assert metadata.imu_count == len(rows) == 1433
    assert not metadata.truncated
    assert [frame.index for frame in frames] == list(range(12))
    assert all(frame.left.shape == frame.right.shape == (720, 1280, 3) for frame in frames)
    assert all(frame.left.std() > 20 for frame in frames)
    assert frames[0].timestamp_ns == 1729872812677319000
    assert metadata.fps == pytest.approx(11 / 3.3, abs=0.01)
    assert metadata.extra["nominal_fps"] == 30


def test_frames_dropped_while_recording_are_reported(zed2i):
    with Svo2Recording(zed2i) as recording:
        assert [w for w in recording.metadata.warnings if "about 88 frames were dropped" in w]


def test_inertial_values_stand_in_image_axes(zed2i):
    with Svo2Recording(zed2i) as recording:
        rows = list(recording.imu())
    mean = np.mean([row.acceleration for row in rows], axis=0)
    np.testing.assert_allclose(mean, MEAN_ACCELERATION, atol=0.01)
    # At rest the gyroscope shows under 0.02 deg/s on average.
    assert np.abs(np.mean([row.angular_velocity for row in rows], axis=0)).max() < np.radians(0.02)
    # The orientation is in the same axes: it turns the measured acceleration upright (y down, so "up" is -y).
    from scipy.spatial.transform import Rotation

    upright = Rotation.from_quat([row.orientation for row in rows]).apply([row.acceleration for row in rows])
    np.testing.assert_allclose(upright.mean(axis=0), (0, -9.795, 0), atol=0.05)


@pytest.mark.parametrize(("percent", "least"), [(90, 10), (75, 9), (50, 6), (30, 2)])
def test_a_cut_recording_gives_what_lies_before_the_cut(zed2i, tmp_path, percent, least):
    content = zed2i.read_bytes()
    cut = tmp_path / "cut.svo2"
    cut.write_bytes(content[: len(content) * percent // 100])
    with Svo2Recording(zed2i) as whole, Svo2Recording(cut) as recording:
        metadata, frames = recording.metadata, list(recording.frames())
        assert metadata.truncated
        assert metadata.frame_count == len(frames) >= least
        assert f"cut.svo2 is cut off: {len(frames)} frames were recovered, the rest is missing." in metadata.warnings
        for original, salvaged in zip(whole.frames(), frames, strict=False):
            np.testing.assert_array_equal(original.left, salvaged.left)
        assert metadata.imu_count == len(list(recording.imu())) > 400


@pytest.mark.parametrize("name", ["euroc_h264", "euroc_h265"])
def test_recordings_in_the_manner_of_svo2_are_read(data_folder, name):
    with Svo2Recording(data_folder / "svo2_like" / f"{name}.svo2") as recording:
        metadata, frames, rows = recording.metadata, list(recording.frames()), list(recording.imu())
    assert (metadata.frame_count, metadata.width, metadata.height, metadata.imu_count) == (20, 752, 480, 211)
    assert metadata.codec == {"euroc_h264": "h264", "euroc_h265": "hevc"}[name]
    assert metadata.fps == pytest.approx(20, abs=0.01)
    assert (len(frames), len(rows), metadata.warnings) == (20, 211, ())


def test_an_image_of_the_recording_equals_the_one_it_was_made_of(data_folder):
    import cv2

    with Svo2Recording(data_folder / "svo2_like" / "euroc_h264.svo2") as recording:
        frame = next(recording.frames([13]))
    folder = data_folder / "euroc_micro" / "mav0"
    for camera, image in (("cam0", frame.left), ("cam1", frame.right)):
        original = cv2.imread(str(folder / camera / "data" / f"{frame.timestamp_ns}.png"))
        assert np.abs(original.astype(int) - image).mean() < 6


def test_a_corrupt_chunk_costs_what_lies_in_it(data_folder):
    with Svo2Recording(data_folder / "bad_files" / "made_here" / "flip.svo2") as recording:
        metadata, frames = recording.metadata, list(recording.frames())
    assert metadata.frame_count == 4
    assert 1 <= len(frames) <= 4
    assert "flip.svo2 is damaged in 1 place: what lies there was left out." in metadata.warnings


def test_frames_after_a_lost_chunk_wait_for_the_next_key_frame(tmp_path, monkeypatch):
    monkeypatch.setattr("pipeline.recordings.svo2_writer.CHUNK_BYTES", 2000)
    path = grey_recording(tmp_path / "a.svo2", range(10**9, 31 * 10**9, 10**9), key_interval=10)
    whole = path.read_bytes()
    with Svo2Recording(path) as recording:
        chunks = sorted({entry.chunk for entry in recording._frames})
        spoilt = chunks[len(chunks) // 2]
        in_spoilt = [i for i, entry in enumerate(recording._frames) if entry.chunk == spoilt]
        starts = {entry.start for entry in recording._frames}
    content = bytearray(whole)
    content[spoilt + 60 : spoilt + 160] = b"\xaa" * 100
    write_bytes(path, bytes(content))
    resumed = min((start for start in starts if start > in_spoilt[-1]), default=30)
    with Svo2Recording(path) as recording:
        frames, metadata = list(recording.frames()), recording.metadata
    assert metadata.frame_count == len(frames)
    assert {frame.timestamp_ns for frame in frames if frame.timestamp_ns > (in_spoilt[-1] + 1) * 10**9} == {
        (i + 1) * 10**9 for i in range(resumed, 30)
    }
    assert any("damaged in 1 place" in warning for warning in metadata.warnings)


def test_a_broken_record_length_is_passed_over_with_the_summary(tmp_path, monkeypatch):
    monkeypatch.setattr("pipeline.recordings.svo2_writer.CHUNK_BYTES", 2000)
    path = grey_recording(tmp_path / "a.svo2", range(10**9, 31 * 10**9, 10**9), key_interval=5)
    with Svo2Recording(path) as recording:
        chunks = sorted({entry.chunk for entry in recording._frames})
    content = bytearray(path.read_bytes())
    content[chunks[1]] = 0
    write_bytes(path, bytes(content))
    with Svo2Recording(path) as recording:
        frames = list(recording.frames())
    assert 5 <= len(frames) < 30
    assert frames[-1].timestamp_ns == 30 * 10**9


def test_the_calibration_beside_a_recording_is_found_by_serial(zed2i, tmp_path):
    with Svo2Recording(zed2i) as recording:
        assert recording.calibration.serial == "33234316"
        assert recording.calibration.baseline == pytest.approx(0.1198, abs=1e-3)
    alone = tmp_path / "alone.svo2"
    shutil.copy(zed2i, alone)
    with Svo2Recording(alone) as recording:
        assert recording.calibration is None
    with Svo2Recording(alone, calibration_folders=[tmp_path / "none", zed2i.parent]) as recording:
        assert recording.calibration.serial == "33234316"


def test_a_calibration_of_another_camera_is_refused(zed2i, tmp_path):
    other = tmp_path / "SN11111111.conf"
    shutil.copy(zed2i.parent / "SN33234316.conf", other)
    with (
        Svo2Recording(zed2i, calibration_file=other) as recording,
        pytest.raises(CalibrationError, match=r"camera 11111111, but test\.svo2 was recorded by camera 33234316"),
    ):
        _ = recording.calibration


def test_chunks_are_read_in_every_compression(tmp_path):
    from mcap.writer import CompressionType, Writer

    source = grey_recording(tmp_path / "a.svo2", range(10**9, 11 * 10**9, 10**9))
    for compression in CompressionType:
        path = tmp_path / f"{compression.name}.svo2"
        with path.open("wb") as stream, svo2_container.Container(source) as container:
            writer, channels = Writer(stream, compression=compression), {}
            writer.start()
            for message in container.walk():
                channel = message.channel
                if channel.topic not in channels:
                    channels[channel.topic] = writer.register_channel(channel.topic, channel.message_encoding, 0)
                writer.add_message(channels[channel.topic], message.log_time, bytes(message.data), message.log_time)
            writer.finish()
        with Svo2Recording(path) as recording:
            assert len(list(recording.frames())) == recording.metadata.frame_count == 10
            assert not any("damaged" in warning for warning in recording.metadata.warnings)


def test_messages_outside_of_chunks_are_read(tmp_path):
    from mcap.writer import Writer

    source = grey_recording(tmp_path / "a.svo2", range(10**9, 11 * 10**9, 10**9))
    path = tmp_path / "plain.svo2"
    with path.open("wb") as stream, svo2_container.Container(source) as container:
        writer, channels = Writer(stream, use_chunking=False), {}
        writer.start()
        for message in container.walk():
            topic = message.channel.topic
            if topic not in channels:
                channels[topic] = writer.register_channel(topic, "", 0)
            writer.add_message(channels[topic], message.log_time, bytes(message.data), message.log_time)
        writer.finish()
    with Svo2Recording(path) as recording:
        assert [frame.index for frame in recording.frames([2, 7])] == [2, 7]


def svo2_with_payload(path, payload, width=64, height=48):
    from mcap.writer import Writer

    from pipeline.recordings.svo2_payload import frame_message

    with path.open("wb") as stream:
        writer = Writer(stream)
        writer.start()
        channel = writer.register_channel("Camera_SN1/side_by_side", "", 0)
        message = frame_message(payload, width=2 * width, height=height, timestamp_ns=1, index=0, key=(0, 1))
        writer.add_message(channel, 1, message, 1)
        writer.finish()
    return path


@pytest.mark.parametrize(
    ("payload", "words"),
    [
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "LOSSLESS compression"),
        (b"\x28\xb5\x2f\xfd" + bytes(100), "LOSSLESS compression"),
        (bytes(range(200)), "unknown compression"),
    ],
)
def test_compressions_that_only_the_sdk_knows_are_refused(tmp_path, payload, words):
    with pytest.raises(UnsupportedRecordingError, match=words):
        Svo2Recording(svo2_with_payload(tmp_path / "a.svo2", payload))


def test_svo_version_1_is_refused_by_name(tmp_path):
    path = tmp_path / "old.svo"
    path.write_bytes(bytes.fromhex("f5ffffff00050000d0020000c00a0000") + bytes(5000))
    with pytest.raises(UnsupportedRecordingError, match=r"old\.svo is an SVO file of version 1"):
        Svo2Recording(path)


def test_an_encrypted_recording_is_refused(tmp_path):
    path = tmp_path / "secret.svo2"
    path.write_bytes(np.random.default_rng(1).bytes(100_000))
    with pytest.raises(UnsupportedRecordingError, match="encrypted"):
        Svo2Recording(path)


def test_huge_images_are_refused_before_they_are_decoded(tmp_path):
    start = b"\x00\x00\x00\x01\x67"
    with pytest.raises(RecordingError, match="60000x40000 pixels, more than the 64 megapixels"):
        Svo2Recording(svo2_with_payload(tmp_path / "a.svo2", start + bytes(100), width=60000, height=40000))


def test_a_header_that_lies_about_its_size_does_not_matter(data_folder):
    with Svo2Recording(data_folder / "svo2_like" / "euroc_h264.svo2") as recording:
        assert recording._header.width == 1504
        assert recording.metadata.width == 752


def test_a_huge_chunk_is_taken_for_damage_and_not_allocated(tmp_path):
    path = grey_recording(tmp_path / "a.svo2", range(10**9, 4 * 10**9, 10**9))
    with Svo2Recording(path) as recording:
        chunk = recording._frames[0].chunk
    content = bytearray(path.read_bytes())
    content[chunk + 25 : chunk + 33] = (1 << 40).to_bytes(8, "little")
    write_bytes(path, bytes(content))
    with pytest.raises(RecordingError, match="holds no stereo frames"):
        Svo2Recording(path)


def test_indices_must_ascend(zed2i):
    with Svo2Recording(zed2i) as recording, pytest.raises(IndexError, match="ascend"):
        list(recording.frames([3, 1]))


def test_broken_sensor_rows_are_left_out():
    from pipeline.recordings.svo2_sensors import parse_sensors

    short = json.dumps({"data": base64.b64encode(bytes(100)).decode()}).encode()
    for message in (b"", b"[]", b"{}", b'{"data": 3}', b'{"data": "%%%"}', short, b"\xff\xfe"):
        assert parse_sensors(message, 1) is None
