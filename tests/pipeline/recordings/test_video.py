from fractions import Fraction

import av
import numpy as np
import pytest

from pipeline.errors import RecordingError
from pipeline.recordings.base import Recording
from pipeline.recordings.video import DECODE_ALL_BELOW, VideoRecording


def write_video(path, values, *, size=(64, 48), codec="mpeg4", times=None, gop=5):
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        stream.codec_context.gop_size = gop
        stream.codec_context.time_base = Fraction(1, 1000)
        for number, value in enumerate(values):
            image = np.full((size[1], size[0], 3), value, np.uint8)
            image[:, size[0] // 2 :] = 255 - value
            frame = av.VideoFrame.from_ndarray(image, format="bgr24")
            frame.pts = times[number] if times else number * 40
            frame.time_base = Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(
    ("name", "count", "size"),
    [
        ("video_sam2/bedroom.mp4", 200, (960, 540)),
        ("shots_opencast/av1.mp4", 200, (640, 480)),
        ("shots_opencast/test-optimization.mp4", 30, (320, 180)),
        ("shots_composite/composite.mp4", 619, (480, 270)),
        ("urfd_falls/fall-14-cam0.mp4", 61, (640, 240)),
    ],
)
def test_real_videos_are_counted_and_read(data_folder, name, count, size):
    with VideoRecording(data_folder / name) as recording:
        assert isinstance(recording, Recording)
        metadata = recording.metadata
        assert (metadata.kind, metadata.frame_count, (metadata.width, metadata.height)) == ("video", count, size)
        assert metadata.warnings == ()
        last = list(recording.frames([count // 2, count - 1]))
    assert [frame.index for frame in last] == [count // 2, count - 1]
    assert last[1].right is None


def test_a_long_video_is_counted_without_decoding_all_of_it(data_folder, monkeypatch):
    path = data_folder / "video_sam2" / "01_dog.mp4"
    with VideoRecording(path) as recording:
        assert 1280 * 720 * recording.metadata.frame_count > DECODE_ALL_BELOW
    monkeypatch.setattr("pipeline.recordings.video.DECODE_ALL_BELOW", 10**12)
    with VideoRecording(path) as recording:
        assert recording.metadata.frame_count == 289


@pytest.mark.parametrize("suffix", ["mp4", "mov", "avi", "mkv", "webm"])
def test_every_container_is_read(tmp_path, suffix):
    values = list(range(20, 200, 10))
    codec = "libvpx" if suffix == "webm" else "mpeg4"
    path = write_video(tmp_path / f"a.{suffix}", values, codec=codec)
    with VideoRecording(path) as recording:
        frames = list(recording.frames())
        assert recording.metadata.frame_count == len(frames) == len(values)
        assert recording.metadata.fps == pytest.approx(25, abs=0.1)
    for frame, value in zip(frames, values, strict=True):
        assert abs(float(frame.left[24, 8].mean()) - value) < 8


def test_seeking_gives_the_same_as_reading_through(data_folder, monkeypatch):
    with VideoRecording(data_folder / "video_sam2" / "bedroom.mp4") as recording:
        wanted = [3, 70, 71, 180]
        through = {frame.index: frame for frame in recording.frames() if frame.index in wanted}
        sought = list(recording.frames(wanted))
        alone = next(recording.frames([180]))
    assert [frame.index for frame in sought] == wanted
    for frame in (*sought, alone):
        np.testing.assert_array_equal(frame.left, through[frame.index].left)
        assert frame.timestamp_ns == through[frame.index].timestamp_ns


def test_a_variable_frame_rate_keeps_its_times(tmp_path):
    times = [0, 40, 80, 500, 520, 1500]
    path = write_video(tmp_path / "a.mkv", [10, 50, 90, 130, 170, 210], times=times)
    with VideoRecording(path) as recording:
        assert [frame.timestamp_ns for frame in recording.frames()] == [time * 1_000_000 for time in times]
        assert recording.metadata.fps == pytest.approx(5 / 1.5)


def test_a_rotated_video_is_turned_upright(data_folder):
    with VideoRecording(data_folder / "bad_files" / "mp4" / "video_90.mov") as recording:
        assert (recording.metadata.width, recording.metadata.height) == (320, 568)
        assert recording.metadata.extra["rotation"] == 270
        upright = next(recording.frames()).left
    with av.open(str(data_folder / "bad_files" / "mp4" / "video_90.mov")) as container:
        stored = next(container.decode(video=0)).to_ndarray(format="bgr24")
    # A display matrix of -90 degrees asks for a quarter turn clockwise.
    np.testing.assert_array_equal(upright, np.rot90(stored, -1))


def test_a_cut_video_gives_what_lies_before_the_cut(data_folder):
    with VideoRecording(data_folder / "bad_files" / "made_here" / "truncated.mp4") as recording:
        metadata = recording.metadata
        assert metadata.truncated
        assert metadata.frame_count == len(list(recording.frames())) >= 160
        assert metadata.warnings == (f"truncated.mp4 is cut off: {metadata.frame_count} of 289 frames were recovered.",)


def test_a_declared_count_is_not_believed(data_folder):
    with VideoRecording(data_folder / "bad_files" / "mp4" / "corrupted.mp4") as recording:
        assert recording.metadata.extra["declared_frames"] == 50
        assert recording.metadata.frame_count == len(list(recording.frames())) == 49


def test_a_side_by_side_video_gives_two_eyes(tmp_path):
    path = write_video(tmp_path / "a.mp4", [40, 80, 120], size=(128, 48))
    with VideoRecording(path, side_by_side=True) as recording:
        frames = list(recording.frames())
        metadata = recording.metadata
    assert (metadata.kind, metadata.stereo, metadata.width, metadata.height) == ("stereo_video", True, 64, 48)
    for frame, value in zip(frames, (40, 80, 120), strict=True):
        assert abs(float(frame.left[24, 20].mean()) - value) < 8
        assert abs(float(frame.right[24, 40].mean()) - (255 - value)) < 8


def test_a_playlist_in_disguise_is_refused(tmp_path, data_folder):
    path = tmp_path / "list.mp4"
    target = data_folder / "video_sam2" / "bedroom.mp4"
    for content in (f"#EXTM3U\n#EXTINF:1,\n{target}\n", f"ffconcat version 1.0\nfile {target}\n"):
        path.write_text(content)
        with pytest.raises(RecordingError, match="not a readable video"):
            VideoRecording(path)


def test_two_iterations_do_not_disturb_each_other(data_folder):
    with VideoRecording(data_folder / "shots_opencast" / "test-optimization.mp4") as recording:
        pairs = list(zip(recording.frames(), recording.frames(), strict=True))
    assert [first.index for first, _ in pairs] == [second.index for _, second in pairs] == list(range(30))
