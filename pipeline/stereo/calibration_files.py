"""Calibration files of stereo cameras: ZED `SN<serial>.conf`, KITTI `calib.txt`, EuRoC `sensor.yaml`, our own JSON."""

import configparser
import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import CalibrationError
from pipeline.stereo.calibration import CameraIntrinsics, StereoCalibration
from pipeline.storage.atomic import write_json as write_canonical_json
from pipeline.storage.atomic import write_text

ZED_RESOLUTIONS: Final = {
    "2K": (2208, 1242),
    "QHDPLUS": (3200, 1800),
    "FHD1200": (1920, 1200),
    "FHD": (1920, 1080),
    "HD": (1280, 720),
    "SVGA": (960, 600),
    "VGA": (672, 376),
}
LARGEST_FILE: Final = 1 << 20
_SERIAL: Final = re.compile(r"^SN0*(\d+)$", re.IGNORECASE)


# --- ZED -------------------------------------------------------------------------------------------------------------


def read_zed_conf(path: Path, width: int, height: int) -> StereoCalibration:
    """The factory calibration of a ZED camera for images of `width` x `height` per eye.

    R = Rodrigues([RX, CV, RZ]) and T = [-Baseline, TY, TZ] in millimetres; the eight-parameter `*_DISTO` is used where
    the file has it, else the five parameters of the resolution. Both were measured to be the convention on a ZED 2i
    (median epipolar error 0.31 px; with the rotation transposed it is 18.7 px). A resolution without its own section is
    scaled from one of the same aspect ratio. Raises CalibrationError.
    """
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    try:
        parser.read_string(_text(path).lstrip("\ufeff"))
    except configparser.Error as error:
        raise CalibrationError(f"{path.name} is not a ZED calibration file: {str(error).splitlines()[0]}") from error
    name = _zed_section(parser, path, width, height)
    left = _zed_camera(parser, path, "LEFT", name).scaled(width, height)
    right = _zed_camera(parser, path, "RIGHT", name).scaled(width, height)
    stereo = _Values(parser, path, "STEREO")
    rotation = _rodrigues(*(stereo[f"{axis}_{name}"] for axis in ("RX", "CV", "RZ")))
    baseline = stereo["Baseline"]
    if not 1 <= baseline <= 10_000:
        raise CalibrationError(f"{path.name}: Baseline in [STEREO] is {baseline:g} mm, which no stereo camera has.")
    translation = (-baseline / 1000, stereo.get("TY", 0.0) / 1000, stereo.get("TZ", 0.0) / 1000)
    serial = _SERIAL.match(path.stem)
    return StereoCalibration(
        left=left,
        right=right,
        rotation=tuple(map(float, rotation.ravel())),
        translation=translation,
        source=f"zed:{path.name}",
        serial=serial[1] if serial else "",
        extra={"resolution": name},
    )


def write_zed_conf(calibration: StereoCalibration, path: Path) -> None:
    """Write `calibration` as a ZED factory file, under the section of its resolution (HD where it is none of a ZED's).

    Such a file holds both cameras' intrinsics, five or eight distortion parameters, and the pose of the right eye.
    """
    left, right = calibration.left, calibration.right
    name = next((key for key, size in ZED_RESOLUTIONS.items() if size == (left.width, left.height)), None)
    if name is None:
        name = _same_aspect(ZED_RESOLUTIONS, left.width, left.height)
        if name is None:
            raise CalibrationError(f"{path.name}: {left.width}x{left.height} is not the shape of any ZED resolution.")
        left, right = left.scaled(*ZED_RESOLUTIONS[name]), right.scaled(*ZED_RESOLUTIONS[name])
    lines: list[str] = []
    for side, camera in (("LEFT", left), ("RIGHT", right)):
        k1, k2, p1, p2, k3 = (*camera.distortion, 0, 0, 0, 0, 0)[:5]
        values: dict[str, float] = {"fx": camera.fx, "fy": camera.fy, "cx": camera.cx, "cy": camera.cy}
        values |= {"k1": k1, "k2": k2, "p1": p1, "p2": p2, "k3": k3}
        lines += _section(f"{side}_CAM_{name}", values)
    for side, camera in (("LEFT", left), ("RIGHT", right)):
        if len(camera.distortion) == 8:
            keys = ("k1", "k2", "p1", "p2", "k3", "k4", "k5", "k6")
            lines += _section(f"{side}_DISTO", dict(zip(keys, camera.distortion, strict=True)))
    x, y, z = calibration.translation
    rx, cv, rz = _rotation_vector(calibration.rotation_matrix)
    stereo = {"Baseline": -1000 * x, "TY": 1000 * y, "TZ": 1000 * z}
    lines += _section("STEREO", stereo | {f"CV_{name}": cv, f"RX_{name}": rx, f"RZ_{name}": rz})
    write_text(path, "\n".join(lines))


