"""RepViT (Wang et al., "RepViT: Revisiting Mobile CNN From ViT Perspective", CVPR 2024): the image encoder of EdgeTAM.

transformers takes it from timm, which needs torchvision. This is the same network, of the form that EdgeTAM was trained
with (M1, where both branches of a token mixer are normalised), giving the maps of its four stages; its tensors have the
names that timm gives them. `tests/pipeline/segmentation/sam2/test_edgetam.py` holds the two together where timm runs.
"""

from typing import Any, Final, NamedTuple

from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel

ARCHITECTURE: Final = "repvit_m1"
CHANNELS: Final = (48, 96, 192, 384)
DEPTHS: Final = (2, 2, 14, 2)
"""Of the four stages of that architecture."""
_EXPANSION: Final = 2
_SQUEEZE: Final = 4
"""The pooled channels of a gate are this many times fewer, rounded to a multiple of eight."""


class RepVitConfig(PreTrainedConfig):  # type: ignore[misc]
    """channels and depths: of each stage."""

    model_type = "fovea_repvit"

    channels: list[int] | None = None
    depths: list[int] | None = None


class Maps(NamedTuple):
    """What the vision model of transformers asks of its backbone: (N, C, H, W) of each stage, the finest first."""

    last_hidden_state: list[Tensor]
    hidden_states: None = None


class RepVit(PreTrainedModel):  # type: ignore[misc]
    """The network under the name `timm_model`, as the wrapper of transformers has it."""

    config_class = RepVitConfig
    main_input_name = "pixel_values"

    def __init__(self, config: RepVitConfig) -> None:
        super().__init__(config)
        self.timm_model = _Stages(config.channels or CHANNELS, config.depths or DEPTHS)
        self.post_init()

    def forward(self, pixel_values: Tensor, **_: Any) -> Maps:
        """Maps at a 4th, 8th, 16th and 32nd of the size of pixel_values (N, 3, H, W)."""
        return Maps(self.timm_model(pixel_values))

    def _init_weights(self, module: nn.Module) -> None:
        """As torch leaves them: nobody trains it here."""


class _Stages(nn.Module):  # type: ignore[misc]
    def __init__(self, channels: Any, depths: Any) -> None:
        super().__init__()
        self.stem = _Stem(channels[0])
        pairs = zip((channels[0], *channels), channels, depths, strict=False)
        self.names = [f"stages_{number}" for number in range(len(channels))]
        for number, (inside, outside, depth) in enumerate(pairs):
            self.add_module(self.names[number], _Stage(inside, outside, depth, halves=number > 0))

    def forward(self, value: Tensor) -> list[Tensor]:
        value = self.stem(value)
        maps = []
        for name in self.names:
            value = getattr(self, name)(value)
            maps.append(value)
        return maps


class _Convolution(nn.Sequential):  # type: ignore[misc]
    """Without a bias, normalised over the batch."""

    def __init__(self, inside: int, outside: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.add_module("c", nn.Conv2d(inside, outside, kernel, stride, kernel // 2, groups=groups, bias=False))
        self.add_module("bn", nn.BatchNorm2d(outside))


class _Stem(nn.Module):  # type: ignore[misc]
    def __init__(self, outside: int) -> None:
        super().__init__()
        self.conv1 = _Convolution(3, outside // 2, 3, stride=2)
        self.act1 = nn.GELU()
        self.conv2 = _Convolution(outside // 2, outside, 3, stride=2)

    def forward(self, value: Tensor) -> Tensor:
        result: Tensor = self.conv2(self.act1(self.conv1(value)))
        return result


class _TokenMixer(nn.Module):  # type: ignore[misc]
    """Each channel filtered for itself: 3x3, 1x1 and as it is."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = _Convolution(channels, channels, 3, groups=channels)
        self.conv1 = _Convolution(channels, channels, 1, groups=channels)

    def forward(self, value: Tensor) -> Tensor:
        result: Tensor = self.conv(value) + self.conv1(value) + value
        return result


class _ChannelMixer(nn.Module):  # type: ignore[misc]
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = _Convolution(channels, channels * _EXPANSION)
        self.act = nn.GELU()
        self.conv2 = _Convolution(channels * _EXPANSION, channels)

    def forward(self, value: Tensor) -> Tensor:
        result: Tensor = self.conv2(self.act(self.conv1(value)))
        return result


class _Gate(nn.Module):  # type: ignore[misc]
    """Squeeze and excitation (Hu et al., 2018): each channel is weighed by what the whole map holds."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        squeezed = max(8, int(channels / _SQUEEZE + 4) // 8 * 8)
        self.fc1 = nn.Conv2d(channels, squeezed, 1)
        self.act = nn.ReLU()
        self.fc2 = nn.Conv2d(squeezed, channels, 1)
        self.gate = nn.Sigmoid()

    def forward(self, value: Tensor) -> Tensor:
        pooled = value.mean((2, 3), keepdim=True)
        result: Tensor = value * self.gate(self.fc2(self.act(self.fc1(pooled))))
        return result


class _Block(nn.Module):  # type: ignore[misc]
    def __init__(self, channels: int, *, gated: bool) -> None:
        super().__init__()
        self.token_mixer = _TokenMixer(channels)
        self.se = _Gate(channels) if gated else nn.Identity()
        self.channel_mixer = _ChannelMixer(channels)

    def forward(self, value: Tensor) -> Tensor:
        mixed = self.se(self.token_mixer(value))
        result: Tensor = mixed + self.channel_mixer(mixed)
        return result


class _Halving(nn.Module):  # type: ignore[misc]
    def __init__(self, inside: int, outside: int) -> None:
        super().__init__()
        self.pre_block = _Block(inside, gated=False)
        self.spatial_downsample = _Convolution(inside, inside, 3, stride=2, groups=inside)
        self.channel_downsample = _Convolution(inside, outside)
        self.ffn = _ChannelMixer(outside)

    def forward(self, value: Tensor) -> Tensor:
        halved = self.channel_downsample(self.spatial_downsample(self.pre_block(value)))
        result: Tensor = halved + self.ffn(halved)
        return result


class _Stage(nn.Module):  # type: ignore[misc]
    """Every other block, beginning with the first, has a gate."""

    def __init__(self, inside: int, outside: int, depth: int, *, halves: bool) -> None:
        super().__init__()
        self.downsample = _Halving(inside, outside) if halves else nn.Identity()
        self.blocks = nn.Sequential(*(_Block(outside, gated=number % 2 == 0) for number in range(depth)))

    def forward(self, value: Tensor) -> Tensor:
        result: Tensor = self.blocks(self.downsample(value))
        return result


AutoConfig.register(RepVitConfig.model_type, RepVitConfig, exist_ok=True)
AutoModel.register(RepVitConfig, RepVit, exist_ok=True)
