"""A real SAM 2 of the smallest size, with random weights, saved as the hub and as Meta publish theirs."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.segmentation import weights
from pipeline.segmentation.base import ClassSpec

SIDE = 128
CRATE = ClassSpec(4, "crate")


@pytest.fixture(scope="session")
def torch():
    torch = pytest.importorskip("torch", reason="torch is not installed (extra `sam`)")
    pytest.importorskip("transformers", reason="transformers is not installed (extra `sam`)")
    torch.set_num_threads(1)
    return torch


def tiny_config():
    """1.2 million parameters: every part of SAM 2.1, each as small as it may be."""
    from transformers import Sam2HieraDetConfig, Sam2VideoConfig, Sam2VisionConfig
    from transformers.models.sam2_video.configuration_sam2_video import (
        Sam2VideoMaskDecoderConfig,
        Sam2VideoPromptEncoderConfig,
    )

    channels, hidden = [8, 16, 32, 64], 128
    backbone = Sam2HieraDetConfig(
        hidden_size=8,
        image_size=[SIDE, SIDE],
        blocks_per_stage=[1, 1, 2, 1],
        embed_dim_per_stage=channels,
        num_attention_heads_per_stage=[1, 1, 2, 2],
        global_attention_blocks=[3],
    )
    vision = Sam2VisionConfig(
        backbone_config=backbone,
        backbone_channel_list=channels[::-1],
        backbone_feature_sizes=[[SIDE // stride] * 2 for stride in (4, 8, 16)],
        fpn_hidden_size=hidden,
    )
    return Sam2VideoConfig(
        vision_config=vision,
        prompt_encoder_config=Sam2VideoPromptEncoderConfig(image_size=SIDE, hidden_size=hidden),
        mask_decoder_config=Sam2VideoMaskDecoderConfig(hidden_size=hidden, mlp_dim=128, iou_head_hidden_dim=64),
        image_size=SIDE,
        memory_attention_rope_feat_sizes=[SIDE // 16] * 2,
        memory_attention_hidden_size=hidden,
        memory_attention_num_layers=1,
        memory_attention_feed_forward_hidden_size=128,
        memory_encoder_hidden_size=hidden,
        memory_encoder_output_channels=64,
        mask_downsampler_embed_dim=hidden,
        memory_fuser_embed_dim=hidden,
        memory_fuser_intermediate_dim=128,
    )


def made_confident(torch, decoder, layer, gain):
    """Random weights expect an IoU of a half of every mask and are sure of no pixel: move both to where a trained
    decoder has them, so that masks pass. `layer` gives the last linear layer of a head, `gain` multiplies logits."""
    with torch.no_grad():
        layer(decoder.iou_prediction_head).bias += 3.0
        for head in decoder.output_hypernetworks_mlps:
            layer(head).weight *= gain
            layer(head).bias *= gain
        layer(decoder.pred_obj_score_head).bias += 3.0


@pytest.fixture(scope="session")
def hub_folder(torch, tmp_path_factory) -> Path:
    """A models folder with sam2.1-hiera-tiny/ as transformers saves it."""
    from transformers import Sam2VideoModel

    torch.manual_seed(1)
    model = Sam2VideoModel(tiny_config())
    embedding = model.prompt_encoder.shared_embedding.positional_embedding
    model.shared_image_embedding.positional_embedding.copy_(embedding)
    made_confident(torch, model.mask_decoder, lambda head: head.proj_out, 20_000)
    folder = tmp_path_factory.mktemp("models")
    model.save_pretrained(folder / "sam2.1-hiera-tiny")
    return folder


@dataclass(frozen=True)
class MetaFolder:
    path: Path
    family: str


@pytest.fixture(scope="session", params=["sam2.1", "sam2"])
def meta_folder(request, torch, tmp_path_factory) -> MetaFolder:
    """A models folder with a single file as Meta publishes it: built by the sam2 package, with a small encoder."""
    pytest.importorskip("sam2", reason="the package sam2 is not installed")
    from sam2.build_sam import build_sam2

    from pipeline.segmentation.sam2 import architecture

    family = request.param
    small = architecture.Architecture("t", 16, 1, (1, 1, 2, 1), (3,), side=SIDE)
    overrides = architecture.hydra_overrides(small)
    torch.manual_seed(2)
    model = build_sam2(f"configs/{family}/{family}_hiera_t.yaml", None, device="cpu", hydra_overrides_extra=overrides)
    made_confident(torch, model.sam_mask_decoder, lambda head: head.layers[-1], 50)
    folder = tmp_path_factory.mktemp(family.replace(".", "_"))
    torch.save({"model": model.state_dict()}, folder / f"{family}_hiera_tiny.pt")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(architecture.ARCHITECTURES, "tiny", small)
        for name in ("sam2.1-tiny", "sam2-tiny"):
            patch.setitem(weights.CATALOGUE, name, replace(weights.CATALOGUE[name], sha256={}))
        yield MetaFolder(folder, family)


@pytest.fixture(autouse=True)
def _not_compiled(monkeypatch):
    """Compiling takes seconds: only the tests that are about it do it."""
    monkeypatch.setenv("FOVEA_SAM_COMPILED", "no")
    monkeypatch.delenv("FOVEA_DEVICE", raising=False)


@pytest.fixture(scope="session")
def truck(data_folder) -> np.ndarray:
    import cv2

    return cv2.resize(cv2.imread(str(data_folder / "video_sam2" / "truck.jpg")), (300, 200))


class Film:
    """A bright square that moves to the right by two pixels a frame; counts what is read."""

    def __init__(self, frames: int, broken: int = -1) -> None:
        self._frames, self._broken = frames, broken
        self.read: list[int] = []

    def __len__(self) -> int:
        return self._frames

    def __getitem__(self, index: int) -> np.ndarray:
        from pipeline.errors import RecordingError

        self.read.append(index)
        if index == self._broken:
            raise RecordingError(f"frame {index} cannot be read.")
        image = np.full((96, 160, 3), 40, np.uint8)
        image[30:60, 20 + 2 * index % 100 : 50 + 2 * index % 100] = (30, 200, 220)
        return image


@pytest.fixture
def film():
    return Film
