"""The network of the DeepLab file rebuilt in torch, in floating point: what can be trained on a CPU.

MobileNet v2 (Sandler et al., 2018) at output stride 16 under DeepLab v3's image pooling and 1x1 branch (Chen et al.,
2017), batch normalisation folded into the weights, which are those of the .tflite file. Checkpoints are safetensors
with the class names in their metadata; they can be exported to ONNX.
"""

import io
import json
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from pipeline.errors import SegmenterUnavailableError
from pipeline.segmentation.base import ClassSpec
from pipeline.segmentation.deeplab_runtime import MEAN, SIDE
from pipeline.segmentation.tflite_weights import convolutions
from pipeline.segmentation.vocabulary import VOC, voc_indices
from pipeline.storage.atomic import write_bytes

FORMAT: Final = "fovea-deeplab-1"
FEATURES: Final = 256
IGNORED: Final = 255
"""Label of pixels that do not count in training."""
_BLOCKS: Final = (
    *((1, 16, 1, 1), (6, 24, 2, 1), (6, 24, 1, 1), (6, 32, 2, 1), (6, 32, 1, 1), (6, 32, 1, 1), (6, 64, 2, 1)),
    *((6, 64, 1, 1), (6, 64, 1, 1), (6, 64, 1, 1), (6, 96, 1, 1), (6, 96, 1, 1), (6, 96, 1, 1), (6, 160, 1, 1)),
    *((6, 160, 1, 2), (6, 160, 1, 2), (6, 320, 1, 2)),
)
"""Of each inverted residual: expansion, channels, stride, dilation."""


