import shutil

import numpy as np
import pytest

from pipeline.errors import CalibrationError
from pipeline.stereo.calibration import CameraIntrinsics, StereoCalibration
from pipeline.stereo.calibration_files import (
    ZED_RESOLUTIONS,
    find_calibration,
    read_calibration,
    read_euroc_yaml,
    read_json,
    read_kitti_calib,
    read_zed_conf,
    serial_in_name,
    write_json,
    write_zed_conf,
)


@pytest.fixture(scope="module")
def conf(data_folder):
    return data_folder / "svo2_zed2i" / "SN33234316.conf"


def epipolar_error(calibration, left, right):
    """Median |dy| in pixels of SIFT matches after rectification."""
    import cv2

    sift = cv2.SIFT_create(2000)
    (points_l, features_l), (points_r, features_r) = (
        sift.detectAndCompute(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), None) for image in (left, right)
    )
    pairs = cv2.BFMatcher().knnMatch(features_l, features_r, k=2)
    good = [a for a, b in pairs if a.distance < 0.7 * b.distance]
    size = calibration.left.width, calibration.left.height
    cameras = (calibration.left, calibration.right)
    (k1, d1), (k2, d2) = ((camera.matrix, np.array(camera.distortion)) for camera in cameras)
    t = np.array(calibration.translation).reshape(3, 1)
    r1, r2, p1, p2, *_ = cv2.stereoRectify(k1, d1, k2, d2, size, calibration.rotation_matrix, t, alpha=0)
    a = np.array([points_l[m.queryIdx].pt for m in good]).reshape(-1, 1, 2)
    b = np.array([points_r[m.trainIdx].pt for m in good]).reshape(-1, 1, 2)
    a = cv2.undistortPoints(a, k1, d1, R=r1, P=p1)[:, 0]
    b = cv2.undistortPoints(b, k2, d2, R=r2, P=p2)[:, 0]
    return float(np.median(np.abs(a[:, 1] - b[:, 1]))), len(good)


def test_a_zed_conf_aligns_the_rows_of_a_real_recording(data_folder, conf):
    from pipeline.recordings.svo2 import Svo2Recording

    with Svo2Recording(data_folder / "svo2_zed2i" / "test.svo2") as recording:
        frame = next(recording.frames([0]))
    error, matches = epipolar_error(read_zed_conf(conf, 1280, 720), frame.left, frame.right)
    assert matches > 100
    assert error < 0.5


def test_a_zed_conf_is_read_with_its_units_and_signs(conf):
    calibration = read_zed_conf(conf, 1280, 720)
    assert (calibration.left.fx, calibration.right.cy) == (531.53, 370.372)
    np.testing.assert_allclose(calibration.translation, (-0.119815, -0.000406678, 0.000333262))
    assert len(calibration.left.distortion) == 8
    assert calibration.left.distortion[:5] == (-1.58723, 3.13248, -0.000311252, -1.34296e-05, 0.0889779)
    assert calibration.serial == "33234316"
    import cv2

    vector = cv2.Rodrigues(calibration.rotation_matrix)[0].ravel()
    np.testing.assert_allclose(vector, (0.015477, 0.00703818, 0.000325085), rtol=1e-9)


@pytest.mark.parametrize(("size", "fx"), [((2208, 1242), 1063.06), ((1920, 1080), 1063.06), ((672, 376), 265.765)])
def test_every_resolution_has_its_own_section(conf, size, fx):
    calibration = read_zed_conf(conf, *size)
    assert (calibration.left.fx, calibration.left.width, calibration.left.height) == (fx, *size)


def test_a_resolution_without_section_is_scaled_from_one_of_its_shape(conf):
    calibration = read_zed_conf(conf, 640, 360)
    assert calibration.left.fx == pytest.approx(531.53 / 2)
    with pytest.raises(CalibrationError, match="no calibration for images of 500x500"):
        read_zed_conf(conf, 500, 500)


