import hashlib
import shutil
import subprocess
import sys

import pytest

from pipeline.errors import RecordingError
from pipeline.recordings import fingerprint, kind_of, open_recording, probe
from tests.pipeline.recordings.test_images import save
from tests.pipeline.recordings.test_video import write_video


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("svo2_zed2i/test.svo2", "svo2"),
        ("svo2_like/euroc_h265.svo2", "svo2"),
        ("kitti_vo00", "stereo_images"),
        ("euroc_micro", "stereo_images"),
        ("euroc_micro/mav0", "stereo_images"),
        ("kitti_object", "images"),
        ("kitti_vo00/image_2", "images"),
        ("video_sam2/bedroom.mp4", "video"),
        ("bad_files/mp4/video_90.mov", "video"),
        ("mot15", None),
        ("svo2_zed2i/SN33234316.conf", None),
        ("README.md", None),
        ("does-not-exist.txt", None),
    ],
)
def test_the_kind_is_told_by_names(data_folder, name, kind):
    assert kind_of(data_folder / name) == kind
    if kind:
        assert probe(data_folder / name).kind == kind


@pytest.mark.parametrize(
    ("name", "beside", "kind"),
    [
        ("walk_sbs.mp4", None, "stereo_video"),
        ("walk_side_by_side.mkv", None, "stereo_video"),
        ("walk.mp4", "walk.calibration.json", "stereo_video"),
        ("walk.avi", "walk.conf", "stereo_video"),
        ("walk_SN12345.mp4", "SN12345.conf", "stereo_video"),
        ("walk.mp4", "SN12345.conf", "video"),
        ("walk.mp4", None, "video"),
    ],
)
def test_a_video_is_stereo_if_its_name_or_a_calibration_says_so(tmp_path, name, beside, kind):
    (tmp_path / name).touch()
    if beside:
        (tmp_path / beside).touch()
    assert kind_of(tmp_path / name) == kind


@pytest.mark.parametrize(("size", "kind"), [((160, 48), "stereo_video"), ((128, 96), "video")])
def test_halves_of_an_implausible_shape_are_no_eyes(tmp_path, size, kind):
    path = write_video(tmp_path / "walk_stereo.mp4", [40, 80], size=size)
    assert probe(path).kind == kind
    assert probe(path, kind="stereo_video").kind == "stereo_video"
    assert probe(path, kind="video").kind == "video"


def test_a_calibration_beside_a_side_by_side_video_is_used(data_folder, tmp_path):
    path = write_video(tmp_path / "walk_SN33234316_sbs.mp4", [40, 80], size=(2560, 720))
    shutil.copy(data_folder / "svo2_zed2i" / "SN33234316.conf", tmp_path)
    with open_recording(path) as recording:
        assert (recording.metadata.camera_serial, recording.calibration.left.width) == ("33234316", 1280)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("nothing.txt", b"", r"nothing\.txt is empty"),
        ("notes.txt", b"hello", r"notes\.txt is no recording"),
        ("empty.svo2", b"", r"empty\.svo2 is empty"),
        ("empty.mkv", b"", r"empty\.mkv is empty"),
    ],
)
def test_what_is_no_recording_is_refused_in_a_sentence(tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(RecordingError, match=words):
        open_recording(tmp_path / name)


def test_a_path_that_does_not_exist_is_told(tmp_path):
    with pytest.raises(RecordingError, match=r"gone\.svo2 does not exist"):
        open_recording(tmp_path / "gone.svo2")


def test_an_unknown_kind_is_told(tmp_path):
    (tmp_path / "a.mp4").touch()
    with pytest.raises(RecordingError, match="unknown kind of recording 'hologram'"):
        open_recording(tmp_path / "a.mp4", kind="hologram")


def test_the_fingerprint_of_a_file_is_its_sha256(data_folder):
    expected = "155fb12da63a51854e66095e0ea3abb988af29396b5fa60e3177ab259e316143"
    assert fingerprint(data_folder / "svo2_zed2i" / "test.svo2") == expected


def test_the_fingerprint_of_a_folder_covers_names_and_contents(tmp_path):
    folder, copy = tmp_path / "a", tmp_path / "b"
    save(folder / "x" / "1.png", 1)
    save(folder / "2.png", 2)
    shutil.copytree(folder, copy)
    assert fingerprint(folder) == fingerprint(copy)
    (copy / "2.png").rename(copy / "3.png")
    assert fingerprint(folder) != fingerprint(copy)
    (copy / "3.png").rename(copy / "2.png")
    save(copy / "x" / "1.png", 9)
    assert fingerprint(folder) != fingerprint(copy)
    assert fingerprint(tmp_path / "a" / "2.png") == hashlib.sha256((folder / "2.png").read_bytes()).hexdigest()


def test_nothing_heavy_is_imported_before_a_recording_is_opened():
    program = (
        "import sys; from pathlib import Path; import pipeline.recordings as r; r.kind_of(Path('a.svo2'));"
        "print([m for m in ('cv2', 'av', 'mcap', 'PIL', 'scipy', 'yaml', 'lz4', 'pyzed') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