def _section(name: str, values: Mapping[str, float]) -> list[str]:
    return [f"[{name}]", *(f"{key}={float(value)!r}" for key, value in values.items()), ""]


class _Values:
    """The numbers of one section; a missing or malformed one is an error that names file, section and key."""

    def __init__(self, parser: configparser.ConfigParser, path: Path, section: str) -> None:
        if not parser.has_section(section):
            raise CalibrationError(f"{path.name} has no section [{section}].")
        self._section, self._path = parser[section], path

    def __getitem__(self, key: str) -> float:
        raw = self._section.get(key)
        if raw is None:
            raise CalibrationError(f"{self._path.name} lacks {key} in [{self._section.name}].")
        return _number(raw, self._path, f"{key} in [{self._section.name}]")

    def get(self, key: str, default: float) -> float:
        return self[key] if key in self._section else default


def _zed_section(parser: configparser.ConfigParser, path: Path, width: int, height: int) -> str:
    present = {name: size for name, size in ZED_RESOLUTIONS.items() if parser.has_section(f"LEFT_CAM_{name}")}
    if not present:
        raise CalibrationError(f"{path.name} has no [LEFT_CAM_…] section: it is not a ZED calibration file.")
    exact = next((name for name, size in present.items() if size == (width, height)), None)
    name = exact or _same_aspect(present, width, height)
    if name is None:
        raise CalibrationError(
            f"{path.name} has no calibration for images of {width}x{height}, only {', '.join(present)}."
        )
    return name


def _same_aspect(sizes: Mapping[str, tuple[int, int]], width: int, height: int) -> str | None:
    """The resolution nearest in size among those of the same shape (the whole sensor, read out smaller)."""
    same = [name for name, (w, h) in sizes.items() if abs(w / h - width / height) < 0.005 * w / h]
    return min(same, key=lambda name: abs(math.log(sizes[name][0] / width)), default=None)


def _zed_camera(parser: configparser.ConfigParser, path: Path, side: str, name: str) -> CameraIntrinsics:
    values = _Values(parser, path, f"{side}_CAM_{name}")
    fx, fy, cx, cy = (values[key] for key in ("fx", "fy", "cx", "cy"))
    _check_focal(path, fx, fy)
    if parser.has_section(f"{side}_DISTO"):
        rational = _Values(parser, path, f"{side}_DISTO")
        distortion = tuple(rational[key] for key in ("k1", "k2", "p1", "p2", "k3", "k4", "k5", "k6"))
    else:
        distortion = (*(values.get(key, 0.0) for key in ("k1", "k2", "p1", "p2", "k3")),)
    width, height = ZED_RESOLUTIONS[name]
    return CameraIntrinsics(width, height, fx, fy, cx, cy, distortion)


# --- KITTI -----------------------------------------------------------------------------------------------------------