def test_without_the_rational_model_five_parameters_are_used(conf, tmp_path):
    text = conf.read_text()
    path = tmp_path / "SN1.conf"
    path.write_text(text[: text.index("[LEFT_DISTO]")] + text[text.index("[STEREO]") :])
    assert read_zed_conf(path, 1280, 720).left.distortion == (
        -0.0671222,
        0.0471465,
        -0.000184529,
        0.000530862,
        -0.0188766,
    )


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("Baseline=119.815", "", r"SN7\.conf lacks Baseline in \[STEREO\]"),
        ("Baseline=119.815", "Baseline=twelve", "Baseline in .STEREO. is 'twelve' instead of a number"),
        ("Baseline=119.815", "Baseline=0", "Baseline in .STEREO. is 0 mm"),
        ("Baseline=119.815", "Baseline=nan", "is not finite"),
        ("fx=531.53", "", "lacks fx in .LEFT_CAM_HD."),
        ("fx=531.53", "fx=-1", "focal lengths must be positive"),
        ("RX_HD=0.015477", "", "lacks RX_HD"),
        ("[RIGHT_CAM_HD]", "[RIGHT_CAM_XX]", "has no section .RIGHT_CAM_HD."),
        ("[STEREO]", "[MONO]", "has no section .STEREO."),
        ("[LEFT_CAM_2K]", "rubbish", "is not a ZED calibration file"),
    ],
)
def test_a_malformed_conf_is_told_by_file_and_value(conf, tmp_path, old, new, words):
    path = tmp_path / "SN7.conf"
    assert old in conf.read_text()
    path.write_text(conf.read_text().replace(old, new))
    with pytest.raises(CalibrationError, match=words):
        read_zed_conf(path, 1280, 720)


@pytest.mark.parametrize("content", [b"", b"\x00\xff\xfe\x80" * 50, b"hello"])
def test_what_is_no_calibration_is_refused(tmp_path, content):
    for name in ("a.conf", "a.txt", "a.json", "sensor.yaml"):
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(CalibrationError, match=name):
            read_calibration(path, 1280, 720)


def rotated(distortion=()):
    import cv2

    rotation = cv2.Rodrigues(np.array([0.01, -0.02, 0.003]))[0]
    return StereoCalibration(
        CameraIntrinsics(1280, 720, 700.1, 700.2, 640.3, 360.4, distortion),
        CameraIntrinsics(1280, 720, 701.1, 701.2, 641.3, 361.4, distortion),
        tuple(map(float, rotation.ravel())),
        (-0.12, 0.001, -0.002),
        serial="12345678",
    )


@pytest.mark.parametrize("distortion", [(), (0.1, 0.2, 0.3, 0.4, 0.5), (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)])
def test_a_zed_conf_is_read_as_it_was_written(tmp_path, distortion):
    path = tmp_path / "SN12345678.conf"
    write_zed_conf(rotated(distortion), path)
    read = read_zed_conf(path, 1280, 720)
    assert read.left.matrix.tolist() == rotated().left.matrix.tolist()
    assert read.left.distortion == (distortion or (0, 0, 0, 0, 0))
    np.testing.assert_allclose(read.rotation, rotated().rotation, atol=1e-12)
    np.testing.assert_allclose(read.translation, rotated().translation, atol=1e-12)


def test_json_is_read_as_it_was_written(tmp_path):
    path = tmp_path / "calibration.json"
    write_json(rotated((0.1, 0.2, 0.3, 0.4, 0.5)), path)
    read = read_json(path)
    assert (read.left, read.right, read.rotation, read.translation, read.serial) == (
        rotated((0.1, 0.2, 0.3, 0.4, 0.5)).left,
        rotated((0.1, 0.2, 0.3, 0.4, 0.5)).right,
        rotated().rotation,
        rotated().translation,
        "12345678",
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d.pop("left"), "lacks left"),
        (lambda d: d["left"].pop("fx"), "lacks fx of left"),
        (lambda d: d.pop("translation"), "lacks translation"),
        (lambda d: d.update(rotation=[1] * 9), "not a rotation matrix"),
        (lambda d: d["right"].update(distortion=[1, 2]), "must hold 0, 4, 5 or 8"),
        (lambda d: d["right"].update(width=0), "must be positive"),
        (lambda d: d.update(translation=[None, 0, 0]), "instead of a number"),
    ],
)
def test_a_malformed_json_is_told_by_its_value(tmp_path, change, words):
    import json

    path = tmp_path / "calibration.json"
    write_json(rotated(), path)
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))
    with pytest.raises(CalibrationError, match=words):
        read_json(path)


