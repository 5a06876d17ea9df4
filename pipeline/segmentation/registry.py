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
from pipeline.segmentation import device, sam_status, weights
from pipeline.segmentation.base import ClassSpec, Segmenter
from pipeline.segmentation.vocabulary import voc_indices

SETTING: Final = "FOVEA_MODELS_DIR"
DEEPLAB_FILE: Final = "deeplabv3_mnv2_pascal_quant.tflite"
DEEPLAB_SHA256: Final = "350af47fd346ea6d74b58833a351f583ba860e9806ec5bd292ff8d8f1f249398"
BACKENDS: Final = {
    "geometric": "pipeline.segmentation.geometric:Geometric",
    "deeplab": "pipeline.segmentation.deeplab:DeepLab",
    "sam2": "pipeline.segmentation.sam2.segmenter:Sam2",
    "sam3": "pipeline.segmentation.sam3:Sam3",
}
SIZED: Final = frozenset({"sam2", "sam3"})
"""Those that come in sizes."""
POWERS: Final = {
    "geometric": frozenset({"automatic"}),
    "deeplab": frozenset({"automatic"}),
    "sam2": frozenset({"automatic", "interactive", "video"}),
    "sam3": frozenset({"automatic", "interactive", "video"}),
}
"""Which of the three protocols of `base` each one has. A checkpoint of SAM 3's detector alone has the first only."""


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
    """Every segmenter the job form offers, in the order of the form. One with sizes is available if any of them is."""
    how = f"Put {DEEPLAB_FILE} into a folder named by {SETTING}; install the package ai-edge-litert (extra `deeplab`)."
    why = _why_no_deeplab(models_folders)
    return [
        SegmenterStatus("geometric", True, how_to_get="Needs nothing but a calibrated stereo recording."),
        SegmenterStatus("deeplab", not why, why, how),
        *(_status_of_sam(name, models_folders) for name in sorted(SIZED)),
    ]


def _status_of_sam(name: str, models_folders: Sequence[Path]) -> SegmenterStatus:
    sizes = sam_status.sizes_here(name, models_folders) or ["tiny"]
    problems = [sam_status.problem(name, size, models_folders) for size in sizes]
    how = sam_status.how_to_get(name, sizes[0])
    return SegmenterStatus(name, not all(problems), "" if not all(problems) else problems[0], how)


def powers(name: str) -> frozenset[str]:
    """Which of "automatic", "interactive" and "video" the segmenter of that name can do; nothing for an unknown one."""
    return POWERS.get(name, frozenset())


def weights_sha256(name: str, models_folders: Sequence[Path], variant: str = "tiny") -> str:
    """The SHA-256 of the weights that a job with this segmenter would use; empty where it has none."""
    if name == "deeplab":
        return DEEPLAB_SHA256
    if name not in SIZED or (found := sam_status.found(name, variant, models_folders)) is None:
        return ""
    return weights.check(found, models_folders)


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


def choose(
    requested: str,
    *,
    metric_stereo: bool,
    classes: Sequence[ClassSpec],
    models_folders: Sequence[Path],
    variant: str = "tiny",
    class_head: bool = False,
) -> str:
    """The name of the segmenter that will run; "auto" takes the best one that can.

    metric_stereo: the recording yields depth in metres. variant: the size, where there are several. class_head: one
    will name what is found. Raises SegmenterUnavailableError with a sentence that names the missing file and the
    setting.
    """
    if requested in SIZED:
        why = sam_status.problem(requested, variant, models_folders)
        if why:
            how = sam_status.how_to_get(requested, variant)
            raise SegmenterUnavailableError(f"segmenter {requested}: {why} {how}")
        if why := sam_status.unsuited(requested, classes, class_head=class_head):
            raise SegmenterUnavailableError(f"segmenter {requested}: {why}")
        return requested
    why_no_deeplab = _why_no_deeplab(models_folders)
    mapped = any(voc_indices(each) for each in classes)
    if requested == "auto":
        fits = {"deeplab": mapped and not why_no_deeplab, "geometric": metric_stereo and _sized(classes)}
        sams = [
            name
            for name in ("sam3", "sam2")
            if not sam_status.unsuited(name, classes, class_head=class_head)
            and not sam_status.problem(name, variant, models_folders)
        ]
        if sams and device.runs_on_gpu():
            return sams[0]
        if chosen := next((name for name, fit in fits.items() if fit), ""):
            return chosen
        if "sam2" in sams:  # slow on a CPU, and still better than nothing
            return "sam2"
        raise SegmenterUnavailableError(_nothing_fits(why_no_deeplab, metric_stereo=metric_stereo))
    if requested not in BACKENDS:
        raise SegmenterUnavailableError(f"segmenter: {requested!r} is not one of auto, {', '.join(BACKENDS)}.")
    if requested == "deeplab" and why_no_deeplab:
        how = next(each.how_to_get for each in statuses(models_folders) if each.name == "deeplab")
        raise SegmenterUnavailableError(f"segmenter deeplab: {why_no_deeplab} {how}")
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


def _nothing_fits(why_no_deeplab: str, *, metric_stereo: bool) -> str:
    sentences = ["segmenter auto: no segmenter that can run here fits this recording."]
    if not metric_stereo:
        sentences.append("The geometric one needs a stereo recording with its camera's calibration;")
    else:
        sentences.append("The geometric one needs a label class with a typical size;")
    if why_no_deeplab:
        how = f"Put {DEEPLAB_FILE} into a folder named by {SETTING}; install the package ai-edge-litert."
        sentences.append(f"for deeplab, {why_no_deeplab} {how}")
    else:
        sentences.append("deeplab needs a label class named after one of PASCAL VOC's 20 (person, car, dog, …).")
    return " ".join(sentences)


def load(
    name: str, classes: Sequence[ClassSpec], models_folders: Sequence[Path] = (), variant: str = "tiny"
) -> Segmenter:
    """Construct the segmenter `name` for these label classes. Raises SegmenterUnavailableError where it cannot run."""
    if name not in BACKENDS:
        raise SegmenterUnavailableError(f"segmenter: {name!r} is not one of {', '.join(BACKENDS)}.")
    module, _, attribute = BACKENDS[name].partition(":")
    backend: Any = getattr(import_module(module), attribute)
    sized = {"variant": variant} if name in SIZED else {}
    return cast("Segmenter", backend(tuple(classes), tuple(models_folders), **sized))
