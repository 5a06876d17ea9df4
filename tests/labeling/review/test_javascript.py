"""The pure modules of the review page agree with pycocotools and the engine."""

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as coco

from pipeline.geometry.boxes3d import box_corners, level_rotation
from tests.conftest import ROOT


def _masks(rng: np.random.Generator) -> list[dict]:
    cases = []
    for height, width in [(1, 1), (1, 9), (9, 1), (7, 5), (24, 31)] * 12:
        pixels = (rng.random((height, width)) < rng.choice([0.05, 0.5, 0.95])).astype(np.uint8)
        rle = coco.encode(np.asfortranarray(pixels))
        rle = {"size": [height, width], "counts": rle["counts"].decode()}
        cases.append({"rle": rle, "pixels": pixels.ravel().tolist()})
    large = np.zeros((300, 200), np.uint8)
    large[20:280, 30:170] = 1
    rle = coco.encode(np.asfortranarray(large))
    cases.append({"rle": {"size": [300, 200], "counts": rle["counts"].decode()}, "pixels": large.ravel().tolist()})
    return cases


def _boxes(rng: np.random.Generator) -> list[dict]:
    """Boxes before level, tilted and upside-down cameras, with the engine's corners."""
    rows = rng.uniform([-9, -1, 2, 0.3, 0.3, 0.3, -3.14], [9, 2, 40, 3, 3, 9, 3.14], (40, 7))
    tilted = rng.normal([0, 1, 0], 0.4, (38, 3))
    downs = [None, np.array([0.0, -1.0, 0.0]), *(down / np.linalg.norm(down) for down in tilted)]
    cases = []
    for row, down in zip(rows, downs, strict=True):
        corners = box_corners(row[None], down)[0]
        box = {"location": row[:3].tolist(), "dimensions_hwl": row[3:6].tolist(), "rotation_y": row[6]}
        cases.append(
            {
                "box": box if down is None else {**box, "down": down.tolist()},
                "expected": corners.tolist(),
                "from_above": (corners[:4] @ level_rotation(down).T)[:, [0, 2]].tolist(),
            }
        )
    return cases


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
def test_the_modules_of_the_page_agree_with_the_engine(tmp_path):
    rng = np.random.default_rng(5)
    shutil.copytree(ROOT / "static/js/review", tmp_path / "review")
    shutil.copy(ROOT / "static/js/api.js", tmp_path)
    shutil.copy(Path(__file__).with_name("review_modules.test.mjs"), tmp_path)
    (tmp_path / "package.json").write_text('{"type": "module"}')
    (tmp_path / "cases.json").write_text(json.dumps({"masks": _masks(rng), "boxes": _boxes(rng)}))
    command = ["node", "--test", "review_modules.test.mjs"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout
    assert "# pass 7" in done.stdout
