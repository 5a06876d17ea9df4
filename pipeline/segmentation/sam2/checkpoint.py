"""Meta's checkpoints (`{"model": tensors}`, one .pt file) read safely, and renamed to what transformers calls them.

`tests/pipeline/segmentation/sam2` proves that both networks then compute the same.
"""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pipeline.errors import SegmenterUnavailableError

if TYPE_CHECKING:
    import torch

_RULES: Final = (
    (r"^maskmem_tpos_enc$", "memory_temporal_positional_encoding"),
    (r"^no_mem_embed$", "no_memory_embedding"),
    (r"^no_mem_pos_enc$", "no_memory_positional_encoding"),
    (r"^no_obj_ptr$", "no_object_pointer"),
    (r"^no_obj_embed_spatial$", "occlusion_spatial_embedding_parameter"),
    (r"^obj_ptr_proj\.", "object_pointer_proj."),
    (r"^obj_ptr_tpos_proj\.", "temporal_positional_encoding_projection_layer."),
    (r"^image_encoder\.trunk\.", "vision_encoder.backbone."),
    (r"^image_encoder\.neck\.convs\.(\d+)\.conv\.", r"vision_encoder.neck.convs.\1."),
    (r"patch_embed\.proj\.", "patch_embed.projection."),
    (r"^sam_prompt_encoder\.", "prompt_encoder."),
    (r"^sam_mask_decoder\.", "mask_decoder."),
    (r"mask_downscaling\.0\.", "mask_embed.conv1."),
    (r"mask_downscaling\.1\.", "mask_embed.layer_norm1."),
    (r"mask_downscaling\.3\.", "mask_embed.conv2."),
    (r"mask_downscaling\.4\.", "mask_embed.layer_norm2."),
    (r"mask_downscaling\.6\.", "mask_embed.conv3."),
    (r"output_upscaling\.0\.", "upscale_conv1."),
    (r"output_upscaling\.1\.", "upscale_layer_norm."),
    (r"output_upscaling\.3\.", "upscale_conv2."),
    (r"^memory_encoder\.pix_feat_proj\.", "memory_encoder.feature_projection."),
    (r"^memory_encoder\.out_proj\.", "memory_encoder.projection."),
    (r"^memory_encoder\.fuser\.", "memory_encoder.memory_fuser."),
    (r"\.gamma$", ".scale"),
    (r"\.dwconv\.", ".depthwise_conv."),
    (r"\.pwconv(\d)\.", r".pointwise_conv\1."),
    (r"\.norm_final_attn\.", ".layer_norm_final_attn."),
    (r"\.norm(\d?)\.", r".layer_norm\1."),
    (r"\.out_proj\.", ".o_proj."),
)
_TWO_LAYERS: Final = re.compile(r"(backbone\.blocks|mask_decoder\.transformer\.layers)\.\d+\.mlp\.")
_THREE_LAYERS: Final = re.compile(r"(output_hypernetworks_mlps\.\d+|_head|object_pointer_proj)\.layers\.")
_POSITIONS: Final = "sam_prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"


def read(path: Path) -> "dict[str, torch.Tensor]":
    """The tensors of a checkpoint of Meta's. Nothing in the file is executed.

    Raises SegmenterUnavailableError naming the file where it is not such a checkpoint.
    """
    import torch

    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, ValueError, EOFError, KeyError, OSError) as error:
        raise SegmenterUnavailableError(f"{path.name} is damaged: PyTorch cannot read it.") from error
    except Exception as error:
        # Unpickling refuses with an error of its own, which torch does not export.
        if type(error).__name__ != "UnpicklingError":
            raise
        raise SegmenterUnavailableError(
            f"{path.name} holds more than numbers: it is not a checkpoint of SAM 2, and was not read."
        ) from error
    tensors = content.get("model") if isinstance(content, dict) else None
    if not isinstance(tensors, dict) or not all(isinstance(each, torch.Tensor) for each in tensors.values()):
        raise SegmenterUnavailableError(f"{path.name} is not a checkpoint of SAM 2: it has no tensors under 'model'.")
    return tensors


def compare(name: str, expected: dict[str, Any], given: dict[str, Any]) -> None:
    """Raise SegmenterUnavailableError where the tensors given, of the file `name`, are not those of a model."""
    if wrong := sorted(expected.keys() ^ given.keys()):
        raise SegmenterUnavailableError(
            f"{name} belongs to another model: {len(wrong)} of its tensors are missing or unknown ({wrong[0]} first)."
        )
    for key, tensor in expected.items():
        if given[key].shape != tensor.shape:
            raise SegmenterUnavailableError(
                f"{name} belongs to a model of another size: {key} is {tuple(given[key].shape)}, "
                f"expected {tuple(tensor.shape)}."
            )


def renamed(tensors: "dict[str, torch.Tensor]") -> "dict[str, torch.Tensor]":
    """The same tensors under the names of transformers' Sam2VideoModel."""
    import torch

    out, corners = {}, {}
    for key, tensor in tensors.items():
        if key == _POSITIONS:
            out["shared_image_embedding.positional_embedding"] = tensor
            out["prompt_encoder.shared_embedding.positional_embedding"] = tensor
        elif match := re.fullmatch(r"sam_prompt_encoder\.point_embeddings\.(\d+)\.weight", key):
            corners[int(match[1])] = tensor
        else:
            out[_renamed(key)] = tensor
    if corners:
        out["prompt_encoder.point_embed.weight"] = torch.cat([corners[each] for each in sorted(corners)])
    return out


def _renamed(key: str) -> str:
    for pattern, replacement in _RULES:
        key = re.sub(pattern, replacement, key)
    if match := re.search(r"mask_downsampler\.encoder\.(\d+)\.", key):
        layer, kind = divmod(int(match[1]), 3)
        last = f"layers.{layer}.{'layer_norm' if kind else 'conv'}." if layer < 4 else "final_conv."
        return key.replace(match[0], f"mask_downsampler.{last}")
    if _TWO_LAYERS.search(key):
        return key.replace(".mlp.layers.0.", ".mlp.proj_in.").replace(".mlp.layers.1.", ".mlp.proj_out.")
    if match := re.search(_THREE_LAYERS.pattern + r"(\d)\.", key):
        name = ("proj_in", "layers.0", "proj_out")[int(match[2])]
        return key.replace(match[0], f"{match[1]}.{name}.")
    return key
