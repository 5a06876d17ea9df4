"""Folders of stereo pairs: KITTI (`image_2`/`image_3` with `calib.txt` or `calib/`), EuRoC (`mav0`), or `left`/`right`.

Layouts: https://www.cvlibs.net/datasets/kitti/setup.php and https://projects.asl.ethz.ch/datasets/doku.php?id=kmavvisualinertialdatasets
"""

import csv
import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Final, NamedTuple, Self

import numpy as np

from pipeline.errors import CalibrationError, RecordingError
from pipeline.recordings.base import ImuSample, RecordingMetadata, StereoFrame
from pipeline.recordings.images import (
    ASSUMED_FPS,
    image_size,
    list_images,
    measured_fps,
    read_image,
    refuse_links_outside,
    times_of,
)
from pipeline.stereo.calibration import StereoCalibration
from pipeline.stereo.calibration_files import (
    find_calibration,
    read_calibration,
    read_euroc_pose,
    read_euroc_yaml,
    read_kitti_calib,
)

FOLDER_PAIRS: Final = (
    ("image_2", "image_3"),
    ("image_02/data", "image_03/data"),
    ("image_left", "image_right"),
    ("left", "right"),
)
PAIRING_TOLERANCE_NS: Final = 5_000_000  # the two EuRoC cameras are triggered together


class _Pair(NamedTuple):
    timestamp_ns: int
    left: Path
    right: Path


def euroc_root(path: Path) -> Path | None:
    """The `mav0` folder of an EuRoC recording, or None."""
    for root in (path, path / "mav0"):
        if all((root / camera / name).exists() for camera in ("cam0", "cam1") for name in ("data", "sensor.yaml")):
            return root
    return None


def image_folders(path: Path) -> tuple[Path, Path] | None:
    """The left and the right folder of a KITTI-like recording, or None."""
    for left, right in FOLDER_PAIRS:
        if (path / left).is_dir() and (path / right).is_dir():
            return path / left, path / right
    return None


