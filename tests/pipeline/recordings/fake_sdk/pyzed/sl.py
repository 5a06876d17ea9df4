"""The part of `pyzed.sl` the reader uses, with the signatures of the real one; `FAKE_ZED_API` is "4.0", "4.2" or "5.3".

`FAKE_ZED_FAULT` makes it misbehave as the real one was seen to: "hang", "crash", "refuse", "corrupt" (frame 2),
"hang-once" (frame 2), "hang-later" (from frame 2 on), "crash-later" (frame 3).
"""

import enum
import os
import sys
import time
from types import SimpleNamespace

import numpy as np

API = tuple(int(part) for part in os.environ["FAKE_ZED_API"].split("."))
FAULT = os.environ.get("FAKE_ZED_FAULT", "")
WIDTH, HEIGHT, FRAMES = 64, 48, 5

_codes = {"SUCCESS": 0, "FAILURE": 1, "INVALID_SVO_FILE": 24, "END_OF_SVOFILE_REACHED": 36}
if API >= (4, 2):
    _codes |= {"CONFIGURATION_FALLBACK": -4, "CORRUPTED_FRAME": -2}


class _Comparable(enum.Enum):
    def __lt__(self, other):
        return self.value < other.value

    def __le__(self, other):
        return self.value <= other.value


ERROR_CODE = (_Comparable if API >= (5, 0) else enum.Enum)("ERROR_CODE", _codes)
_modes = ["NONE", "PERFORMANCE", "QUALITY", "ULTRA", "NEURAL"]
_modes += ["NEURAL_PLUS"] if API >= (4, 1) else []
DEPTH_MODE = enum.Enum("DEPTH_MODE", _modes)
UNIT = enum.Enum("UNIT", ["MILLIMETER", "METER"])
COORDINATE_SYSTEM = enum.Enum("COORDINATE_SYSTEM", ["IMAGE", "LEFT_HANDED_Y_UP"])
VIEW = enum.Enum("VIEW", ["LEFT", "RIGHT", "LEFT_UNRECTIFIED", "RIGHT_UNRECTIFIED"])
MEASURE = enum.Enum("MEASURE", ["DISPARITY", "DEPTH", "XYZRGBA"])
MEM = enum.Enum("MEM", ["CPU", "GPU"])
TIME_REFERENCE = enum.Enum("TIME_REFERENCE", ["IMAGE", "CURRENT"])
MODEL = enum.Enum("MODEL", ["ZED", "ZED_M", "ZED2", "ZED2i"])


class InitParameters:
    def __init__(self):
        self.svo_real_time_mode = True
        self.depth_mode = DEPTH_MODE.PERFORMANCE if API < (5, 0) else DEPTH_MODE.NEURAL
        self.coordinate_units = UNIT.MILLIMETER
        self.coordinate_system = COORDINATE_SYSTEM.IMAGE
        self.optional_settings_path = ""
        self.path = ""

    def set_from_svo_file(self, svo_input_filename):
        assert isinstance(svo_input_filename, str)
        self.path = svo_input_filename


class RuntimeParameters:
    pass


class Mat:
    def __init__(self):
        self._data = np.zeros((0, 0))

    def get_data(self, memory_type=MEM.CPU, deep_copy=False):
        return self._data


class Timestamp:
    def __init__(self, nanoseconds):
        self._nanoseconds = nanoseconds

    def get_nanoseconds(self):
        return self._nanoseconds


class SensorsData:
    def __init__(self):
        self.index = 0

    def get_imu_data(self):
        orientation = SimpleNamespace(get=lambda: np.array([0.0, 0.0, 0.0, 1.0]))
        return SimpleNamespace(
            timestamp=Timestamp(1_000 + self.index),
            get_angular_velocity=lambda: [180.0, 0.0, float(self.index)],
            get_linear_acceleration=lambda: [0.0, -9.81, 0.0],
            get_pose=lambda: SimpleNamespace(get_orientation=lambda: orientation),
        )


class Camera:
    def __init__(self):
        self._at = 0
        self._frame = -1

    def open(self, py_init=None):
        sys.stdout.write("[ZED][INFO] logging to standard output, as the SDK does\n")
        sys.stdout.flush()
        if FAULT == "hang":
            time.sleep(600)
        if FAULT == "crash":
            os.abort()
        if FAULT == "refuse":
            return ERROR_CODE.INVALID_SVO_FILE
        assert not py_init.svo_real_time_mode, "real-time mode drops frames"
        assert py_init.coordinate_units is UNIT.METER
        self._init = py_init
        return ERROR_CODE.CONFIGURATION_FALLBACK if API >= (4, 2) else ERROR_CODE.SUCCESS

    def close(self):
        sys.stdout.write("[ZED][INFO] closed\n")

    def get_svo_number_of_frames(self):
        return FRAMES

    def set_svo_position(self, frame_number):
        self._at = frame_number
        return ERROR_CODE.SUCCESS if API >= (5, 2) else None

    def grab(self, py_runtime=None):
        if self._at >= FRAMES:
            return ERROR_CODE.END_OF_SVOFILE_REACHED
        self._frame, self._at = self._at, self._at + 1
        if FAULT == "corrupt" and self._frame == 2:
            return ERROR_CODE.CORRUPTED_FRAME if API >= (4, 2) else ERROR_CODE.FAILURE
        if (FAULT == "hang-once" and self._frame == 2) or (FAULT == "hang-later" and self._frame >= 2):
            time.sleep(600)
        if FAULT == "crash-later" and self._frame == 3:
            os.abort()
        return ERROR_CODE.SUCCESS

    def retrieve_image(self, py_mat, view=VIEW.LEFT, mem_type=MEM.CPU, resolution=None):
        bgra = np.full((HEIGHT, WIDTH, 4), 10 * self._frame, np.uint8)
        bgra[..., 1] += 100 if view is VIEW.RIGHT else 0
        bgra[..., 3] = 255
        py_mat._data = bgra
        return ERROR_CODE.SUCCESS

    def retrieve_measure(self, py_mat, measure=MEASURE.DEPTH, mem_type=MEM.CPU, resolution=None):
        depth = np.full((HEIGHT, WIDTH), 2.0 + self._frame, np.float32)
        depth[0, :4] = (np.nan, np.inf, -np.inf, 0)
        py_mat._data = depth
        return ERROR_CODE.SUCCESS

    def get_timestamp(self, time_reference):
        assert time_reference is TIME_REFERENCE.IMAGE
        return Timestamp(1_000_000_000 + self._frame * 66_666_667)

    def get_sensors_data(self, py_sensors_data, time_reference=TIME_REFERENCE.CURRENT):
        py_sensors_data.index = self._frame
        return ERROR_CODE.SUCCESS

    def get_sdk_version(self):
        return os.environ["FAKE_ZED_API"]

    def get_camera_information(self, resolution=None):
        eye = SimpleNamespace(fx=500.0, fy=500.0, cx=31.5, cy=23.5, disto=[0.0] * 12)
        calibration = SimpleNamespace(left_cam=eye, right_cam=eye, get_camera_baseline=lambda: 0.12)
        return SimpleNamespace(
            serial_number=33234316,
            camera_model=MODEL.ZED2i,
            camera_configuration=SimpleNamespace(
                resolution=SimpleNamespace(width=WIDTH, height=HEIGHT), fps=15.0, calibration_parameters=calibration
            ),
        )
