"""Whatever is thrown at the readers, they read it or refuse it in one sentence, in seconds, and do not crash."""

import os
import shutil
import time
from pathlib import Path

import pytest

from pipeline.errors import RecordingError
from pipeline.recordings import kind_of, open_recording
from pipeline.recordings.images import SUFFIXES

FOLDER = (
    Path(os.environ.get("FOVEA_TEST_DATA") or Path(__file__).resolve().parents[4] / "shared" / "data") / "bad_files"
)
FILES = sorted(path for path in FOLDER.rglob("*") if path.is_file()) if FOLDER.is_dir() else []
PATIENCE_S = 8


def read_or_refuse(path, **options):
    """The number of frames read, or the sentence of the refusal."""
    started = time.monotonic()
    try:
        with open_recording(path, **options) as recording:
            frames = sum(1 for _ in recording.frames())
            rows = sum(1 for _ in recording.imu())
            assert recording.metadata.frame_count >= frames > 0
            assert recording.metadata.imu_count >= rows
            outcome = frames
    except RecordingError as error:
        outcome = str(error)
        assert outcome.endswith((".", ")"))
        assert "\n" not in outcome
        assert path.name in outcome or any(file.name in outcome for file in path.iterdir())
    assert time.monotonic() - started < PATIENCE_S
    return outcome


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_bad_file_is_read_or_refused(path):
    outcome = read_or_refuse(path)
    if kind_of(path) is None:
        assert isinstance(outcome, str)


@pytest.mark.parametrize("suffix", [".svo2", ".mp4", ".svo", ".mkv"])
@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_bad_file_under_a_wrong_name_is_read_or_refused(path, suffix, tmp_path):
    wrong = tmp_path / f"wrong{suffix}"
    wrong.symlink_to(path)
    read_or_refuse(wrong)


@pytest.mark.parametrize("path", [p for p in FILES if p.parent.name == "pillow"], ids=lambda path: path.name)
def test_a_bad_image_in_a_folder_is_read_or_left_out(path, tmp_path):
    for suffix in {path.suffix.lower(), ".png", ".tif"} & SUFFIXES:
        shutil.copy(path, tmp_path / f"bad{suffix}")
    read_or_refuse(tmp_path, kind="images")


@pytest.mark.parametrize("seed", range(12))
def test_an_svo2_with_random_damage_is_read_or_refused(data_folder, tmp_path, seed):
    import numpy as np

    random = np.random.default_rng(seed)
    content = bytearray((data_folder / "svo2_like" / "euroc_h264.svo2").read_bytes())
    for position in random.integers(0, len(content), 40):
        content[position] = random.integers(0, 256)
    if seed % 3 == 0:
        del content[int(random.integers(len(content))) :]
    path = tmp_path / "damaged.svo2"
    path.write_bytes(content)
    read_or_refuse(path)


@pytest.mark.parametrize("seed", range(8))
def test_an_svo2_with_damaged_head_is_read_or_refused(data_folder, tmp_path, seed):
    import numpy as np

    random = np.random.default_rng(100 + seed)
    content = bytearray((data_folder / "svo2_zed2i" / "test.svo2").read_bytes())
    for position in random.integers(8, 200, 3):
        content[position] = random.integers(0, 256)
    path = tmp_path / "damaged.svo2"
    path.write_bytes(content)
    read_or_refuse(path)


@pytest.mark.parametrize("seed", range(8))
def test_a_video_with_random_damage_is_read_or_refused(data_folder, tmp_path, seed):
    import numpy as np

    random = np.random.default_rng(seed)
    content = bytearray((data_folder / "shots_opencast" / "test-optimization.mp4").read_bytes())
    for position in random.integers(0, len(content), 60):
        content[position] = random.integers(0, 256)
    path = tmp_path / "damaged.mp4"
    path.write_bytes(content)
    read_or_refuse(path)


def test_an_unreadable_file_is_refused(tmp_path):
    path = tmp_path / "folder.svo2"
    path.mkdir()
    with pytest.raises(RecordingError, match=r"folder\.svo2"):
        open_recording(path)
