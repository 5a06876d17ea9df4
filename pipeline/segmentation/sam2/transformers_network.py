"""SAM 2 and EdgeTAM as transformers implements them (`Sam2VideoModel`, `EdgeTamVideoModel`), driven without its
processors, which need torchvision."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from pipeline.segmentation.hub_folder import from_folder, quiet
from pipeline.segmentation.sam2 import checkpoint, edgetam
from pipeline.segmentation.sam2.architecture import Architecture, transformers_config
from pipeline.segmentation.sam2.network import Decoded, Features, Pointer, Seen, mask_at

if TYPE_CHECKING:
    import torch

_SAM3: Final = "sam3_tracker_video"
_OBJECT: Final = 1
"""The id of the one object of a session: each object has a session of its own, so that it does not matter which others
there are, and one can join later than another."""


def load(weights: Path, config: Path | None, family: str, architecture: Architecture) -> Any:
    """The model on the CPU, ready for inference: from a folder of the hub's (config given), or a file of Meta's.

    Raises SegmenterUnavailableError naming the file where the tensors are not those of the model.
    """
    from transformers import Sam2VideoModel

    quiet()
    if config is None:
        tensors = checkpoint.renamed(checkpoint.read(weights))
        model = Sam2VideoModel(transformers_config(family, architecture))
        checkpoint.compare(weights.name, model.state_dict(), tensors)
        model.load_state_dict(tensors)
    elif family == edgetam.FAMILY:
        model = edgetam.load(config, weights)
    else:
        model = from_folder(Sam2VideoModel, config.parent)
    return model.eval().requires_grad_(False)


class TransformersNetwork:
    """pipeline.segmentation.sam2.network.Network over a Sam2VideoModel or an EdgeTamVideoModel.

    neck: what gives the feature maps their positions, where it is not in the model.
    """

    runtime = "transformers"

    def __init__(self, model: Any, device: "torch.device", neck: Any = None) -> None:
        self.model = model.to(device)
        self.device = device
        self.side = int(model.prompt_encoder.input_image_size)
        self.mask_side = int(model.prompt_encoder.mask_input_size[0])
        sizes = model.backbone_feature_sizes
        encoding = (neck or model.vision_encoder.neck).position_encoding
        self._positions = [encoding((1, 0, *size), device, _float32()) for size in sizes]

    def encode(self, pixels: "torch.Tensor") -> Features:
        states = self.model.vision_encoder(pixels, return_dict=True).fpn_hidden_states
        decoder = self.model.mask_decoder
        return Features(decoder.conv_s0(states[0]), decoder.conv_s1(states[1]), states[2])

    def decode(
        self, features: Features, points: "torch.Tensor", labels: "torch.Tensor", mask: Any = None, *, several: bool
    ) -> Decoded:
        model = self.model
        sparse, dense = model.prompt_encoder(
            input_points=points[None], input_labels=labels[None], input_boxes=None, input_masks=mask
        )
        coarse = features.coarse + model.no_memory_embedding.view(1, -1, 1, 1)
        logits, quality, _, _ = model.mask_decoder(
            image_embeddings=coarse,
            image_positional_embeddings=model.get_image_wide_positional_embeddings(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=several,
            high_resolution_features=[features.fine, features.middle],
        )
        return Decoded(logits[0].float(), quality[0].float())

    def memory(self, frames: int) -> "_Memory":
        return _Memory(self, frames)

    def flat(self, features: Features) -> dict[str, list["torch.Tensor"]]:
        """As the model's cache keeps an encoded frame: (pixels, 1, channels), and the positions alike."""
        return {
            "vision_feats": [each.flatten(2).permute(2, 0, 1) for each in features],
            "vision_pos_embeds": [each.flatten(2).permute(2, 0, 1) for each in self._positions],
        }


class _Memory:
    def __init__(self, network: TransformersNetwork, frames: int) -> None:
        self._network = network
        device = network.device
        session = _session_of(network.model)
        self._session: Any = session(inference_device=device, inference_state_device=device, dtype=_float32())
        # The model asks how many frames there are, never for one: their features are put into its cache.
        self._session.processed_frames = range(frames)
        self._session.obj_id_to_idx(_OBJECT)

    def prompt(self, frame: int, features: Features, pointer: Pointer, *, reverse: bool) -> Seen:
        import torch

        session, network = self._session, self._network
        if pointer.mask is not None:
            plane = mask_at(pointer.mask, network.side, network.device)
            session.add_mask_inputs(0, frame, (plane >= 0.5).float())
        else:
            points = torch.from_numpy(pointer.points)[None, None]
            labels = torch.from_numpy(pointer.labels)[None, None]
            session.add_point_inputs(0, frame, {"point_coords": points, "point_labels": labels})
        session.obj_with_new_inputs = [_OBJECT]
        return self._step(frame, features, reverse)

    def track(self, frame: int, features: Features, *, reverse: bool) -> Seen:
        return self._step(frame, features, reverse)

    def _step(self, frame: int, features: Features, reverse: bool) -> Seen:
        session = self._session
        session.cache.cache_vision_features(frame, self._network.flat(features))
        out = self._network.model(inference_session=session, frame_idx=frame, reverse=reverse)
        session.cache.clear_all()
        self._forget(frame)
        logits = out.pred_masks.reshape(out.pred_masks.shape[-2:]).float().cpu().numpy()
        return Seen(np.asarray(logits, np.float32), float(out.object_score_logits.float().reshape(-1)[0]))

    def _forget(self, frame: int) -> None:
        """Drop what no later frame looks at: masks at once, all of a frame when it is out of reach."""
        session, config = self._session, self._network.model.config
        reach = max(config.num_maskmem, config.max_object_pointers_in_encoder)
        outputs = session.output_dict_per_obj[0]
        for old in [each for each in outputs["non_cond_frame_outputs"] if abs(each - frame) > reach]:
            del outputs["non_cond_frame_outputs"][old]
            session.frames_tracked_per_obj[0].pop(old, None)
        for kept in (*outputs["cond_frame_outputs"].values(), *outputs["non_cond_frame_outputs"].values()):
            kept.pop("high_res_masks", None)


def _session_of(model: Any) -> Any:
    """What the model keeps of a video: each has a class of its own, of the same form."""
    if model.config.model_type == edgetam.MODEL_TYPE:
        from transformers.models.edgetam_video.modeling_edgetam_video import EdgeTamVideoInferenceSession

        return EdgeTamVideoInferenceSession
    if model.config.model_type == _SAM3:
        from transformers.models.sam3_tracker_video import modeling_sam3_tracker_video as sam3

        return sam3.Sam3TrackerVideoInferenceSession
    from transformers.models.sam2_video.modeling_sam2_video import Sam2VideoInferenceSession

    return Sam2VideoInferenceSession


def _float32() -> "torch.dtype":
    import torch

    return torch.float32
