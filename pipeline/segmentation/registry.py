"""Which segmenters there are, which of them can run here, and how to get the others. Backends load on first use."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, cast

from pipeline.errors import SegmenterUnavailableError
from pipeline.segmentation.base import ClassSpec, Segmenter
from pipeline.segmentation.vocabulary import voc_indices

SETTING: Final = "FOVEA_MODELS_DIR"
DEEPLAB_FILE: Final = "deeplabv3_mnv2_pascal_quant.tflite"
DEEPLAB_SHA256: Final = "350af47fd346ea6d74b58833a351f583ba860e9806ec5bd292ff8d8f1f249398"
BACKENDS: Final = {
    "geometric": "pipeline.segmentation.geometric:Geometric",
    "deeplab": "pipeline.segmentation.deeplab:DeepLab",
}
COMING: Final = {
    "sam2": f"the checkpoint of the chosen size (sam2.1_hiera_*.pt) in a folder of {SETTING}, and torch and sam2",
    "sam3": f"the SAM 3 weights (model.safetensors) in a folder of {SETTING}, and torch and transformers",
}
"""Known to the job form, not run by this version; and what each will need."""


@dataclass(frozen=True, slots=True)
class SegmenterStatus:
    """Whether a segmenter can run here; `reason` says why not, `how_to_get` what to do about it."""

    name: str
    available: bool
    reason: str = ""
    how_to_get: str = ""


def find_model(file_name: str, models_folders: Sequence[Path]) -> Path | None:
    """The first folder's file of that name."""
    return next((folder / file_name for folder in models_folders if (folder / file_name).is_file()), None)


def verified(path: Path, sha256: str) -> Path:
    """`path`, if its content has that SHA-256; raises SegmenterUnavailableError naming the file if not."""
    stat = path.stat()
    if _sha256(path, stat.st_mtime_ns, stat.st_size) != sha256:
        raise SegmenterUnavailableError(
            f"{path.name} is damaged or another version (its SHA-256 is not {sha256[:12]}…): "
            f"fetch it again into the folder of {SETTING}."
        )
    return path


@lru_cache(maxsize=32)
def _sha256(path: Path, _mtime_ns: int, _size: int) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def statuses(models_folders: Sequence[Path]) -> list[SegmenterStatus]:
    """Every segmenter the job form offers, in the order of the form."""
    how = f"Put {DEEPLAB_FILE} into a folder named by {SETTING}; install the package ai-edge-litert (extra `deeplab`)."
    why = _why_no_deeplab(models_folders)
    return [
        SegmenterStatus("geometric", True, how_to_get="Needs nothing but a calibrated stereo recording."),
        SegmenterStatus("deeplab", not why, why, how),
        *(
            SegmenterStatus(name, False, f"{name} is not part of this version yet.", f"It will need {needs}.")
            for name, needs in COMING.items()
        ),
    ]


def _why_no_deeplab(models_folders: Sequence[Path]) -> str:
    path = find_model(DEEPLAB_FILE, models_folders)
    if path is None:
        return f"{DEEPLAB_FILE} is in none of the folders of {SETTING}."
    try:
        verified(path, DEEPLAB_SHA256)
    except SegmenterUnavailableError as error:
        return str(error)
    if find_spec("ai_edge_litert") is None:
        return "The package ai-edge-litert, which runs it, is not installed."
    return ""


def choose(requested: str, *, metric_stereo: bool, classes: Sequence[ClassSpec], models_folders: Sequence[Path]) -> str:
    """The name of the segmenter that will run; "auto" takes the best one that can.

    metric_stereo: the recording yields depth in metres. Raises SegmenterUnavailableError with a sentence that names
    the missing file and the setting.
    """
    known = {status.name: status for status in statuses(models_folders)}
    mapped = any(voc_indices(each) for each in classes)
    if requested == "auto":
        if known["deeplab"].available and mapped:
            return "deeplab"
        if metric_stereo and _sized(classes):
            return "geometric"
        raise SegmenterUnavailableError(_nothing_fits(known["deeplab"], metric_stereo=metric_stereo))
    if requested not in known:
        raise SegmenterUnavailableError(f"segmenter: {requested!r} is not one of auto, {', '.join(known)}.")
    status = known[requested]
    if not status.available:
        raise SegmenterUnavailableError(f"segmenter {requested}: {status.reason} {status.how_to_get}")
    if requested == "geometric" and not metric_stereo:
        raise SegmenterUnavailableError(
            "segmenter geometric: it needs a stereo recording and its calibration (SN*.conf, calib.txt or sensor.yaml)."
        )
    if requested == "geometric" and not _sized(classes):
        raise SegmenterUnavailableError("segmenter geometric: give at least one label class a typical size (h, w, l).")
    if requested == "deeplab" and not mapped:
        raise SegmenterUnavailableError(
            "segmenter deeplab: none of the label classes is one it knows; it knows the 20 classes of PASCAL VOC "
            "(person, car, bus, bicycle, motorbike, dog, cat, chair, …)."
        )
    return requested


def _sized(classes: Sequence[ClassSpec]) -> bool:
    from pipeline.segmentation.size_prior import typical_size

    return any(typical_size(each) for each in classes)


def _nothing_fits(deeplab: SegmenterStatus, *, metric_stereo: bool) -> str:
    sentences = ["segmenter auto: no segmenter that can run here fits this recording."]
    if not metric_stereo:
        sentences.append("The geometric one needs a stereo recording with its camera's calibration;")
    else:
        sentences.append("The geometric one needs a label class with a typical size;")
    if deeplab.available:
        sentences.append("deeplab needs a label class named after one of PASCAL VOC's 20 (person, car, dog, …).")
    else:
        sentences.append(f"for deeplab, {deeplab.reason} {deeplab.how_to_get}")
    return " ".join(sentences)


def load(name: str, classes: Sequence[ClassSpec], models_folders: Sequence[Path] = ()) -> Segmenter:
    """Construct the segmenter `name` for these label classes. Raises SegmenterUnavailableError where it cannot run."""
    if name not in BACKENDS:
        needs = f" It will need {COMING[name]}." if name in COMING else ""
        raise SegmenterUnavailableError(f"segmenter: {name!r} is not part of this version.{needs}")
    module, _, attribute = BACKENDS[name].partition(":")
    backend: Any = getattr(import_module(module), attribute)
    return cast("Segmenter", backend(tuple(classes), tuple(models_folders)))