def read_kitti_calib(path: Path, width: int, height: int) -> StereoCalibration:
    """The colour cameras P2 and P3 of an odometry or object calibration file; the images are rectified.

    P = K [I | t] with t in metres; the baseline is (P2[0,3] - P3[0,3]) / fx. Raises CalibrationError.
    """
    rows: dict[str, list[float]] = {}
    for line in _text(path).splitlines():
        key, _, rest = line.partition(":")
        if re.fullmatch(r"P(_rect_0)?[0-3]", key.strip()):
            rows[key.strip()[-1]] = [_number(value, path, key.strip()) for value in rest.split()]
    matrices = {}
    for number in ("2", "3"):
        if len(rows.get(number, ())) != 12:
            raise CalibrationError(f"{path.name} lacks P{number} with 12 numbers.")
        matrices[number] = np.array(rows[number]).reshape(3, 4)
    left, right = (_kitti_camera(matrices[number], width, height) for number in "23")
    _check_focal(path, left.fx, left.fy)
    baseline = float(matrices["2"][0, 3] - matrices["3"][0, 3]) / left.fx
    if baseline <= 0:
        raise CalibrationError(f"{path.name}: P2 and P3 give a baseline of {baseline:.3f} m, which must be positive.")
    return StereoCalibration(
        left, right, translation=(-baseline, 0.0, 0.0), rectified=True, source=f"kitti:{path.name}"
    )


def _kitti_camera(matrix: NDArray[np.float64], width: int, height: int) -> CameraIntrinsics:
    fx, cx, fy, cy = float(matrix[0, 0]), float(matrix[0, 2]), float(matrix[1, 1]), float(matrix[1, 2])
    return CameraIntrinsics(width, height, fx, fy, cx, cy)


# --- EuRoC -----------------------------------------------------------------------------------------------------------


def read_euroc_yaml(cam0: Path, cam1: Path) -> StereoCalibration:
    """Two `sensor.yaml`: T_BS takes a point of the camera into the body, so X_right = T_BS1⁻¹ T_BS0 X_left."""
    left, left_pose = _euroc_camera(cam0)
    right, right_pose = _euroc_camera(cam1)
    pose = np.linalg.inv(right_pose) @ left_pose
    return StereoCalibration(
        left,
        right,
        rotation=tuple(map(float, pose[:3, :3].ravel())),
        translation=(float(pose[0, 3]), float(pose[1, 3]), float(pose[2, 3])),
        source=f"euroc:{cam0.parent.name}/{cam0.name}",
    )


def read_euroc_pose(path: Path) -> NDArray[np.float64]:
    """T_BS of a `sensor.yaml`, (4, 4): sensor to body, metres."""
    return _euroc_pose(_yaml(path), path)


def _euroc_camera(path: Path) -> tuple[CameraIntrinsics, NDArray[np.float64]]:
    document = _yaml(path)
    fu, fv, cu, cv = _numbers(document, "intrinsics", 4, path)
    width, height = _numbers(document, "resolution", 2, path)
    _check_focal(path, fu, fv)
    model = document.get("distortion_model", "radial-tangential")
    if model not in ("radial-tangential", "plumb_bob", "none"):
        raise CalibrationError(f"{path.name}: the distortion model {model!r} is not supported, only radial-tangential.")
    given = document.get("distortion_coefficients") or []
    count = len(given) if isinstance(given, list) else 0
    distortion = (*_numbers(document, "distortion_coefficients", count, path), 0.0)[:5] if count in (4, 5) else ()
    if count not in (0, 4, 5):
        raise CalibrationError(f"{path.name}: distortion_coefficients has {count} numbers instead of 4 or 5.")
    return CameraIntrinsics(int(width), int(height), fu, fv, cu, cv, distortion), _euroc_pose(document, path)


def _euroc_pose(document: dict[str, Any], path: Path) -> NDArray[np.float64]:
    pose = document.get("T_BS")
    if not isinstance(pose, dict):
        raise CalibrationError(f"{path.name} lacks T_BS.")
    matrix = np.array(_numbers(pose, "data", 16, path)).reshape(4, 4)
    _check_rotation(path, matrix[:3, :3])
    return matrix


def _yaml(path: Path) -> dict[str, Any]:
    import yaml

    # OpenCV's "%YAML:1.0" is no directive that YAML knows.
    text = "\n".join(line for line in _text(path).splitlines() if not line.startswith("%YAML"))
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise CalibrationError(f"{path.name} is not valid YAML: {str(error).splitlines()[0]}.") from error
    if not isinstance(document, dict):
        raise CalibrationError(f"{path.name} is not a sensor description.")
    return document


