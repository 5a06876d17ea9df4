"""SAM 2 as Meta's own `sam2` package implements it, used through `build_sam2` and the parts of `SAM2Base`.

The package's predictors are left out: they need torchvision, and keep every frame of a video in memory.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from pipeline.errors import SegmenterUnavailableError
from pipeline.segmentation.sam2 import checkpoint
from pipeline.segmentation.sam2.architecture import Architecture, hydra_overrides
from pipeline.segmentation.sam2.network import Decoded, Features, Pointer, Seen, mask_at

if TYPE_CHECKING:
    import torch

_POST_PROCESSING: Final = ["++model.binarize_mask_from_pts_for_mem_enc=true"]
"""What the package's video predictor adds: a mask that somebody clicked is remembered as it is shown."""


def load(weights: Path, family: str, architecture: Architecture) -> Any:
    """The model on the CPU, ready for inference.

    Raises SegmenterUnavailableError where the file is not a checkpoint of that architecture.
    """
    from sam2.build_sam import build_sam2

    tensors = checkpoint.read(weights)
    name = f"configs/{family}/{family}_hiera_{architecture.config_file}.yaml"
    model = build_sam2(
        name, None, device="cpu", hydra_overrides_extra=[*hydra_overrides(architecture), *_POST_PROCESSING]
    )
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1].strip()
        raise SegmenterUnavailableError(f"{weights.name} belongs to another model: {reason}") from error
    return model.eval().requires_grad_(False)


class MetaNetwork:
    """pipeline.segmentation.sam2.network.Network over a SAM2Base."""

    runtime = "sam2"

    def __init__(self, model: Any, device: "torch.device") -> None:
        self.model = model.to(device)
        self.device = device
        self.side = int(model.image_size)
        self.mask_side = self.side // 4
        neck = model.image_encoder.neck
        import torch

        sizes = [self.side // stride for stride in (4, 8, 16)]
        blanks = [torch.empty(1, model.hidden_dim, size, size, device=device) for size in sizes]
        self._positions = [neck.position_encoding(blank).float() for blank in blanks]

    def encode(self, pixels: "torch.Tensor") -> Features:
        return Features(*self.model.forward_image(pixels)["backbone_fpn"][:3])

    def decode(
        self, features: Features, points: "torch.Tensor", labels: "torch.Tensor", mask: Any = None, *, several: bool
    ) -> Decoded:
        model = self.model
        sparse, dense = model.sam_prompt_encoder(points=(points, labels), boxes=None, masks=mask)
        coarse = features.coarse
        if model.directly_add_no_mem_embed:
            coarse = coarse + model.no_mem_embed.view(1, -1, 1, 1)
        logits, quality, _, _ = model.sam_mask_decoder(
            image_embeddings=coarse,
            image_pe=model.sam_prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=several,
            repeat_image=len(points) > 1,
            high_res_features=[features.fine, features.middle],
        )
        return Decoded(logits.float(), quality.float())

    def memory(self, frames: int) -> "_Memory":
        return _Memory(self, frames)

    def positions(self) -> list["torch.Tensor"]:
        """Of the three feature maps, (pixels, 1, channels)."""
        return [each.flatten(2).permute(2, 0, 1) for each in self._positions]


class _Memory:
    def __init__(self, network: MetaNetwork, frames: int) -> None:
        self._network = network
        self._frames = frames
        self._outputs: dict[str, dict[int, Any]] = {"cond_frame_outputs": {}, "non_cond_frame_outputs": {}}

    def prompt(self, frame: int, features: Features, pointer: Pointer, *, reverse: bool) -> Seen:
        import torch

        device = self._network.device
        if pointer.mask is not None:
            plane = mask_at(pointer.mask, self._network.side, device)
            return self._step(frame, features, reverse, True, mask_inputs=(plane >= 0.5).float())
        points = torch.from_numpy(pointer.points)[None].to(device)
        labels = torch.from_numpy(pointer.labels)[None].to(device)
        clicks = {"point_coords": points, "point_labels": labels}
        return self._step(frame, features, reverse, True, point_inputs=clicks)

    def track(self, frame: int, features: Features, *, reverse: bool) -> Seen:
        return self._step(frame, features, reverse, False)

    def _step(
        self,
        frame: int,
        features: Features,
        reverse: bool,
        prompted: bool,
        point_inputs: Any = None,
        mask_inputs: Any = None,
    ) -> Seen:
        import torch

        model = self._network.model
        out = model.track_step(
            frame_idx=frame,
            is_init_cond_frame=prompted,
            current_vision_feats=[each.flatten(2).permute(2, 0, 1) for each in features],
            current_vision_pos_embeds=self._network.positions(),
            feat_sizes=[tuple(each.shape[-2:]) for each in features],
            point_inputs=point_inputs,
            mask_inputs=mask_inputs,
            output_dict=self._outputs,
            num_frames=self._frames,
            track_in_reverse=reverse,
        )
        logits = out["pred_masks"].reshape(out["pred_masks"].shape[-2:]).float().cpu().numpy()
        kept = {key: out[key] for key in ("maskmem_pos_enc", "obj_ptr")}
        # In half the memory, as the package's own video predictor keeps them.
        kept["maskmem_features"] = out["maskmem_features"].to(torch.bfloat16)
        self._outputs["cond_frame_outputs" if prompted else "non_cond_frame_outputs"][frame] = kept
        reach = max(model.num_maskmem, model.max_obj_ptrs_in_encoder)
        tracked = self._outputs["non_cond_frame_outputs"]
        for old in [each for each in tracked if abs(each - frame) > reach]:
            del tracked[old]
        return Seen(np.asarray(logits, np.float32), float(out["object_score_logits"].float().reshape(-1)[0]))
