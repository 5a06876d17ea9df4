import cv2
import numpy as np
import pytest

from pipeline.errors import RecordingError
from pipeline.recordings.base import Recording
from pipeline.recordings.images import ImagesRecording, natural_key
from pipeline.recordings.opening import probe


def save(path, value, size=(40, 30)):
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((size[1], size[0], 3), value, np.uint8))
    return path


def test_images_come_in_natural_order(tmp_path):
    for number in (10, 2, 1, 33):
        save(tmp_path / f"frame{number}.png", number)
    with ImagesRecording(tmp_path) as recording:
        assert isinstance(recording, Recording)
        assert [int(frame.left[0, 0, 0]) for frame in recording.frames()] == [1, 2, 10, 33]
        assert [frame.index for frame in recording.frames([1, 3])] == [1, 3]
        assert (recording.metadata.frame_count, recording.metadata.width, recording.metadata.height) == (4, 40, 30)
        assert not recording.metadata.stereo
        assert recording.calibration is None


def test_names_of_digits_and_letters_compare(tmp_path):
    names = ["a1b2.png", "a1.png", "1a.png", "b.png", "a01c.png"]
    assert sorted(names, key=lambda name: natural_key(tmp_path / name))[0] == "1a.png"


def test_names_that_are_times_are_taken_for_times(tmp_path):
    times = [1403715273262142976, 1403715273312143104, 1403715273362142976]
    for time in times:
        save(tmp_path / f"{time}.png", 5)
    with ImagesRecording(tmp_path) as recording:
        assert [frame.timestamp_ns for frame in recording.frames()] == times
        assert recording.metadata.fps == pytest.approx(20, abs=0.01)


def test_broken_and_odd_images_are_left_out_and_told(tmp_path):
    for number in range(4):
        save(tmp_path / f"{number}.png", number)
    save(tmp_path / "4.png", 4, size=(20, 20))
    (tmp_path / "5.png").write_bytes((tmp_path / "1.png").read_bytes()[:60])
    (tmp_path / "6.jpg").touch()
    (tmp_path / "notes.txt").write_text("no image")
    with ImagesRecording(tmp_path) as recording:
        assert recording.metadata.frame_count == len(list(recording.frames())) == 4
        broken, odd = recording.metadata.warnings
    assert "5.png" in broken
    assert "and 1 more; left out" in broken
    assert "1 images are not of 40x30 pixels" in odd


def test_images_are_turned_upright(tmp_path):
    from PIL import Image

    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 30)).save(tmp_path / "a.jpg", exif=exif)
    with ImagesRecording(tmp_path) as recording:
        assert (recording.metadata.width, recording.metadata.height) == (30, 40)
        assert next(recording.frames()).left.shape == (40, 30, 3)


def test_a_folder_without_images_is_refused(tmp_path):
    with pytest.raises(RecordingError, match="holds no readable image"):
        ImagesRecording(tmp_path)


def test_a_forged_header_of_a_huge_image_is_refused_before_decoding(tmp_path):
    import struct
    import zlib

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    size = struct.pack(">II", 60_000, 60_000)
    png = (
        chunk(b"IHDR", size + bytes((8, 2, 0, 0, 0))) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )
    (tmp_path / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + png)
    with pytest.raises(RecordingError, match=r"bomb\.png is larger than the limit"):
        ImagesRecording(tmp_path)


def test_a_link_that_leads_out_is_not_followed(tmp_path):
    save(tmp_path / "private" / "secret.png", 9)
    folder = tmp_path / "shared" / "walk"
    for number in range(3):
        save(folder / f"{number}.png", number)
    with ImagesRecording(folder) as recording:
        (folder / "1.png").unlink()
        (folder / "1.png").symlink_to(tmp_path / "private" / "secret.png")
        frames = recording.frames()
        assert next(frames).index == 0
        with pytest.raises(RecordingError, match=r"walk: 1.png is a link that leads out"):
            next(frames)
    with pytest.raises(RecordingError, match=r"walk: 1.png is a link that leads out"):
        probe(folder)


def test_a_link_to_a_neighbour_and_a_linked_folder_are_followed(tmp_path):
    save(tmp_path / "shared" / "all" / "7.png", 7)
    folder = tmp_path / "shared" / "walk"
    folder.mkdir()
    (folder / "0.png").symlink_to("../all/7.png")
    (tmp_path / "link").symlink_to(folder)
    with ImagesRecording(tmp_path / "link") as recording:
        assert [int(frame.left[0, 0, 0]) for frame in recording.frames()] == [7]