# --- JSON ------------------------------------------------------------------------------------------------------------


def write_json(calibration: StereoCalibration, path: Path) -> None:
    """Write every field under its own name."""
    write_canonical_json(path, asdict(calibration))


def read_json(path: Path) -> StereoCalibration:
    """The reverse of `write_json`; `translation` and the six numbers of `left` and `right` must be given."""
    try:
        document = json.loads(_text(path))
    except ValueError as error:
        raise CalibrationError(f"{path.name} is not valid JSON: {error}.") from error
    if not isinstance(document, dict):
        raise CalibrationError(f"{path.name} is not a stereo calibration.")
    rotation = _numbers(document, "rotation", 9, path, default=(1, 0, 0, 0, 1, 0, 0, 0, 1))
    _check_rotation(path, np.array(rotation).reshape(3, 3))
    x, y, z = _numbers(document, "translation", 3, path)
    extra = document.get("extra", {})
    return StereoCalibration(
        left=_json_camera(document, "left", path),
        right=_json_camera(document, "right", path),
        rotation=rotation,
        translation=(x, y, z),
        rectified=document.get("rectified", False) is True,
        source=str(document.get("source") or f"json:{path.name}"),
        serial=str(document.get("serial", "")),
        extra=extra if isinstance(extra, dict) else {},
    )


def _json_camera(document: dict[str, Any], side: str, path: Path) -> CameraIntrinsics:
    values = document.get(side)
    if not isinstance(values, dict):
        raise CalibrationError(f"{path.name} lacks {side}.")
    numbers = {}
    for key in ("width", "height", "fx", "fy", "cx", "cy"):
        if key not in values:
            raise CalibrationError(f"{path.name} lacks {key} of {side}.")
        numbers[key] = _number(values[key], path, f"{key} of {side}")
    _check_focal(path, numbers["fx"], numbers["fy"])
    if min(numbers["width"], numbers["height"]) < 1:
        raise CalibrationError(f"{path.name}: width and height of {side} must be positive.")
    given = values.get("distortion", [])
    count = len(given) if isinstance(given, list) else -1
    if count not in (0, 4, 5, 8):
        raise CalibrationError(f"{path.name}: distortion of {side} must hold 0, 4, 5 or 8 numbers.")
    return CameraIntrinsics(
        int(numbers["width"]),
        int(numbers["height"]),
        numbers["fx"],
        numbers["fy"],
        numbers["cx"],
        numbers["cy"],
        _numbers(values, "distortion", count, path, default=()),
    )


# --- Finding ---------------------------------------------------------------------------------------------------------


def read_calibration(path: Path, width: int, height: int) -> StereoCalibration:
    """Read any of the formats by its name: *.conf, *.json, *.yaml (cam0; cam1 is found beside it), *.txt.

    The result is for images of `width` x `height` per eye. Raises CalibrationError.
    """
    suffix = path.suffix.lower()
    if suffix == ".conf":
        return read_zed_conf(path, width, height)
    if suffix == ".txt":
        return read_kitti_calib(path, width, height)
    if suffix == ".json":
        return _for_size(read_json(path), path, width, height)
    if suffix in (".yaml", ".yml"):
        return _for_size(read_euroc_yaml(path, path.parent.parent / "cam1" / path.name), path, width, height)
    raise CalibrationError(f"{path.name} is no calibration file: expected .conf, .json, .txt or .yaml.")


def find_calibration(
    recording: Path,
    serial: str,
    folders: Iterable[Path],
    width: int,
    height: int,
    *,
    calibration_file: Path | None = None,
) -> StereoCalibration | None:
    """The calibration of a recording: the file given, else one beside it, else one in `folders`; None if there is none.

    Beside the recording counts `SN<serial>.conf`, `<name>.conf`, `<name>.calibration.json`, and where the recording
    knows no serial also a single `SN*.conf`, `calibration.json` or `calib.txt`. In the folders only a file of that
    serial counts. Raises CalibrationError for a malformed file, and for one that belongs to another camera.
    """
    if calibration_file is None:
        calibration_file = _beside(recording, serial) or _in_folders(folders, serial)
    if calibration_file is None:
        return None
    calibration = read_calibration(calibration_file, width, height)
    if serial and calibration.serial and calibration.serial.lstrip("0") != serial.lstrip("0"):
        raise CalibrationError(
            f"{calibration_file.name} is the calibration of camera {calibration.serial}, "
            f"but {recording.name} was recorded by camera {serial}."
        )
    return calibration


