"""The calibration store: lenses by camera serial, kept beside the database so that every result can name its own."""

import hashlib
import json
import re
import tempfile
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from accounts.models import User
from core.audit import record
from core.errors import ApplicationError, ConflictError, FieldError
from labeling.datasets.models import Calibration, Dataset, DatasetFile
from pipeline.errors import CalibrationError
from pipeline.storage.atomic import write_bytes

LARGEST_FILE = 1024 * 1024
FORMATS = {".conf": Calibration.Format.ZED_CONF, ".txt": Calibration.Format.KITTI, ".json": Calibration.Format.JSON}
SERIAL = re.compile(r"^[A-Za-z0-9_-]{0,60}$")


@transaction.atomic
def upload_calibration(*, user: User, dataset: Dataset, name: str, content: bytes, serial: str = "") -> Calibration:
    """Check, store and register a calibration file, and give it to the dataset's recordings of that camera.

    `serial` is needed where neither the file nor its name knows the camera. Raises FieldError.
    """
    if len(content) > LARGEST_FILE:
        raise FieldError("file", f"{name} is larger than 1 MB, which no calibration file is.")
    if not SERIAL.match(serial):
        raise FieldError("serial", "A serial number has up to 60 letters, digits, - and _.")
    name = re.sub(r"[^A-Za-z0-9._-]", "_", re.split(r"[/\\]", name)[-1]).lstrip(".")[-100:]
    suffix = Path(name).suffix.lower()
    if suffix not in FORMATS:
        raise FieldError(
            "file", f"{name} is not a calibration file: expected SN*.conf (ZED), calib.txt (KITTI) or .json."
        )
    try:
        parsed = _parse(name, content)
    except CalibrationError as error:
        raise FieldError("file", str(error)) from error
    except RecursionError as error:
        raise FieldError("file", f"{name} is nested too deeply for a calibration file.") from error
    known = str(parsed["serial"])
    if serial and known and serial.lstrip("0") != known.lstrip("0"):
        raise FieldError("serial", f"{name} is the calibration of camera {known}, not {serial}.")
    calibration = _store(dataset, serial or known, Calibration.Source.UPLOADED, FORMATS[suffix], name, content, parsed)
    # Recordings that were made by this camera; and where the file names none, those that name none either.
    files = dataset.files.filter(stereo=True, camera_serial=calibration.serial).exclude(
        calibration__source=Calibration.Source.UPLOADED
    )
    assigned = (
        files.update(calibration=calibration, metric=True, updated_at=timezone.now()) if calibration.serial else 0
    )
    record(user, "calibration.upload", calibration, after={"serial": calibration.serial, "assigned": assigned})
    return calibration


@transaction.atomic
def delete_calibration(*, user: User, calibration: Calibration) -> None:
    """Forget a calibration that no recording uses; the file stays, for the lineage of what was made with it."""
    if calibration.files.exists():
        raise ConflictError("Recordings use this calibration: give them another one first.")
    record(user, "calibration.delete", calibration, before={"serial": calibration.serial})
    calibration.delete()


def _parse(name: str, content: bytes) -> dict[str, Any]:
    """The parsed calibration as JSON; a ZED file is read at the largest resolution it knows."""
    from dataclasses import asdict

    from pipeline.stereo.calibration_files import ZED_RESOLUTIONS, read_calibration

    with tempfile.TemporaryDirectory(prefix="calibration-") as folder:
        path = Path(folder) / name
        path.write_bytes(content)
        sizes = [(1242, 375)]
        if path.suffix.lower() == ".conf":
            text = content.decode("utf-8", "replace")
            sizes = [size for key, size in ZED_RESOLUTIONS.items() if f"[LEFT_CAM_{key}]" in text] or [(1280, 720)]
        elif path.suffix.lower() == ".json":
            sizes = [_json_size(content)]
        return json.loads(json.dumps(asdict(read_calibration(path, *sizes[0]))))


def _json_size(content: bytes) -> tuple[int, int]:
    try:
        left = json.loads(content)["left"]
        return max(1, int(left["width"])), max(1, int(left["height"]))
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
        return 1280, 720  # read_calibration will say what is wrong


def adopt_found(file: DatasetFile, path: Path, found: dict[str, Any] | None) -> Calibration | None:
    """The calibration `file` is to use: its own, an uploaded one of its camera, or the one `found` with it.

    `found` is a pipeline.stereo.calibration.StereoCalibration as JSON; where it came from a file that still lies there,
    that file is stored as it is, else the values are.
    """
    if not file.stereo:
        return None
    if file.calibration_id:
        return file.calibration
    stored = file.dataset.calibrations.exclude(serial="").filter(serial=file.camera_serial)
    uploaded = stored.filter(source=Calibration.Source.UPLOADED).order_by("-created_at").first()
    if uploaded is not None or found is None:
        return uploaded or stored.order_by("-created_at").first()
    origin, _, source_name = str(found.get("source", "")).partition(":")
    original, source = _original(path, source_name)
    if origin == "zed" and original is not None:
        name, content, format_ = original.name, original.read_bytes(), Calibration.Format.ZED_CONF
    else:
        known = {"kitti": Calibration.Format.KITTI, "euroc": Calibration.Format.EUROC}
        format_ = known.get(origin, Calibration.Format.JSON)
        name, content = "calibration.json", (json.dumps(found, sort_keys=True, indent=1) + "\n").encode()
    serial = str(found.get("serial") or file.camera_serial)
    return _store(file.dataset, serial, source, format_, name, content, found)


def _original(path: Path, name: str) -> tuple[Path | None, Calibration.Source]:
    beside = (path if path.is_dir() else path.parent) / name
    if name and beside.is_file():
        return beside, Calibration.Source.RECORDING
    for folder in settings.CALIBRATION_FOLDERS:
        if name and (folder / name).is_file():
            return folder / name, Calibration.Source.FACTORY
    return None, Calibration.Source.RECORDING


def _store(
    dataset: Dataset,
    serial: str,
    source: Calibration.Source,
    format_: Calibration.Format,
    name: str,
    content: bytes,
    parsed: dict[str, Any],
) -> Calibration:
    sha256 = hashlib.sha256(content).hexdigest()
    path = settings.CALIBRATIONS_ROOT / str(dataset.pk) / sha256[:16] / name
    try:
        write_bytes(path, content, shared=True)
    except OSError as error:
        raise ApplicationError(f"{name} cannot be stored: {error.strerror}.") from error
    baseline = sum(float(value) ** 2 for value in parsed["translation"]) ** 0.5
    calibration, created = Calibration.objects.get_or_create(
        dataset=dataset,
        serial=serial[:60],
        sha256=sha256,
        defaults={
            "source": source,
            "format": format_,
            "path": str(path),
            "baseline_m": baseline,
            "parameters": parsed,
        },
    )
    if not created and source == Calibration.Source.UPLOADED != calibration.source:
        calibration.source = source
        calibration.save(update_fields=["source", "updated_at"])
    return calibration
