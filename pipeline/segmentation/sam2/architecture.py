"""The sizes of SAM 2: what cannot be read off a single checkpoint file, for both implementations of the network."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from transformers import Sam2VideoConfig


@dataclass(frozen=True, slots=True)
class Architecture:
    """The image encoder (Hiera): channels and heads of its first stage, blocks of each of the four stages, which of
    them attend to everything, sides of the windows, side of the learned position background; side of the input.
    config_file: what the sam2 package calls the size."""

    config_file: str
    channels: int
    heads: int
    blocks: tuple[int, int, int, int]
    global_blocks: tuple[int, ...]
    background: int = 7
    windows: tuple[int, int, int, int] = (8, 4, 14, 7)
    side: int = 1024

    @property
    def stage_channels(self) -> list[int]:
        return [self.channels << stage for stage in range(4)]


ARCHITECTURES: Final = {
    "tiny": Architecture("t", 96, 1, (1, 2, 7, 2), (5, 7, 9)),
    "small": Architecture("s", 96, 1, (1, 2, 11, 2), (7, 10, 13)),
    "base": Architecture("b+", 112, 2, (2, 3, 16, 3), (12, 16, 20), background=14),
    "large": Architecture("l", 144, 2, (2, 6, 36, 4), (23, 33, 43), windows=(8, 4, 16, 8)),
}


def transformers_config(family: str, architecture: Architecture) -> "Sam2VideoConfig":
    """The same as a configuration of transformers. 2.1 knows where in time a memory is, and marks frames in which the
    object is hidden; 2.0 does not."""
    from transformers import Sam2HieraDetConfig, Sam2VideoConfig, Sam2VisionConfig
    from transformers.models.sam2_video.configuration_sam2_video import Sam2VideoPromptEncoderConfig

    side, later = architecture.side, family == "sam2.1"
    backbone = Sam2HieraDetConfig(
        hidden_size=architecture.channels,
        num_attention_heads=architecture.heads,
        image_size=[side, side],
        window_positional_embedding_background_size=[architecture.background] * 2,
        blocks_per_stage=list(architecture.blocks),
        embed_dim_per_stage=architecture.stage_channels,
        num_attention_heads_per_stage=[architecture.heads << stage for stage in range(4)],
        window_size_per_stage=list(architecture.windows),
        global_attention_blocks=list(architecture.global_blocks),
    )
    vision = Sam2VisionConfig(
        backbone_config=backbone,
        backbone_channel_list=architecture.stage_channels[::-1],
        backbone_feature_sizes=[[side // stride] * 2 for stride in (4, 8, 16)],
    )
    return Sam2VideoConfig(
        vision_config=vision,
        prompt_encoder_config=Sam2VideoPromptEncoderConfig(image_size=side),
        image_size=side,
        memory_attention_rope_feat_sizes=[side // 16] * 2,
        enable_occlusion_spatial_embedding=later,
        enable_temporal_pos_encoding_for_object_pointers=later,
    )


def hydra_overrides(architecture: Architecture) -> list[str]:
    """What turns a configuration of the sam2 package into this architecture."""
    trunk, side = "++model.image_encoder.trunk", architecture.side // 16
    attention = "++model.memory_attention.layer"
    return [
        f"++model.image_size={architecture.side}",
        f"{trunk}.embed_dim={architecture.channels}",
        f"{trunk}.num_heads={architecture.heads}",
        f"{trunk}.stages={list(architecture.blocks)}",
        f"{trunk}.global_att_blocks={list(architecture.global_blocks)}",
        f"{trunk}.window_pos_embed_bkg_spatial_size={[architecture.background] * 2}",
        f"{trunk}.window_spec={list(architecture.windows)}",
        f"++model.image_encoder.neck.backbone_channel_list={architecture.stage_channels[::-1]}",
        f"{attention}.self_attention.feat_sizes=[{side},{side}]",
        f"{attention}.cross_attention.feat_sizes=[{side},{side}]",
    ]
