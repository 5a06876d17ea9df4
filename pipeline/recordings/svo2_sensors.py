"""The 360-byte sensor record of an SVO2 file, of which the calibrated inertial values are used.

Offsets (little-endian), measured on a ZED 2i recording: timestamp u64 ns at 0x010, orientation quaternion f32[4] x, y,
z, w at 0x03C, uncalibrated angular rate and acceleration at 0x058 and 0x064, calibrated ones in deg/s and m/s² at 0x070
and 0x07C. Rates and accelerations are in image axes (x right, y down, z forward) in both topics. The orientation is in
image axes only in `integrated_sensors`; `sensors` has it permuted: (x, y, z) there are (-z, x, -y) of the image.
"""

import base64
import binascii
import json
import math
import struct
from typing import Final

from pipeline.recordings.base import ImuSample

RECORD_BYTES: Final = 360
_TIMESTAMP: Final = struct.Struct("<Q")
_VECTOR: Final = struct.Struct("<3f")
_QUATERNION: Final = struct.Struct("<4f")
_BOOT_TIME, _TIME, _SYNC = 0x008, 0x010, 0x038
_ORIENTATION, _RAW_RATE, _RAW_ACCELERATION, _RATE, _ACCELERATION = 0x03C, 0x058, 0x064, 0x070, 0x07C
_MAGNETOMETER_RAW, _MAGNETOMETER, _HEADING_STATE, _RATE_RATIO = 0x0EC, 0x0F8, 0x104, 0x15C
_HEADING_NOT_AVAILABLE: Final = 4


def parse_sensors(message: bytes | memoryview, log_time: int) -> ImuSample | None:
    """The inertial values of one message of the `sensors` topic; None if it is damaged or holds no finite values."""
    try:
        document = json.loads(bytes(message))
        record = base64.b64decode(document["data"], validate=True)
    except (ValueError, KeyError, TypeError, binascii.Error):
        return None
    if len(record) < _ACCELERATION + _VECTOR.size:
        return None
    rate = _VECTOR.unpack_from(record, _RATE)
    acceleration = _VECTOR.unpack_from(record, _ACCELERATION)
    if not all(map(math.isfinite, (*rate, *acceleration))):
        return None
    x, y, z, w = _QUATERNION.unpack_from(record, _ORIENTATION)
    norm = math.sqrt(x * x + y * y + z * z + w * w)
    orientation = (y / norm, -z / norm, -x / norm, w / norm) if 0.9 < norm < 1.1 else None
    return ImuSample(
        timestamp_ns=_TIMESTAMP.unpack_from(record, _TIME)[0] or log_time,
        acceleration=acceleration,
        angular_velocity=(math.radians(rate[0]), math.radians(rate[1]), math.radians(rate[2])),
        orientation=orientation,
    )


def sensors_message(sample: ImuSample, *, integrated: bool = False, synchronised: bool = False) -> bytes:
    """The message a camera writes for `sample`, in the axes of either topic; raw values equal the calibrated ones."""
    record = bytearray(RECORD_BYTES)
    record[0] = 1
    _TIMESTAMP.pack_into(record, _BOOT_TIME, sample.timestamp_ns)
    _TIMESTAMP.pack_into(record, _TIME, sample.timestamp_ns)
    struct.pack_into("<i", record, _SYNC, 2 if integrated or synchronised else 0)
    x, y, z, w = sample.orientation or (0.0, 0.0, 0.0, 1.0)
    _QUATERNION.pack_into(record, _ORIENTATION, *((x, y, z, w) if integrated else (-z, x, -y, w)))
    degrees = [math.degrees(value) for value in sample.angular_velocity]
    for offset, values in (
        (_RAW_RATE, degrees),
        (_RATE, degrees),
        (_RAW_ACCELERATION, sample.acceleration),
        (_ACCELERATION, sample.acceleration),
        (_MAGNETOMETER_RAW, (math.nan,) * 3),
        (_MAGNETOMETER, (math.nan,) * 3),
    ):
        _VECTOR.pack_into(record, offset, *values)
    struct.pack_into("<i", record, _HEADING_STATE, _HEADING_NOT_AVAILABLE)
    struct.pack_into("<f", record, _RATE_RATIO, 1.0)
    document = {"__title__": "sensors", "data": base64.b64encode(record).decode()}
    return json.dumps(document, separators=(",", ":")).encode()
