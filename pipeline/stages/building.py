"""From a job's parameters to the stages that do it."""

from collections.abc import Callable
from typing import Final

from pipeline.stages.base import Stage
from pipeline.stages.plan import PipelineConfig, resolve


def _extraction(config: PipelineConfig, segmenter: str) -> Stage:
    from pipeline.stages.extraction import Extraction

    return Extraction(
        frame_skip=config.frame_skip,
        enable_diversity_filter=config.enable_diversity_filter,
        similarity_threshold=config.similarity_threshold,
        motion_threshold=config.motion_threshold,
        depth_method=config.depth_method,
        image_format="jpeg" if config.image_format == "jpeg" else "png",
        write_point_clouds=config.write_point_clouds,
    )


def _segmentation(config: PipelineConfig, segmenter: str) -> Stage:
    from pipeline.stages.segmentation import Segmentation

    return Segmentation(
        segmenter=segmenter,
        confidence_threshold=config.confidence_threshold,
        batch_size=config.batch_size,
        sam3_variant=config.sam3_variant,
        object_class_ids=config.object_class_ids,
        flip_agreement=config.flip_agreement,
    )


def _reconstruction(config: PipelineConfig, segmenter: str) -> Stage:
    from pipeline.stages.reconstruction import Reconstruction

    return Reconstruction()


def _tracking(config: PipelineConfig, segmenter: str) -> Stage:
    from pipeline.stages.tracking import Tracking

    return Tracking(confidence_threshold=config.confidence_threshold)


_BUILDERS: Final[dict[str, Callable[[PipelineConfig, str], Stage]]] = {
    "extraction": _extraction,
    "segmentation": _segmentation,
    "reconstruction": _reconstruction,
    "tracking": _tracking,
}


def build_stages(config: PipelineConfig, segmenter: str) -> dict[str, Stage]:
    """The stages of a job by name, in running order. `segmenter` is the backend that was chosen for it.

    Imports only what the stages need; nothing is loaded before a stage runs.
    """
    return {name: _BUILDERS[name](config, segmenter) for name in resolve(config.stages_to_run)}
