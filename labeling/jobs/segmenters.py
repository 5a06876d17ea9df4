"""Which segmenter a job gets: asked of the engine when the job is created, never half-way through."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.conf import settings

WANTS_GPU = frozenset({"sam2", "sam3"})
LABELS = {
    "auto": "Automatic", "geometric": "Geometric", "deeplab": "DeepLab v3", "sam2": "SAM 2", "sam3": "SAM 3",
}  # fmt: skip
HELP = {
    "auto": "The best one that can run here for these recordings and classes.",
    "geometric": "Objects stand out from the ground as 3D clusters; classes by their typical sizes. Stereo only.",
    "deeplab": "DeepLab v3 with the 20 classes of PASCAL VOC; fast on a CPU.",
    "sam2": "Segment Anything 2: class-agnostic masks of high quality.",
    "sam3": "Segment Anything 3: looks for the text prompts of the label classes.",
}

SPEED = {
    "geometric": "on a CPU, about six VGA frames a second",
    "deeplab": "on a CPU, a few VGA frames a second",
}
"""Of those without sizes (docs/models.md)."""


@dataclass(frozen=True, slots=True)
class Choice:
    """The segmenter that will run, the SHA-256 of its weights (if it has any), and the queue it belongs into."""

    name: str
    sha256: str = ""

    @property
    def wants_gpu(self) -> bool:
        return self.name in WANTS_GPU


def choose(
    requested: str,
    *,
    metric_stereo: bool,
    classes: Sequence[dict[str, Any]],
    variant: str = "tiny",
    class_head: bool = False,
) -> Choice:
    """The segmenter for recordings that do (or do not) yield depth in metres, and for a snapshot of classes.

    variant: its size, where there are several; class_head: one will name what is found. Raises
    SegmenterUnavailableError with a sentence that names what is missing.
    """
    from pipeline.segmentation import registry

    name = registry.choose(
        requested,
        metric_stereo=metric_stereo,
        classes=class_specs(classes),
        models_folders=settings.MODELS_FOLDERS,
        variant=variant,
        class_head=class_head,
    )
    return Choice(name, registry.weights_sha256(name, settings.MODELS_FOLDERS, variant))


def statuses() -> list[dict[str, Any]]:
    """Every segmenter: whether it can run here, why not, how to get it, how fast it is, which sizes are here."""
    from pipeline.segmentation import registry, sam_status

    found = registry.statuses(settings.MODELS_FOLDERS)
    return [
        {
            "name": item.name,
            "available": item.available,
            "reason": item.reason,
            "how_to_get": item.how_to_get,
            "speed": sam_status.speed(item.name) if item.name in registry.SIZED else SPEED.get(item.name, ""),
            "sizes": sam_status.sizes_here(item.name, settings.MODELS_FOLDERS) if item.name in registry.SIZED else [],
            "powers": sorted(registry.powers(item.name)),
        }
        for item in found
    ]


def class_specs(classes: Sequence[dict[str, Any]]) -> list[Any]:
    """A job's snapshot of classes as the engine takes it: pipeline.segmentation.base.ClassSpec."""
    from pipeline.segmentation.base import ClassSpec

    return [
        ClassSpec(
            id=item["number"],
            name=item["name"],
            text_prompt=item["text_prompt"],
            typical_size_hwl=tuple(item["typical_size_hwl"]) if item["typical_size_hwl"] else None,
        )
        for item in classes
    ]