def _convolution(inside: int, outside: int, kernel: int = 1, *, groups: int = 1, stride: int = 1, rate: int = 1) -> Any:
    return nn.Conv2d(inside, outside, kernel, stride, rate * (kernel // 2), rate, groups)


class _Block(nn.Module):  # type: ignore[misc]
    """Expand, filter each channel, project; what came in is added where the shape allows."""

    def __init__(self, inside: int, expansion: int, outside: int, stride: int, dilation: int) -> None:
        super().__init__()
        wide = inside * expansion
        self.expand = _convolution(inside, wide) if expansion > 1 else None
        self.depthwise = _convolution(wide, wide, 3, groups=wide, stride=stride, rate=dilation)
        self.project = _convolution(wide, outside)
        self.residual = stride == 1 and inside == outside

    def forward(self, value: Tensor) -> Tensor:
        wide = value if self.expand is None else functional.relu6(self.expand(value))
        result: Tensor = self.project(functional.relu6(self.depthwise(wide)))
        return value + result if self.residual else result


class DeepLabNetwork(nn.Module):  # type: ignore[misc]
    """Logits of `class_names`, of which the first is the background.

    Takes float images (N, 3, H, W), RGB 0…255, whose sides are 16 k + 1 (513 as the file has it); cell i of the result
    lies on pixel 16 i.
    """

    def __init__(self, class_names: Sequence[str] = VOC) -> None:
        super().__init__()
        self.class_names = tuple(class_names)
        self.stem = _convolution(3, 32, 3, stride=2)
        blocks, inside = [], 32
        for expansion, outside, stride, dilation in _BLOCKS:
            blocks.append(_Block(inside, expansion, outside, stride, dilation))
            inside = outside
        self.blocks = nn.Sequential(*blocks)
        self.branch = _convolution(inside, FEATURES)
        self.pooling = _convolution(inside, FEATURES)
        self.projection = _convolution(2 * FEATURES, FEATURES)
        self.head = _convolution(FEATURES, len(self.class_names))

    def backbone(self, images: Tensor) -> Tensor:
        """(N, 320, h, w), linear."""
        value: Tensor = self.blocks(functional.relu6(self.stem((images - MEAN) / MEAN)))
        return value

    def decoder(self, value: Tensor) -> Tensor:
        """The features (N, 256, h, w), not negative, of what the backbone gives."""
        near = functional.relu(self.branch(value))
        whole = functional.relu(self.pooling(value.mean(dim=(2, 3), keepdim=True)))
        # The projection of both side by side, without repeating what is the same everywhere.
        weight = self.projection.weight
        far = functional.conv2d(whole, weight[:, :FEATURES], self.projection.bias)
        return functional.relu(functional.conv2d(near, weight[:, FEATURES:]) + far)

    def features(self, images: Tensor) -> Tensor:
        """(N, 256, h, w): what the logits are computed from."""
        return self.decoder(self.backbone(images))

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, classes, h, w)."""
        logits: Tensor = self.head(self.features(images))
        return logits

    def adapt_head(self, class_names: Sequence[str]) -> None:
        """Give the network the classes of a dataset (a background is put before them).

        A class whose name means one it knows starts with that one's weights, any other with small ones.
        """
        chance = torch.Generator().manual_seed(0)
        old, known = self.head, {name: number for number, name in enumerate(self.class_names)}
        names = (self.class_names[0], *class_names)
        head = _convolution(FEATURES, len(names))
        with torch.no_grad():
            head.weight.normal_(0, 0.01, generator=chance)
            head.bias.fill_(float(old.bias[1:].mean()))
            for number, name in enumerate(names):
                meant = [VOC[index] for index in voc_indices(ClassSpec(0, name))]
                source = next((known[each] for each in (name, *meant) if each in known), None)
                if source is not None:
                    head.weight[number], head.bias[number] = old.weight[source], old.bias[source]
        self.head, self.class_names = head, names

    def layers(self) -> Iterator[nn.Conv2d]:
        """Every convolution in the order of the file."""
        # Modules keep the order in which they were given to their parents.
        yield from (each for each in self.modules() if isinstance(each, nn.Conv2d))


def read_network(path: Path) -> DeepLabNetwork:
    """The network of the .tflite file. Raises SegmenterUnavailableError for a file of another network."""
    network, found = DeepLabNetwork(), convolutions(path)
    layers = list(network.layers())
    if [each.weight.shape for each in found] != [tuple(each.weight.shape) for each in layers]:
        raise SegmenterUnavailableError(f"{path.name} is not DeepLab v3 on MobileNet v2 with 21 classes.")
    with torch.no_grad():
        for layer, convolution in zip(layers, found, strict=True):
            layer.weight.copy_(torch.from_numpy(convolution.weight))
            if layer.bias is not None:
                layer.bias.copy_(torch.from_numpy(convolution.bias))
    network.eval()
    return network


def save_checkpoint(network: DeepLabNetwork, path: Path) -> None:
    """Write weights and class names as safetensors."""
    from safetensors.torch import save

    state = {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}
    write_bytes(path, save(state, metadata={"format": FORMAT, "classes": json.dumps(network.class_names)}))


def load_checkpoint(path: Path) -> DeepLabNetwork:
    """What `save_checkpoint` wrote. Raises SegmenterUnavailableError naming the file for anything else."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as stored:
            metadata = stored.metadata() or {}
            state = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118 - not a dict
    except (OSError, SafetensorError) as error:
        raise SegmenterUnavailableError(f"{path.name} is missing or not a whole safetensors file.") from error
    if metadata.get("format") != FORMAT:
        raise SegmenterUnavailableError(f"{path.name} is not a checkpoint of the DeepLab network ({FORMAT}).")
    try:
        network = DeepLabNetwork([str(each) for each in json.loads(metadata["classes"])])
        network.load_state_dict(state)
    except (KeyError, ValueError, RuntimeError) as error:
        raise SegmenterUnavailableError(f"{path.name} does not fit the DeepLab network: its weights differ.") from error
    network.eval()
    return network


def to_onnx(network: DeepLabNetwork) -> bytes:
    """The network as ONNX: float images (N, 3, 513, 513), RGB 0…255, to features and logits; class names inside."""
    import onnx

    content = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it announces its own successor, which needs one package more
        torch.onnx.export(
            _WithFeatures(network).eval(),
            (torch.zeros(1, 3, SIDE, SIDE),),
            content,
            input_names=["images"],
            output_names=["features", "logits"],
            dynamic_axes={name: {0: "n"} for name in ("images", "features", "logits")},
            opset_version=17,
            dynamo=False,
        )
    model = onnx.load_model_from_string(content.getvalue())
    onnx.helper.set_model_props(model, {"format": FORMAT, "classes": json.dumps(network.class_names)})
    return bytes(model.SerializeToString())


class _WithFeatures(nn.Module):  # type: ignore[misc]
    def __init__(self, network: DeepLabNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features = self.network.features(images)
        return features, self.network.head(features)


def fit(
    network: DeepLabNetwork,
    batches: Iterable[tuple[NDArray[np.uint8], NDArray[np.integer[Any]]]],
    *,
    learning_rate: float = 0.02,
    decoder_only: bool = True,
) -> list[float]:
    """One step of gradient descent for each batch, and the loss before each: cross-entropy per pixel.

    batches: images uint8 RGB (N, H, W, 3) of the sides the network takes, labels (N, H, W): numbers of its class names,
    IGNORED where nothing is known. decoder_only: leave the backbone as it is, which is faster and forgets less.
    """
    trained = [value for name, value in network.named_parameters() if not decoder_only or _of_decoder(name)]
    optimizer = torch.optim.SGD(trained, lr=learning_rate, momentum=0.9, weight_decay=1e-4)
    losses = []
    network.train()
    for images, labels in batches:
        pixels = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float()
        with torch.set_grad_enabled(not decoder_only):
            value = network.backbone(pixels)
        logits = network.head(network.decoder(value))
        logits = functional.interpolate(logits, labels.shape[1:], mode="bilinear", align_corners=True)
        loss = functional.cross_entropy(logits, torch.from_numpy(labels.astype(np.int64)), ignore_index=IGNORED)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    network.eval()
    return losses


def _of_decoder(name: str) -> bool:
    return name.split(".", 1)[0] in ("branch", "pooling", "projection", "head")