def _beside(recording: Path, serial: str) -> Path | None:
    folder = recording if recording.is_dir() else recording.parent
    names = [f"SN{serial}.conf", f"SN{serial}.json"] if serial else []
    names += [f"{recording.stem}.conf", f"{recording.stem}.calibration.json", f"{recording.name}.calibration.json"]
    if not serial:
        confs = sorted(folder.glob("SN*.conf"))
        names += [confs[0].name] if len(confs) == 1 else []
        names += ["calibration.json", "calib.txt"]
    return next((folder / name for name in names if (folder / name).is_file()), None)


def _in_folders(folders: Iterable[Path], serial: str) -> Path | None:
    if not serial:
        return None
    candidates = (Path(folder) / f"SN{serial}.{suffix}" for folder in folders for suffix in ("conf", "json"))
    return next((path for path in candidates if path.is_file()), None)


def serial_in_name(path: Path) -> str:
    """The serial in a name such as `walk_SN12345678.mp4`, or ""."""
    found = re.search(r"(?:^|[^a-z])SN0*(\d{4,})", path.stem, re.IGNORECASE)
    return found[1] if found else ""


# --- Checks ----------------------------------------------------------------------------------------------------------


def _for_size(calibration: StereoCalibration, path: Path, width: int, height: int) -> StereoCalibration:
    from dataclasses import replace

    left = calibration.left
    if abs(left.width / left.height - width / height) > 0.005 * width / height:
        raise CalibrationError(
            f"{path.name} is for images of {left.width}x{left.height}, which have another shape than {width}x{height}."
        )
    return replace(calibration, left=left.scaled(width, height), right=calibration.right.scaled(width, height))


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise CalibrationError(f"{path.name} is too large for a calibration file ({path.stat().st_size} bytes).")
        return path.read_text("utf-8")
    except OSError as error:
        raise CalibrationError(f"{path.name} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise CalibrationError(f"{path.name} is not a text file.") from error


def _number(value: object, path: Path, what: str) -> float:
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise CalibrationError(f"{path.name}: {what} is {value!r} instead of a number.") from None
    if not math.isfinite(number):
        raise CalibrationError(f"{path.name}: {what} is not finite.")
    return number


def _numbers(
    document: Mapping[str, Any], key: str, count: int, path: Path, default: tuple[float, ...] | None = None
) -> tuple[float, ...]:
    values = document.get(key, default)
    if values is None:
        raise CalibrationError(f"{path.name} lacks {key}.")
    if not isinstance(values, (list, tuple)) or len(values) != count:
        raise CalibrationError(f"{path.name}: {key} must hold {count} numbers.")
    return tuple(_number(value, path, key) for value in values)


def _check_focal(path: Path, fx: float, fy: float) -> None:
    if fx <= 0 or fy <= 0:
        raise CalibrationError(f"{path.name}: the focal lengths must be positive, not {fx:g} and {fy:g}.")


def _check_rotation(path: Path, rotation: NDArray[np.float64]) -> None:
    if not np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-3) or np.linalg.det(rotation) < 0:
        raise CalibrationError(f"{path.name}: the rotation is not a rotation matrix.")


def _rodrigues(*vector: float) -> NDArray[np.float64]:
    import cv2

    return np.asarray(cv2.Rodrigues(np.array(vector, np.float64).reshape(3, 1))[0], np.float64)


def _rotation_vector(rotation: NDArray[np.float64]) -> tuple[float, float, float]:
    import cv2

    x, y, z = np.asarray(cv2.Rodrigues(rotation)[0]).ravel()
    return float(x), float(y), float(z)
