"""EdgeTAM (Zhou et al., "EdgeTAM: On-Device Track Anything Model", CVPR 2025): SAM 2 with a light image encoder and a
memory that is condensed, as transformers implements it (`EdgeTamVideoModel`), without timm."""

import json
from pathlib import Path
from typing import Any, Final

from pipeline.errors import SegmenterUnavailableError
from pipeline.segmentation.hub_folder import MISFITS, quiet
from pipeline.segmentation.sam2 import checkpoint

FAMILY: Final = "edgetam"
MODEL_TYPE: Final = "edgetam_video"
_POSITIONS: Final = (
    "shared_image_embedding.positional_embedding",
    "prompt_encoder.shared_embedding.positional_embedding",
)
"""Two names of the same tensor: some versions of transformers save it once."""


def load(config: Path, weights: Path) -> Any:
    """The model on the CPU: from the hub's config.json and model.safetensors, every tensor of which must be its own.

    Raises SegmenterUnavailableError naming the file that does not fit.
    """
    from huggingface_hub.errors import StrictDataclassError
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    quiet()
    folder = weights.parent.name
    try:
        model = built(json.loads(config.read_text()))
        tensors = load_file(weights)
    except (*MISFITS, StrictDataclassError, SafetensorError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise SegmenterUnavailableError(f"{folder}: the weights do not fit its config.json: {reason}") from error
    for one, other in (_POSITIONS, _POSITIONS[::-1]):
        if other in tensors:
            tensors.setdefault(one, tensors[other])
    checkpoint.compare(f"{folder}/{weights.name}", model.state_dict(), tensors)
    model.load_state_dict(tensors)
    return model


def built(settings: dict[str, Any]) -> Any:
    """An EdgeTamVideoModel of a configuration as the hub has it, with random weights.

    Raises ValueError where its backbone is not the one of EdgeTAM, and whatever transformers raises where the rest is
    no configuration.
    """
    from transformers import EdgeTamVideoConfig, EdgeTamVideoModel, EdgeTamVisionConfig

    vision = dict(settings["vision_config"])
    vision["backbone_config"] = _backbone(dict(vision["backbone_config"]))
    vision_config = EdgeTamVisionConfig.from_dict(vision)
    return EdgeTamVideoModel(EdgeTamVideoConfig.from_dict({**settings, "vision_config": vision_config}))


def _backbone(settings: dict[str, Any]) -> Any:
    """The backbone of a configuration made for timm's wrapper; channels and depths may be given, as timm takes them."""
    from pipeline.segmentation.sam2 import repvit

    name, given = str(settings.get("architecture")), dict(settings.get("model_args") or {})
    if name.partition(".")[0] != repvit.ARCHITECTURE:
        raise ValueError(f"its backbone is {name!r}, that of EdgeTAM is {repvit.ARCHITECTURE!r}")
    if list(given.get("out_indices", range(4))) != [0, 1, 2, 3]:
        raise ValueError(f"its backbone gives the stages {given['out_indices']}, EdgeTAM needs all four")
    channels, depths = given.get("embed_dim", repvit.CHANNELS), given.get("depth", repvit.DEPTHS)
    return repvit.RepVitConfig(channels=list(channels), depths=list(depths))
