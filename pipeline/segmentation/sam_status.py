"""Whether SAM 2 and SAM 3 can run here, why not, and how fast: asked without loading any of it."""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from pipeline.errors import SegmenterUnavailableError
from pipeline.segmentation import device, weights
from pipeline.segmentation.base import ClassSpec

FAMILIES: Final = {"sam2": ("sam2.1", "sam2", "edgetam"), "sam3": ("sam3",)}
"""Of checkpoints, for each segmenter, in order of preference."""
WITHOUT_TRACKER: Final = (
    "the weights in sam3/ are those of the detector alone, which takes no clicks and follows nothing: "
    "fetch the whole checkpoint (its config.json has the model_type sam3_video)."
)
_INSTALL: Final = "install the extra `sam` (pip install -e '.[sam]')"
_ON_GPU: Final = {"sam2": "well under a second a frame", "sam3": "about a second a frame"}
_ON_CPU: Final = {
    "sam2": "about ten seconds a frame for automatic masks, and a tenth of a second a click",
    "sam3": "half a minute a frame and 4 GB of memory",
}
"""Of the smallest size on two cores, measured with random weights (docs/models.md)."""


def found(segmenter: str, variant: str, models_folders: Sequence[Path]) -> weights.Found | None:
    """The checkpoint that a job of that size would use, None if there is none. SAM 3 has one size only."""
    size = "large" if segmenter == "sam3" else variant
    candidates = (weights.find(each.name, models_folders) for each in weights.of_family(FAMILIES[segmenter], size))
    return next((each for each in candidates if each is not None), None)


def sizes_here(segmenter: str, models_folders: Sequence[Path]) -> list[str]:
    """The sizes of which there are weights, the smallest first."""
    sizes = ("large",) if segmenter == "sam3" else ("tiny", "small", "base", "large")
    return [size for size in sizes if found(segmenter, size, models_folders)]


def has_tracker(checkpoint: weights.Found) -> bool:
    """Whether a checkpoint of SAM 3 takes clicks and follows objects: the detector may have been saved alone."""
    return bool(weights.read_config(checkpoint).get("model_type") == "sam3_video")


def problem(segmenter: str, variant: str, models_folders: Sequence[Path]) -> str:
    """Why a job of that size cannot run here, in a sentence; empty if it can. Hashes the weights, once."""
    name = {"sam2": f"SAM 2 of size {variant}", "sam3": "SAM 3"}[segmenter]
    checkpoint = found(segmenter, variant, models_folders)
    if checkpoint is None:
        others = sizes_here(segmenter, models_folders)
        there = f" There are weights of size {', '.join(others)}." if others else ""
        return f"The weights of {name} are in none of the folders of {weights.SETTING}.{there}"
    if missing := _missing(segmenter, checkpoint):
        return f"The package {missing}, which runs it, is not installed."
    try:
        weights.check(checkpoint, models_folders)
    except SegmenterUnavailableError as error:
        return str(error)
    return device.problem()


def how_to_get(segmenter: str, variant: str) -> str:
    """What a person has to do, and how fast it will be here."""
    size = "large" if segmenter == "sam3" else variant
    wanted = weights.of_family(FAMILIES[segmenter], size)[0].name
    return f"{weights.how_to_get(wanted)} Then {_INSTALL}. Speed: {speed(segmenter)}."


def speed(segmenter: str) -> str:
    """How long it takes on this machine, for a sentence."""
    if device.runs_on_gpu():
        return f"on the GPU here, {_ON_GPU[segmenter]}"
    return f"on a CPU, {_ON_CPU[segmenter]}"


def unsuited(segmenter: str, classes: Sequence[ClassSpec], *, class_head: bool) -> str:
    """Why it can do nothing with these label classes; empty if it can."""
    if segmenter == "sam3":
        silent = [each.name for each in classes if not each.text_prompt.strip()]
        if silent:
            names = ", ".join(f"“{name}”" for name in silent)
            return f"SAM 3 looks for words: give the label class {names} a text prompt, such as “a wooden crate”."
    elif len(classes) != 1 and not class_head:
        return (
            f"SAM 2 finds objects but knows no classes, and there are {len(classes)}: choose a single label class, "
            "or train a class head, which then names what is found."
        )
    return ""


def _missing(segmenter: str, checkpoint: weights.Found) -> str:
    if find_spec("torch") is None:
        return "torch"
    usable = ["transformers"]
    if segmenter == "sam2" and checkpoint.config is None:
        usable.append("sam2")
    return "" if any(find_spec(each) for each in usable) else usable[0]
