"""Which way of measuring depth a job gets, and whether it can run here."""

import hashlib
import subprocess
import sys
from collections.abc import Sequence
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from pipeline.errors import DepthUnavailableError
from pipeline.stereo.base import StereoMatcher
from pipeline.stereo.camera import RectifiedCamera

SETTING: Final = "FOVEA_MODELS_DIR"
PATTERN: Final = "stereo_*.onnx"
_TRIAL_SECONDS: Final = 120


def find_stereo_model(models_folders: Sequence[Path]) -> Path | None:
    """The stereo network that is used: of the first folder that has one, the first by name."""
    for folder in models_folders:
        for path in sorted(folder.glob(PATTERN)):
            if path.is_file():
                return path
    return None


def why_no_network(models_folders: Sequence[Path]) -> str:
    """A sentence that says what "neural" lacks here; empty where file and package are there. Quick: loads nothing."""
    path = find_stereo_model(models_folders)
    if path is None:
        return (
            f"there is no {PATTERN} in any folder of {SETTING}. "
            "Put a stereo network there (docs/engine.md, Depth, says which kinds run), or choose auto."
        )
    if find_spec("onnxruntime") is None:
        return f"{path.name} needs the package onnxruntime (extra `onnx`), which is not installed."
    return ""


def check_depth_method(method: str, models_folders: Sequence[Path]) -> None:
    """Raise DepthUnavailableError, naming file and setting, where `method` cannot run here.

    The network is loaded and run once in a process of its own, so that the caller stays light and survives whatever a
    file may do; the answer is remembered as long as the file does not change.
    """
    if method == "neural":
        path = _stereo_model(models_folders)
        stat = path.stat()
        if wrong := _trial(path, stat.st_mtime_ns, stat.st_size):
            raise DepthUnavailableError(f"depth_method neural: {wrong} (It was found in a folder of {SETTING}.)")


def matcher_for(method: str, camera: RectifiedCamera, models_folders: Sequence[Path]) -> StereoMatcher:
    """The matcher of a method ("auto", "sgbm" or "neural") for a metric camera. Raises DepthUnavailableError."""
    if method == "neural":
        from pipeline.stereo.neural import NeuralMatcher

        return NeuralMatcher(_stereo_model(models_folders))
    from pipeline.stereo.matching import SemiGlobalMatcher

    return SemiGlobalMatcher.for_camera(camera)


def provenance(method: str, models_folders: Sequence[Path]) -> dict[str, str]:
    """What a sequence says of how its depth was measured."""
    told = {"method": method}
    if method == "neural":
        path = _stereo_model(models_folders)
        with path.open("rb") as stream:
            told |= {"model": path.name, "sha256": hashlib.file_digest(stream, "sha256").hexdigest()}
    return told


def _stereo_model(models_folders: Sequence[Path]) -> Path:
    path = find_stereo_model(models_folders)
    if (missing := why_no_network(models_folders)) or path is None:
        raise DepthUnavailableError(f"depth_method neural: {missing}")
    return path


@lru_cache(maxsize=16)
def _trial(path: Path, _mtime_ns: int, _size: int) -> str:
    """What is wrong with the file; empty if nothing is."""
    command = [sys.executable, "-m", "pipeline.stereo.neural", str(path.resolve())]
    root = Path(__file__).resolve().parents[2]
    try:
        ended = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=_TRIAL_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return f"{path.name} did not run within {_TRIAL_SECONDS} seconds."
    if ended.returncode == 0:
        return ""
    last = ended.stderr.strip().rpartition("\n")[2]
    return ended.stdout.strip() or f"the process that loaded {path.name} ended with {ended.returncode}. {last}".strip()
