"""Datumaro, which knows nothing of us, reads the exports and sees what the database holds.

Datumaro pins older releases of libraries the engine uses, so it lives in an environment of its own:
`python -m venv .venv-datumaro && .venv-datumaro/bin/pip install datumaro`, or FOVEA_DATUMARO_PYTHON points to another.
"""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from core import work
from labeling.jobs.models import Detection
from tests.conftest import ROOT
from training import services
from training.models import TrainingDatasetFrame
from training.places import ExportPlace

pytestmark = pytest.mark.django_db


def _python() -> str:
    own = ROOT / ".venv-datumaro/bin/python"
    if chosen := os.environ.get("FOVEA_DATUMARO_PYTHON"):
        return chosen
    if importlib.util.find_spec("datumaro"):
        return sys.executable
    if own.exists():
        return str(own)
    pytest.skip("Datumaro is in neither this environment nor .venv-datumaro (FOVEA_DATUMARO_PYTHON)")


@pytest.fixture
def read(owner, job):
    row = services.create_training_dataset(user=owner, job=job, include_velodyne=True)
    work.advance("training.TrainingDataset", str(row.pk))
    script = Path(__file__).parent / "read_with_datumaro.py"
    place = str(ExportPlace(row).final)
    done = subprocess.run([_python(), str(script), place], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


def _truth() -> dict[str, list[Detection]]:
    rows: dict[str, list[Detection]] = {}
    for item in TrainingDatasetFrame.objects.select_related("frame"):
        found = item.frame.detections.select_related("label_class").order_by("instance")
        rows[f"{item.split}/{item.number:06d}"] = list(found)
    return rows


def _seen(read, key) -> dict[str, list[dict]]:
    rows: dict[str, list[dict]] = {}
    for ann in read[key]["annotations"]:
        rows.setdefault(ann["id"], []).append(ann)
    return rows


def _bbox(detection: Detection) -> list[float]:
    return [detection.x, detection.y, detection.width, detection.height]


def test_datumaro_reads_everything_equal_to_the_database(read):
    truth = _truth()
    assert read["kitti"]["items"] == read["coco"]["items"] == len(truth) == 20
    for key in ("kitti", "coco"):
        seen = _seen(read, key)
        for frame, detections in truth.items():
            assert _labelled_boxes(seen[frame]) == sorted(
                (_name(detection, key), *(round(value, 1) for value in _bbox(detection))) for detection in detections
            )
    for split in ("train", "val", "test"):
        _compare_3d(
            {name[len(split) + 1 :]: rows for name, rows in truth.items() if name.startswith(split)}, read, split
        )
    masks = _seen(read, "coco_masks")
    for frame, detections in truth.items():
        assert sorted(ann["area"] for ann in masks[frame]) == sorted(detection.area for detection in detections)


def _labelled_boxes(annotations: list[dict]) -> list[tuple]:
    return sorted((ann["label"].lower(), *(round(value, 1) for value in ann["box"])) for ann in annotations)


def _name(detection: Detection, key: str) -> str:
    name = detection.label_class.name.lower()
    return name.replace(" ", "_") if key == "kitti" else name


def _compare_3d(truth: dict[str, list[Detection]], read: dict, split: str) -> None:
    seen = {name.rpartition("/")[2]: annotations for name, annotations in _seen(read, f"kitti3d/{split}").items()}
    assert set(seen) == set(truth)
    for frame, detections in truth.items():
        for ann, detection in zip(seen[frame], detections, strict=True):
            location = [detection.location_x, detection.location_y, detection.location_z]
            assert ann["location"] == pytest.approx(location, abs=0.006)
            dimensions = [detection.height_m, detection.width_m, detection.length_m]
            assert ann["dimensions"] == pytest.approx(dimensions, abs=0.006)
            assert ann["rotation_y"] == pytest.approx(detection.rotation_y, abs=0.006)
