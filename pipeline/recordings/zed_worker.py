"""Runs in a process of its own and reads one SVO file through the ZED SDK (`pyzed.sl`, 4.x and 5.x).

The SDK may crash, hang, and log to standard output; opening a file twice in one process crashes it. So requests come as
JSON lines on standard input, and each answer is a u32 length, that many bytes of JSON, then the raw arrays the JSON
describes.
"""

import json
import os
import struct
import sys
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

DEPTH_MODES = ("NEURAL", "ULTRA", "QUALITY", "PERFORMANCE")


class SdkError(Exception):
    """The SDK refused; the message is its error code."""


def succeeded(sl: Any, code: Any) -> bool:
    """Warnings sort below SUCCESS since 4.2; only 5.x compares codes themselves. None: a call without a code."""
    if code is None:
        return True
    return bool(code == sl.ERROR_CODE.SUCCESS or int(code.value) < int(sl.ERROR_CODE.SUCCESS.value))


class Worker:
    """One open camera. `next` is the index that the following grab will give."""

    def __init__(self, sl: Any, request: dict[str, Any]) -> None:
        self.sl = sl
        parameters = sl.InitParameters()
        parameters.set_from_svo_file(request["path"])
        parameters.svo_real_time_mode = False
        parameters.coordinate_units = sl.UNIT.METER
        parameters.coordinate_system = sl.COORDINATE_SYSTEM.IMAGE
        wanted = (request["depth_mode"], *DEPTH_MODES)
        mode = next((name for name in wanted if hasattr(sl.DEPTH_MODE, name)), "NONE")
        parameters.depth_mode = getattr(sl.DEPTH_MODE, mode)
        if request["settings"] and hasattr(parameters, "optional_settings_path"):
            parameters.optional_settings_path = request["settings"]
        self.depth = mode != "NONE"
        self.camera = sl.Camera()
        code = self.camera.open(parameters)
        if not succeeded(sl, code):
            raise SdkError(_code_name(code))
        self.next = 0
        self.runtime = sl.RuntimeParameters()
        self.image, self.measure, self.sensors = sl.Mat(), sl.Mat(), sl.SensorsData()

    def describe(self) -> dict[str, Any]:
        information = self.camera.get_camera_information()
        configuration = information.camera_configuration
        rectified = configuration.calibration_parameters
        left, right = (
            {name: float(getattr(eye, name)) for name in ("fx", "fy", "cx", "cy")}
            for eye in (rectified.left_cam, rectified.right_cam)
        )
        return {
            "frame_count": int(self.camera.get_svo_number_of_frames()),
            "width": int(configuration.resolution.width),
            "height": int(configuration.resolution.height),
            "fps": float(configuration.fps),
            "serial": str(information.serial_number),
            "model": _code_name(information.camera_model),
            "left": left,
            "right": right,
            "baseline": float(rectified.get_camera_baseline()),
            "sdk_version": str(self.camera.get_sdk_version()) if hasattr(self.camera, "get_sdk_version") else "",
        }

    def grab(self, index: int) -> bool:
        """Go to `index`; False where the SDK cannot read that frame."""
        sl = self.sl
        if index != self.next:
            code = self.camera.set_svo_position(index)
            if not succeeded(sl, code):
                return False
        code = self.camera.grab(self.runtime)
        self.next = index + 1
        return succeeded(sl, code) and _code_name(code) != "CORRUPTED_FRAME"

    def frame(self, index: int) -> tuple[dict[str, Any], list[NDArray[Any]]]:
        if not self.grab(index):
            self.next = -1
            return {"readable": False}, []
        sl = self.sl
        arrays: list[NDArray[Any]] = []
        for view in (sl.VIEW.LEFT, sl.VIEW.RIGHT):
            if not succeeded(sl, self.camera.retrieve_image(self.image, view)):
                return {"readable": False}, []
            arrays.append(np.ascontiguousarray(self.image.get_data()[..., :3], np.uint8))
        if self.depth and succeeded(sl, self.camera.retrieve_measure(self.measure, sl.MEASURE.DEPTH)):
            depth = np.array(self.measure.get_data(), np.float32)
            depth[~(np.isfinite(depth) & (depth > 0))] = np.nan
            arrays.append(depth)
        time = self.camera.get_timestamp(sl.TIME_REFERENCE.IMAGE).get_nanoseconds()
        return {"readable": True, "timestamp_ns": int(time)}, arrays

    def inertial(self, index: int) -> dict[str, Any]:
        """The sample nearest to frame `index`, in image axes (the coordinate system asked for); deg/s become rad/s."""
        sl = self.sl
        if not self.grab(index):
            self.next = -1
            return {"readable": False}
        if not succeeded(sl, self.camera.get_sensors_data(self.sensors, sl.TIME_REFERENCE.IMAGE)):
            return {"readable": False}
        imu = self.sensors.get_imu_data()
        rate = np.radians(np.asarray(imu.get_angular_velocity(), np.float64)).tolist()
        acceleration = np.asarray(imu.get_linear_acceleration(), np.float64).tolist()
        orientation = np.asarray(imu.get_pose().get_orientation().get(), np.float64).tolist()
        if not np.isfinite([*rate, *acceleration]).all():
            return {"readable": False}
        return {
            "readable": True,
            "timestamp_ns": int(imu.timestamp.get_nanoseconds()),
            "acceleration": acceleration,
            "angular_velocity": rate,
            "orientation": orientation if np.isfinite(orientation).all() else None,
        }


def _code_name(code: Any) -> str:
    return str(getattr(code, "name", None) or code).rpartition(".")[2]


def answer(stream: IO[bytes], document: dict[str, Any], arrays: list[NDArray[Any]]) -> None:
    document["arrays"] = [{"dtype": array.dtype.str, "shape": array.shape} for array in arrays]
    header = json.dumps(document).encode()
    stream.write(struct.pack("<I", len(header)) + header)
    for array in arrays:
        stream.write(np.ascontiguousarray(array).data)
    stream.flush()


def serve(requests: IO[bytes], answers: IO[bytes]) -> None:
    """Answer until standard input closes; an SDK error is an answer, not an end."""
    worker: Worker | None = None
    for line in requests:
        request = json.loads(line)
        arrays: list[NDArray[Any]] = []
        document: dict[str, Any]
        try:
            if worker is None:
                import pyzed.sl as sl

                worker = Worker(sl, request)
                document = worker.describe()
            elif request["command"] == "frame":
                document, arrays = worker.frame(request["index"])
            else:
                document = worker.inertial(request["index"])
        except (SdkError, ImportError) as error:
            document = {"error": str(error)}
        answer(answers, document, arrays)
    if worker is not None:
        worker.camera.close()


if __name__ == "__main__":
    # The SDK logs to standard output: the answers keep the real one for themselves.
    with os.fdopen(os.dup(1), "wb") as real_output:
        os.dup2(2, 1)
        serve(sys.stdin.buffer, real_output)
