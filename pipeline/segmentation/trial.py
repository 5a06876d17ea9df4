"""One frame through a segmenter, in a process of its own: what loads badly takes nobody along.

    python -m pipeline.segmentation.trial sam2 tiny /data/models

prints one line of JSON: {"load_s": seconds until it was ready, "frame_s": seconds for a picture of 640 × 480 after a
first one that is not counted} or {"error": a sentence}.
"""

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from pipeline.errors import PipelineError
from pipeline.segmentation import registry
from pipeline.segmentation.base import ClassSpec, View

_SHAPE: Final = (480, 640)
_CLASSES: Final = (ClassSpec(1, "person", "person", (1.75, 0.6, 0.6)),)


@dataclass(frozen=True, slots=True)
class Trial:
    """How it went; `error` is empty if it loaded and ran."""

    load_s: float = 0.0
    frame_s: float = 0.0
    error: str = ""


def attempt(segmenter: str, models_folders: Sequence[Path], variant: str = "tiny", timeout_s: float = 600) -> Trial:
    """Load `segmenter` (of that size, where it has several) in a new process and give it a picture."""
    command = [sys.executable, "-m", __name__, segmenter, variant, *map(str, models_folders)]
    root = Path(__file__).resolve().parents[2]
    try:
        ended = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=timeout_s, check=False)
    except subprocess.TimeoutExpired:
        return Trial(error=f"It did not finish within {timeout_s:.0f} seconds.")
    try:
        return Trial(**json.loads(ended.stdout.strip().rpartition("\n")[2]))
    except (ValueError, TypeError):
        last = ended.stderr.strip().rpartition("\n")[2]
        return Trial(error=f"The process that loaded it ended with {ended.returncode}. {last}".strip())


def _run(segmenter: str, variant: str, models_folders: Sequence[Path]) -> Trial:
    started = time.perf_counter()
    loaded = registry.load(segmenter, _CLASSES, models_folders, variant)
    load_s = time.perf_counter() - started
    view = _view()
    loaded.segment([view])
    started = time.perf_counter()
    loaded.segment([view])
    return Trial(round(load_s, 3), round(time.perf_counter() - started, 3))


def _view() -> View:
    """A box on the ground in front of a camera 1.5 m high, with depth."""
    height, width = _SHAPE
    v, u = np.mgrid[0:height, 0:width].astype(np.float32)
    below = np.maximum(v - 0.45 * height, 1)
    depth = np.where(v > 0.46 * height, 1.5 * 400 / below, np.nan).astype(np.float32)
    box = (abs(u - width / 2) < 60) & (abs(v - 0.55 * height) < 90)
    depth[box] = 5.0
    image = np.where(box[..., None], (40, 60, 200), (120, 130, 125)).astype(np.uint8)
    matrix = np.array([[400, 0, width / 2], [0, 400, 0.45 * height], [0, 0, 1]], dtype=np.float64)
    return View(image, depth, matrix, np.array([0.0, 1.0, 0.0]))


def main(arguments: Sequence[str]) -> int:
    name, variant, *folders = arguments
    try:
        trial = _run(name, variant, [Path(each) for each in folders])
    except (PipelineError, OSError, ImportError, RuntimeError, ValueError, MemoryError) as error:
        trial = Trial(error=str(error) or type(error).__name__)
    print(json.dumps({"load_s": trial.load_s, "frame_s": trial.frame_s, "error": trial.error}))  # noqa: T201
    return 0 if not trial.error else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
