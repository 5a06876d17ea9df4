import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from pipeline.recordings.base import ImuSample
from pipeline.stereo.inertial import COLUMNS, Gravity, read_accelerations, write_imu

SECOND = 1_000_000_000


def samples(count: int, acceleration=(0.0, -9.81, 0.0), start: int = 0) -> list[ImuSample]:
    return [
        ImuSample(start + i * SECOND // 100, acceleration, (0.1, 0.0, 0.0), (0.0, 0.0, 0.0, 1.0)) for i in range(count)
    ]


def test_rows_are_written_in_the_axes_of_the_rectified_camera_and_read_back(tmp_path):
    rotation = Rotation.from_euler("x", 90, degrees=True)
    assert write_imu(tmp_path / "imu.csv", samples(5000), rotation.as_matrix()) == 5000
    lines = (tmp_path / "imu.csv").read_text().splitlines()
    assert lines[0] == ",".join(COLUMNS)
    assert len(lines) == 5001
    timestamp, acceleration = next(read_accelerations(tmp_path / "imu.csv"))
    assert timestamp == 0
    assert acceleration == pytest.approx(rotation.apply([0, -9.81, 0]), abs=1e-5)
    # A direction fixed in the world has the same coordinates whichever axes of the camera it is told in.
    orientation = Rotation.from_quat([float(word) for word in lines[1].split(",")[7:]])
    assert orientation.apply(rotation.apply([1, 2, 3])) == pytest.approx([1, 2, 3], abs=1e-5)


def test_a_recording_without_inertial_rows_leaves_no_file(tmp_path):
    assert write_imu(tmp_path / "imu.csv", [], np.eye(3)) == 0
    assert not (tmp_path / "imu.csv").exists()
    assert list(read_accelerations(tmp_path / "imu.csv")) == []


def test_shaking_is_averaged_out_of_gravity():
    shake = [(i * SECOND // 100, (3.0 * (-1) ** i, -9.81, 0.0)) for i in range(200)]
    assert Gravity(shake).down(SECOND) == pytest.approx([0, 1, 0], abs=0.01)


def test_there_is_no_gravity_away_from_the_rows_or_in_free_fall():
    at_rest = Gravity((s.timestamp_ns, s.acceleration) for s in samples(100))
    assert at_rest.down(SECOND // 2) == pytest.approx([0, 1, 0])
    assert at_rest.down(60 * SECOND) is None
    falling = Gravity((s.timestamp_ns, s.acceleration) for s in samples(100, (0.0, -0.5, 0.0)))
    assert falling.down(SECOND // 2) is None
    assert Gravity([]).down(0) is None
