"""The tracker of SAM 3 as transformers implements it (`Sam3VideoModel`), driven without its processor.

Its parts are those of SAM 2 with other weights, behind the detector's backbone and a neck of their own: the backbone is
in memory once.
"""

from typing import TYPE_CHECKING, Any

from pipeline.segmentation.sam2.network import Features
from pipeline.segmentation.sam2.transformers_network import TransformersNetwork

if TYPE_CHECKING:
    import torch


class Sam3Network(TransformersNetwork):
    """pipeline.segmentation.sam2.network.Network over detector and tracker, a Sam3VideoModel on `device`."""

    def __init__(self, both: Any, device: "torch.device") -> None:
        super().__init__(both.tracker_model, device, both.tracker_neck)
        self._backbone = both.detector_model.vision_encoder.backbone
        self._neck = both.tracker_neck

    def encode(self, pixels: "torch.Tensor") -> Features:
        tokens = self._backbone(pixels).last_hidden_state
        cells = self.model.prompt_encoder.image_embedding_size
        # The last of the four maps, the coarsest, is for the detector's boxes; the model leaves it out too.
        states, _ = self._neck(tokens.transpose(1, 2).unflatten(2, cells))
        decoder = self.model.mask_decoder
        return Features(decoder.conv_s0(states[0]), decoder.conv_s1(states[1]), states[2])
