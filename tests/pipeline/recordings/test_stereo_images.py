import shutil

import cv2
import numpy as np
import pytest

from pipeline.errors import RecordingError
from pipeline.recordings.base import Recording
from pipeline.recordings.opening import probe
from pipeline.recordings.stereo_images import StereoImagesRecording
from tests.pipeline.recordings.test_images import save


def test_kitti_odometry_is_read(data_folder):
    with StereoImagesRecording(data_folder / "kitti_vo00") as recording:
        assert isinstance(recording, Recording)
        metadata, frames, calibration = recording.metadata, list(recording.frames()), recording.calibration
    assert (metadata.frame_count, metadata.width, metadata.height, metadata.fps) == (5, 1241, 376, 10)
    assert [frame.timestamp_ns for frame in frames] == [0, 100_000_000, 200_000_000, 300_000_000, 400_000_000]
    expected = cv2.imread(str(sorted((data_folder / "kitti_vo00" / "image_3").iterdir())[2]))
    np.testing.assert_array_equal(frames[2].right, expected)
    assert calibration.rectified
    assert calibration.baseline == pytest.approx(0.5323, abs=1e-3)


def test_euroc_is_read(data_folder):
    with StereoImagesRecording(data_folder / "euroc_micro") as recording:
        metadata, frames, rows = recording.metadata, list(recording.frames()), list(recording.imu())
        calibration = recording.calibration
    assert (metadata.frame_count, metadata.width, metadata.height, metadata.imu_count) == (20, 752, 480, 211)
    assert metadata.fps == pytest.approx(20, abs=0.01)
    assert (len(frames), frames[0].timestamp_ns, len(rows)) == (20, 1403715273262142976, 211)
    assert calibration.baseline == pytest.approx(0.110, abs=1e-3)


def test_inertial_values_of_euroc_are_in_the_axes_of_the_left_image(data_folder):
    with StereoImagesRecording(data_folder / "euroc_micro" / "mav0") as recording:
        mean = np.mean([row.acceleration for row in recording.imu()], axis=0)
    # The rig is held upright: what gravity is felt as lies along -y of the image, tilted about 20 degrees.
    assert mean[1] < -8.5
    assert 9 < np.linalg.norm(mean) < 11


def test_kitti_object_takes_the_calibration_that_most_pairs_share(data_folder, tmp_path):
    source = data_folder / "kitti_object"
    for name in ("image_2", "image_3"):
        shutil.copytree(source / "image_2", tmp_path / name)
    shutil.copytree(source / "calib", tmp_path / "calib")
    with StereoImagesRecording(tmp_path) as recording:
        metadata, calibration = recording.metadata, recording.calibration
    assert (metadata.frame_count, metadata.width) == (4, 1242)
    assert "1 pairs have another calibration than most and were left out" in metadata.warnings[0]
    assert calibration.left.fx == pytest.approx(721.5377)


def test_pairs_without_partner_or_with_a_broken_image_are_left_out(tmp_path):
    for number in range(5):
        save(tmp_path / "left" / f"{number}.png", number)
        save(tmp_path / "right" / f"{number}.png", 100 + number)
    (tmp_path / "right" / "0.png").unlink()
    (tmp_path / "left" / "3.png").write_bytes(b"nonsense")
    (tmp_path / "times.txt").write_text("0.0\n0.5\n1.0\n1.5\n2.0\n")
    with StereoImagesRecording(tmp_path) as recording:
        frames, metadata = list(recording.frames()), recording.metadata
        assert recording.calibration is None
    assert [(int(f.left[0, 0, 0]), int(f.right[0, 0, 0])) for f in frames] == [(1, 101), (2, 102), (4, 104)]
    assert [frame.timestamp_ns for frame in frames] == [500_000_000, 1_000_000_000, 2_000_000_000]
    assert any("3.png" in warning for warning in metadata.warnings)
    assert any("1 images have no partner" in warning for warning in metadata.warnings)


def test_a_listing_does_not_lead_out_of_its_folder(data_folder, tmp_path):
    root = tmp_path / "mav0"
    shutil.copytree(data_folder / "euroc_micro" / "mav0", root)
    save(tmp_path / "secret.png", 1)
    with (root / "cam0" / "data.csv").open("a") as stream:
        stream.write("1403715279000000000,../../../secret.png\n")
    with StereoImagesRecording(root) as recording:
        assert recording.metadata.frame_count == 20


def test_a_folder_without_layout_is_refused(tmp_path):
    with pytest.raises(RecordingError, match="holds no stereo images"):
        StereoImagesRecording(tmp_path)


@pytest.fixture
def kitti(tmp_path):
    """A folder of two pairs, and a folder outside of what may be read."""
    folder = tmp_path / "shared" / "00"
    for number in range(2):
        save(folder / "image_2" / f"{number}.png", number)
        save(folder / "image_3" / f"{number}.png", 100 + number)
    save(tmp_path / "private" / "1.png", 9)
    (tmp_path / "private" / "times.txt").write_text("0 1")
    return folder


@pytest.mark.parametrize("name", ["image_3/1.png", "image_2/1.png", "times.txt", "calib/1.txt"])
def test_a_file_that_is_a_link_leading_out_is_not_followed(kitti, name):
    file = kitti / name
    file.unlink(missing_ok=True)
    file.parent.mkdir(exist_ok=True)
    file.symlink_to(kitti.parents[1] / "private" / ("1.png" if name.endswith("png") else "times.txt"))
    with pytest.raises(RecordingError, match=f"00: {name} is a link that leads out"):
        probe(kitti)


def test_a_folder_of_one_eye_that_is_a_link_leading_out_is_not_followed(kitti):
    shutil.rmtree(kitti / "image_3")
    (kitti / "image_3").symlink_to(kitti.parents[1] / "private")
    with pytest.raises(RecordingError, match=r"00: image_3/1.png is a link that leads out"):
        probe(kitti)


def test_a_link_put_in_place_later_is_not_followed_either(kitti):
    with StereoImagesRecording(kitti) as recording:
        (kitti / "image_3" / "1.png").unlink()
        (kitti / "image_3" / "1.png").symlink_to(kitti.parents[1] / "private" / "1.png")
        frames = recording.frames()
        assert next(frames).index == 0
        with pytest.raises(RecordingError, match=r"00: image_3/1.png is a link"):
            next(frames)


def test_links_between_the_folders_of_a_recording_are_followed(kitti):
    (kitti / "image_3" / "1.png").unlink()
    (kitti / "image_3" / "1.png").symlink_to("../image_2/1.png")
    with StereoImagesRecording(kitti) as recording:
        assert [int(frame.right[0, 0, 0]) for frame in recording.frames()] == [100, 1]