class StereoImagesRecording:
    """Pairs of images. A pair with a missing, broken or oddly sized image is left out, with a warning.

    Raises RecordingError if the folder has none of the layouts, no readable pair, or a link that leads out of it.
    """

    def __init__(
        self, path: Path, *, calibration_file: Path | None = None, calibration_folders: Iterable[Path] = ()
    ) -> None:
        self.path = path
        self._calibration_file = calibration_file
        self._calibration_folders = tuple(calibration_folders)
        self._warnings: list[str] = []
        self._euroc = euroc_root(path)
        folders = image_folders(path)
        refuse_links_outside(path, _described_by(path, self._euroc))
        if self._euroc is not None:
            pairs, single = _euroc_pairs(self._euroc)
        elif folders is not None:
            pairs, single = _named_pairs(path, *folders)
        else:
            raise RecordingError(
                f"{path.name} holds no stereo images: expected image_2 and image_3, cam0 and cam1, or left and right."
            )
        refuse_links_outside(path, (file for pair in pairs for file in (pair.left, pair.right)))
        self._pairs, self._size = self._readable(self._equally_calibrated(pairs))
        if single:
            self._warnings.append(f"{path.name}: {single} images have no partner in the other eye and were left out.")

    def _readable(self, pairs: list[_Pair]) -> tuple[list[_Pair], tuple[int, int]]:
        sizes: list[tuple[_Pair, tuple[int, int]]] = []
        fault = ""
        for pair in pairs:
            try:
                left, right = image_size(pair.left), image_size(pair.right)
            except RecordingError as error:
                fault = fault or str(error)
                continue
            if left == right:
                sizes.append((pair, left))
            else:
                fault = fault or f"{pair.left.name} has another size in either eye."
        if not sizes:
            raise RecordingError(f"{self.path.name} holds no readable stereo pair.{' ' + fault if fault else ''}")
        size = Counter(size for _, size in sizes).most_common(1)[0][0]
        if broken := len(pairs) - len(sizes):
            others = f" and {broken - 1} more" if broken > 1 else ""
            self._warnings.append(f"{self.path.name}: {fault.rstrip('.')}{others}; left out.")
        kept = [pair for pair, own in sizes if own == size]
        if odd := len(sizes) - len(kept):
            self._warnings.append(
                f"{self.path.name}: {odd} pairs are not of {size[0]}x{size[1]} pixels and were left out."
            )
        return kept, size

    def _equally_calibrated(self, pairs: list[_Pair]) -> list[_Pair]:
        """Of a KITTI object folder, with a calibration per image, the pairs that share the most frequent one."""
        folder = self.path / "calib"
        if not folder.is_dir():
            return pairs
        files = {pair: folder / f"{pair.left.stem}.txt" for pair in pairs}
        texts = {pair: file.read_bytes() if file.is_file() else b"" for pair, file in files.items()}
        ranking = Counter(text for text in texts.values() if text).most_common(1)
        kept = [pair for pair in pairs if not ranking or texts[pair] == ranking[0][0]]
        if odd := len(pairs) - len(kept):
            self._warnings.append(
                f"{self.path.name}: {odd} pairs have another calibration than most and were left out."
            )
        return kept

    @cached_property
    def metadata(self) -> RecordingMetadata:
        times = [pair.timestamp_ns for pair in self._pairs]
        fps = measured_fps(times, ASSUMED_FPS)
        return RecordingMetadata(
            kind="stereo_images",
            frame_count=len(times),
            width=self._size[0],
            height=self._size[1],
            fps=fps,
            duration_s=len(times) / fps,
            stereo=True,
            codec=self._pairs[0].left.suffix.lower().lstrip("."),
            imu_count=sum(1 for _ in self._imu_rows()),
            warnings=tuple(self._warnings),
            extra={"layout": "euroc" if self._euroc else "folders", "first_timestamp_ns": times[0]},
        )

    @cached_property
    def calibration(self) -> StereoCalibration | None:
        if self._calibration_file is not None:
            return read_calibration(self._calibration_file, *self._size)
        if self._euroc is not None:
            return read_euroc_yaml(self._euroc / "cam0" / "sensor.yaml", self._euroc / "cam1" / "sensor.yaml")
        per_frame = self.path / "calib" / f"{self._pairs[0].left.stem}.txt"
        if per_frame.is_file():
            return read_kitti_calib(per_frame, *self._size)
        for name in ("calib.txt", "calib_cam_to_cam.txt"):
            if (self.path / name).is_file():
                return read_kitti_calib(self.path / name, *self._size)
        return find_calibration(self.path, "", self._calibration_folders, *self._size)

    def frames(self, indices: Iterable[int] | None = None) -> Iterator[StereoFrame]:
        for index in range(len(self._pairs)) if indices is None else indices:
            pair = self._pairs[index]
            refuse_links_outside(self.path, (pair.left, pair.right))
            try:
                left, right = read_image(pair.left), read_image(pair.right)
            except RecordingError:
                continue
            yield StereoFrame(index, pair.timestamp_ns, left, right)

    def imu(self) -> Iterator[ImuSample]:
        """EuRoC's inertial rows, turned from the sensor's axes into those of the left camera."""
        if self._euroc is None or not (self._euroc / "imu0" / "data.csv").is_file():
            return
        sensor = self._euroc / "imu0" / "sensor.yaml"
        camera_from_body = read_euroc_pose(self._euroc / "cam0" / "sensor.yaml")[:3, :3].T
        rotation = camera_from_body @ read_euroc_pose(sensor)[:3, :3] if sensor.is_file() else camera_from_body
        for timestamp, values in self._imu_rows():
            wx, wy, wz = (rotation @ values[:3]).tolist()
            ax, ay, az = (rotation @ values[3:]).tolist()
            yield ImuSample(timestamp, (ax, ay, az), (wx, wy, wz))

    def _imu_rows(self) -> Iterator[tuple[int, np.ndarray[tuple[int], np.dtype[np.float64]]]]:
        """Timestamp and six values (rad/s, then m/s²) in the sensor's axes; a broken row is left out."""
        path = self._euroc / "imu0" / "data.csv" if self._euroc is not None else None
        if path is None or not path.is_file():
            return
        with path.open(newline="", encoding="utf-8", errors="replace") as stream:
            for row in csv.reader(stream):
                try:
                    timestamp, values = int(row[0]), [float(value) for value in row[1:7]]
                except (ValueError, IndexError):
                    continue
                if len(values) == 6 and all(map(math.isfinite, values)):
                    yield timestamp, np.array(values)

    def close(self) -> None:
        """Nothing stays open between two images."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _described_by(path: Path, euroc: Path | None) -> list[Path]:
    """The files beside the images that a recording is read with, whether or not they exist."""
    if euroc is not None:
        return [euroc / part / name for part in ("cam0", "cam1", "imu0") for name in ("data.csv", "sensor.yaml")]
    return [path / name for name in ("times.txt", "calib.txt", "calib_cam_to_cam.txt")] + [*path.glob("calib/*.txt")]


def _named_pairs(path: Path, left: Path, right: Path) -> tuple[list[_Pair], int]:
    """Pairs of equal names, and the number of the others. Times are of `times.txt` (seconds), the names, or 10 Hz."""
    others = {file.stem: file for file in list_images(right)}
    files = list_images(left)
    paired = [file for file in files if file.stem in others]
    times = times_of(paired, ASSUMED_FPS)
    listed = _listed_times(path / "times.txt")
    if listed is not None and len(listed) == len(files):
        by_file = dict(zip(files, listed, strict=True))
        times = [by_file[file] for file in paired]
    pairs = [_Pair(time, file, others[file.stem]) for time, file in zip(times, paired, strict=True)]
    return pairs, len(files) + len(others) - 2 * len(paired)


def _listed_times(path: Path) -> list[int] | None:
    try:
        return [round(float(line) * 1e9) for line in path.read_text().split()]
    except (OSError, ValueError, OverflowError):
        return None


def _euroc_pairs(root: Path) -> tuple[list[_Pair], int]:
    left, right = _euroc_files(root / "cam0"), _euroc_files(root / "cam1")
    times = [time for time, _ in right]
    pairs = []
    for time, file in left:
        at = bisect_left(times, time)
        nearest = min(
            (n for n in (at - 1, at) if 0 <= n < len(times)), key=lambda n: abs(times[n] - time), default=None
        )
        if nearest is not None and abs(times[nearest] - time) <= PAIRING_TOLERANCE_NS:
            pairs.append(_Pair(time, file, right[nearest][1]))
    return pairs, len(left) + len(right) - 2 * len(pairs)


def _euroc_files(camera: Path) -> list[tuple[int, Path]]:
    """(timestamp in ns, image), ascending, of `data.csv`, else by the names in `data`; only files that exist."""
    listing, folder = camera / "data.csv", camera / "data"
    if not listing.is_file():
        return [(int(file.stem), file) for file in list_images(folder) if file.stem.isdigit()]
    found = {}
    with listing.open(newline="", encoding="utf-8", errors="replace") as stream:
        for row in csv.reader(stream):
            if len(row) >= 2 and row[0].strip().isdigit():
                # Only the last part of the name: a listing must not lead out of its folder.
                file = folder / Path(row[1].strip()).name
                if file.is_file():
                    found[int(row[0])] = file
    if not found:
        raise CalibrationError(f"{camera.name}/data.csv lists no image that exists.")
    return sorted(found.items())
