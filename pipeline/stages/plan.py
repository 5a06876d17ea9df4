"""What a job asks for, checked, and the stages that follow from it."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Final, Self

from pipeline.errors import ConfigurationError

STAGE_NAMES: Final = ("extraction", "segmentation", "reconstruction", "tracking")
REQUIRES: Final[dict[str, tuple[str, ...]]] = {
    "extraction": (),
    "segmentation": ("extraction",),
    "reconstruction": ("segmentation",),
    "tracking": ("reconstruction",),
}
WEIGHTS: Final[dict[str, int]] = {"extraction": 25, "segmentation": 50, "reconstruction": 15, "tracking": 10}
SEGMENTERS: Final = ("auto", "geometric", "deeplab", "sam2", "sam3")
SAM_VARIANTS: Final = ("tiny", "small", "base", "large")
DEPTH_METHODS: Final = ("auto", "sgbm", "neural")
IMAGE_FORMATS: Final = ("png", "jpeg")


@dataclass(frozen=True, slots=True)
class PipelineConfig:
    """The parameters of one run, as the specification names them. Raises ConfigurationError naming the field.

    confidence_threshold: detections below are dropped, 0…1. batch_size: frames given to the segmenter at once, 1…64.
    frame_skip: every Nth frame, 1…1000. similarity_threshold: dHash distance in bits (0…64) up to which a frame is too
    similar to the last kept one. motion_threshold: mean absolute grey difference to the last kept frame, 0…1, below
    which a frame counts as static. object_class_ids: empty means all classes. depth_method: "auto" takes the ZED SDK's
    depth where there is one, else "sgbm", semi-global matching; "neural" runs the stereo network in the models folders.
    flip_agreement: segment the mirrored image too and say how far its masks agree.
    """

    stages_to_run: tuple[str, ...] = STAGE_NAMES
    segmenter: str = "auto"
    sam3_variant: str = "tiny"
    confidence_threshold: float = 0.5
    batch_size: int = 4
    frame_skip: int = 1
    enable_diversity_filter: bool = False
    similarity_threshold: float = 4
    motion_threshold: float = 0.01
    object_class_ids: tuple[int, ...] = ()
    depth_method: str = "auto"
    flip_agreement: bool = False
    image_format: str = "png"
    write_point_clouds: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "stages_to_run", tuple(self.stages_to_run))
        object.__setattr__(self, "object_class_ids", tuple(self.object_class_ids))
        if not self.stages_to_run:
            raise ConfigurationError("stages_to_run", "choose at least one stage.")
        for name in self.stages_to_run:
            _one_of("stages_to_run", name, STAGE_NAMES)
        _one_of("segmenter", self.segmenter, SEGMENTERS)
        _one_of("sam3_variant", self.sam3_variant, SAM_VARIANTS)
        _one_of("depth_method", self.depth_method, DEPTH_METHODS)
        _one_of("image_format", self.image_format, IMAGE_FORMATS)
        _between("confidence_threshold", self.confidence_threshold, 0, 1)
        _between("batch_size", self.batch_size, 1, 64)
        _between("frame_skip", self.frame_skip, 1, 1000)
        _between("similarity_threshold", self.similarity_threshold, 0, 64)
        _between("motion_threshold", self.motion_threshold, 0, 1)

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {
            "stages_to_run": list(self.stages_to_run),
            "object_class_ids": list(self.object_class_ids),
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Self:
        known = {field.name for field in fields(cls)}
        for name in value:
            if name not in known:
                raise ConfigurationError(name, "there is no such parameter.")
        return cls(**value)


def resolve(stages_to_run: Iterable[str]) -> tuple[str, ...]:
    """The stages asked for and all they depend on, in running order: (tracking) gives all four."""
    wanted: set[str] = set()
    pending = list(stages_to_run)
    while pending:
        name = pending.pop()
        if name not in wanted:
            wanted.add(name)
            pending.extend(REQUIRES[name])
    return tuple(name for name in STAGE_NAMES if name in wanted)


def shares(stages: Sequence[str]) -> dict[str, float]:
    """Each stage's share of the progress bar; the shares of the stages given sum to 1."""
    total = sum(WEIGHTS[name] for name in stages)
    return {name: WEIGHTS[name] / total for name in stages}


def _one_of(field: str, value: object, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise ConfigurationError(field, f"{value!r} is not one of {', '.join(allowed)}.")


def _between(field: str, value: object, low: float, high: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise ConfigurationError(field, f"{value!r} is not a number from {low} to {high}.")
