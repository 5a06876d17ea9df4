import numpy as np
import pytest

from pipeline.errors import CalibrationError
from pipeline.geometry.kitti import (
    KittiCalibration,
    KittiObject,
    LabelError,
    format_labels,
    read_labels,
    read_velodyne,
    velodyne_bytes,
)
from pipeline.geometry.pointcloud import (
    VELODYNE_FROM_CAMERA,
    back_project,
    camera_to_velodyne,
    velodyne_points,
    velodyne_to_camera,
)
from pipeline.stereo.camera import RectifiedCamera

CAMERA = RectifiedCamera(8, 6, 10.0, 12.0, 3.5, 2.5, baseline=0.12, metric=True)


def test_real_label_files_are_the_same_after_reading_and_writing(data_folder):
    for path in sorted((data_folder / "kitti_object" / "label_2").glob("*.txt")):
        written = format_labels(read_labels(path)).split()
        original = path.read_text().split()
        assert len(written) == len(original)
        for ours, theirs in zip(written, original, strict=True):
            assert ours == theirs or float(ours) == float(theirs)


def test_an_object_without_a_box_has_the_values_kitti_gives_the_unknown():
    line = KittiObject("traffic cone", 0.0, 3, -10.0, (1.0, 2.0, 3.0, 4.5), score=0.25).line()
    assert line == "traffic_cone 0.00 3 -10.00 1.00 2.00 3.00 4.50 " + (
        "-1.00 -1.00 -1.00 -1000.00 -1000.00 -1000.00 -10.00 0.2500"
    )
    parsed = KittiObject.parse(line)
    assert not parsed.has_box_3d
    assert parsed.score == 0.25


@pytest.mark.parametrize("line", ["Car 0 0", "Car 0 0 x 1 2 3 4 1 1 1 1 1 1 1", "Car" + " 1" * 17])
def test_a_broken_label_names_file_and_line(tmp_path, line):
    path = tmp_path / "000001.txt"
    path.write_text(f"\n{line}\n")
    with pytest.raises(LabelError, match=r"000001\.txt, line 2"):
        read_labels(path)


def test_real_calibration_files_are_the_same_after_reading_and_writing(data_folder, tmp_path):
    path = data_folder / "kitti_object" / "calib" / "000000.txt"
    text = KittiCalibration.read(path).text()
    assert text.split() == path.read_text().split()


def test_our_calibration_maps_our_clouds_into_our_images(tmp_path):
    path = tmp_path / "000000.txt"
    path.write_text(KittiCalibration.from_camera(CAMERA).text())
    calibration = KittiCalibration.read(path)
    depth = np.full((6, 8), np.nan, np.float32)
    depth[4, 6] = 2.0
    cloud = velodyne_points(depth, np.full((6, 8), 51, np.uint8), CAMERA)
    in_camera = calibration.velodyne_to_rectified(cloud[:, :3])
    assert calibration.project(in_camera) == pytest.approx(np.array([[6.0, 4.0]]), abs=1e-5)
    assert cloud[0, 3] == pytest.approx(0.2)
    right = in_camera @ calibration.p3[:, :3].T + calibration.p3[:, 3]
    assert 6.0 - right[0, 0] / right[0, 2] == pytest.approx(10.0 * 0.12 / 2.0)


@pytest.mark.parametrize(("text", "words"), [("P0: 1 2 3", "P0 is not 12 numbers"), ("", "P0 is missing")])
def test_a_broken_calibration_names_file_and_entry(tmp_path, text, words):
    (tmp_path / "calib.txt").write_text(text)
    with pytest.raises(CalibrationError, match=rf"calib\.txt: {words}"):
        KittiCalibration.read(tmp_path / "calib.txt")


def test_clouds_are_float32_rows_of_four(tmp_path, data_folder):
    cloud = np.arange(12, dtype=np.float32).reshape(3, 4)
    (tmp_path / "a.bin").write_bytes(velodyne_bytes(cloud))
    assert np.array_equal(read_velodyne(tmp_path / "a.bin"), cloud)
    assert read_velodyne(data_folder / "kitti_object" / "velodyne" / "000000.bin").shape[1] == 4
    (tmp_path / "b.bin").write_bytes(b"\0" * 17 * 4)
    with pytest.raises(LabelError, match=r"b\.bin"):
        read_velodyne(tmp_path / "b.bin")


def test_a_dense_depth_map_is_thinned_to_the_limit():
    depth = np.ones((300, 400), np.float32)
    camera = RectifiedCamera(400, 300, 300.0, 300.0, 200.0, 150.0, baseline=0.1, metric=True)
    cloud = velodyne_points(depth, np.zeros((300, 400), np.uint8), camera, max_points=10_000)
    assert 5_000 < len(cloud) <= 10_100


def test_back_projection_takes_only_known_depths_inside_the_mask():
    depth = np.array([[1.0, np.nan], [2.0, 4.0]], np.float32)
    mask = np.array([[True, True], [False, True]])
    points = back_project(depth, CAMERA, mask)
    assert points == pytest.approx(np.array([[-0.35, -2.5 / 12, 1.0], [-1.0, -0.5, 4.0]]))
    assert len(back_project(depth, CAMERA, stride=2)) == 1


def test_the_axes_of_camera_and_velodyne_are_inverse_to_each_other():
    points = np.random.default_rng(0).normal(size=(5, 3))
    assert velodyne_to_camera(camera_to_velodyne(points)) == pytest.approx(points)
    assert camera_to_velodyne(points) == pytest.approx(points @ VELODYNE_FROM_CAMERA.T)