def test_kitti_gives_the_rectified_colour_pair(data_folder):
    odometry = read_kitti_calib(data_folder / "kitti_vo00" / "calib.txt", 1241, 376)
    assert odometry.rectified
    assert odometry.baseline == pytest.approx((45.38225 + 337.2877) / 718.856)
    assert (odometry.left.fx, odometry.left.cx, odometry.left.cy) == (718.856, 607.1928, 185.2157)
    single = read_kitti_calib(data_folder / "kitti_object" / "calib" / "000002.txt", 1242, 375)
    assert 0.5 < single.baseline < 0.56


def test_a_kitti_file_without_right_camera_is_refused(data_folder, tmp_path):
    path = tmp_path / "calib.txt"
    text = (data_folder / "kitti_vo00" / "calib.txt").read_text()
    path.write_text("\n".join(line for line in text.splitlines() if not line.startswith("P3")))
    with pytest.raises(CalibrationError, match=r"calib\.txt lacks P3"):
        read_kitti_calib(path, 1241, 376)


def test_euroc_gives_the_pose_of_the_right_camera(data_folder):
    root = data_folder / "euroc_micro" / "mav0"
    calibration = read_euroc_yaml(root / "cam0" / "sensor.yaml", root / "cam1" / "sensor.yaml")
    # The published baseline of this rig is 11 cm along x.
    np.testing.assert_allclose(calibration.translation, (-0.110, 0.0004, -0.0009), atol=1e-3)
    assert np.degrees(np.arccos((np.trace(calibration.rotation_matrix) - 1) / 2)) < 1.5
    assert (calibration.left.fx, calibration.left.distortion[4]) == (458.654, 0)


def test_euroc_rows_align_after_rectification(data_folder):
    import cv2

    root = data_folder / "euroc_micro" / "mav0"
    calibration = read_euroc_yaml(root / "cam0" / "sensor.yaml", root / "cam1" / "sensor.yaml")
    name = "1403715273262142976.png"
    images = [cv2.imread(str(root / camera / "data" / name)) for camera in ("cam0", "cam1")]
    error, matches = epipolar_error(calibration, *images)
    assert matches > 100
    assert error < 0.6


def test_a_calibration_is_found_beside_the_recording_then_in_folders(conf, tmp_path):
    videos, folder = tmp_path / "videos", tmp_path / "calibrations"
    videos.mkdir()
    folder.mkdir()
    recording = videos / "walk.svo2"
    recording.touch()
    assert find_calibration(recording, "33234316", [folder], 1280, 720) is None
    shutil.copy(conf, folder)
    assert find_calibration(recording, "33234316", [folder], 1280, 720).serial == "33234316"
    assert find_calibration(recording, "999", [folder], 1280, 720) is None
    write_zed_conf(rotated(), videos / "walk.conf")
    assert find_calibration(recording, "33234316", [folder], 1280, 720).left.fx == 700.1


def test_a_recording_without_serial_takes_the_only_conf_beside_it(conf, tmp_path):
    recording = tmp_path / "walk.mp4"
    shutil.copy(conf, tmp_path)
    assert find_calibration(recording, "", [], 1280, 720).serial == "33234316"
    write_zed_conf(rotated(), tmp_path / "SN12345678.conf")
    assert find_calibration(recording, "", [], 1280, 720) is None


def test_a_conf_of_another_serial_is_refused(conf, tmp_path):
    with pytest.raises(
        CalibrationError, match=r"SN33234316\.conf is the calibration of camera 33234316, but walk\.svo2"
    ):
        find_calibration(tmp_path / "walk.svo2", "111", [], 1280, 720, calibration_file=conf)


def test_a_missing_calibration_file_is_told(tmp_path):
    with pytest.raises(CalibrationError, match=r"SN9\.conf cannot be read: No such file"):
        find_calibration(tmp_path / "a.svo2", "9", [], 1280, 720, calibration_file=tmp_path / "SN9.conf")


@pytest.mark.parametrize(
    ("name", "serial"),
    [("walk_SN12345678.mp4", "12345678"), ("SN0042000.avi", "42000"), ("isn1234.mp4", ""), ("a.mp4", "")],
)
def test_a_serial_is_read_from_the_name(tmp_path, name, serial):
    assert serial_in_name(tmp_path / name) == serial


def test_no_two_zed_resolutions_are_the_same():
    assert len(set(ZED_RESOLUTIONS.values())) == len(ZED_RESOLUTIONS)
