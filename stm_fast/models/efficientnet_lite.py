"""EfficientNet-Lite (Tan & Le, ICML 2019; Lite: ReLU6, no squeeze-and-excitation) without its classifier.

Batch norm is folded into the convolutions: the trunk is fine-tuned with the statistics of its pretraining, and every
layer is a convolution with a bias.
"""

from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor, nn

from stm_fast.models.batch_norm import scale_and_shift, scaled
from stm_fast.models.depthwise import DepthwiseConv2d
from stm_fast.models.fused_activation import convolve_relu6


class BlockSpec(NamedTuple):
    """The shape of an inverted residual block: channels, expansion factor, kernel size, stride, dilation."""

    channels_in: int
    channels_out: int
    expansion: int
    kernel: int
    stride: int = 1
    dilation: int = 1


class Variant(NamedTuple):
    """A size of the network.

    Attributes:
        channels: channels of its six stages, at strides 2, 4, 8, 16, 16 and 32.
        blocks: blocks of each stage.
    """

    channels: tuple[int, ...]
    blocks: tuple[int, ...]

    @property
    def specs(self) -> tuple[BlockSpec, ...]:
        """The blocks of all stages, in order."""
        specs = []
        channels_in = STEM_CHANNELS
        for stage, (channels, blocks) in enumerate(zip(self.channels, self.blocks, strict=True)):
            expansion, kernel = (6 if stage else 1), _KERNELS[stage]
            specs.append(BlockSpec(channels_in, channels, expansion, kernel, _STRIDES[stage]))
            specs += [BlockSpec(channels, channels, expansion, kernel)] * (blocks - 1)
            channels_in = channels
        return tuple(specs)


STEM_CHANNELS = 32
"""Channels at stride 2, of every variant."""
_KERNELS = (3, 3, 5, 3, 5, 5)
_STRIDES = (1, 2, 2, 2, 1, 2)
LITE0 = Variant((16, 24, 40, 80, 112, 192), (1, 2, 2, 3, 3, 4))
LITE2 = Variant((16, 24, 48, 88, 120, 208), (1, 3, 3, 4, 4, 5))


class InvertedResidual(nn.Module):
    """1×1 expansion, depthwise convolution, 1×1 projection; a shortcut where the shape allows."""

    def __init__(self, spec: BlockSpec) -> None:
        super().__init__()
        inner = spec.channels_in * spec.expansion
        self.expand = nn.Conv2d(spec.channels_in, inner, 1) if spec.expansion > 1 else None
        self.depthwise = DepthwiseConv2d(inner, spec.kernel, spec.stride, spec.dilation)
        self.project = nn.Conv2d(inner, spec.channels_out, 1)
        self.shortcut = spec.stride == 1 and spec.channels_in == spec.channels_out

    def forward(self, x: Tensor) -> Tensor:
        """`(N, channels_in, H, W)` -> `(N, channels_out, H/stride, W/stride)`."""
        inner = x if self.expand is None else convolve_relu6(self.expand, x)
        out: Tensor = self.project(convolve_relu6(self.depthwise, inner))
        if self.shortcut:
            out += x
        return out


def _dilated(spec: BlockSpec) -> BlockSpec:
    """Return a block of the last stage that computes the same on a grid of stride 16, and between its points."""
    return spec._replace(stride=1) if spec.stride == 2 else spec._replace(dilation=2)


class EfficientNetLite(nn.Module):
    """The trunk, in parts between which masks can enter and features leave.

    Args:
        variant: its size.
        dilated: whether the last stage stays at stride 16, dilated, instead of stride 32. Its weights are the same, and
            so is what it computes for every second row and column; the others take three times as long as these.
    """

    def __init__(self, variant: Variant, *, dilated: bool) -> None:
        super().__init__()
        self.early_blocks, self.stride8_blocks, self.stride16_blocks = (sum(variant.blocks[:n]) for n in (2, 3, 5))
        specs = variant.specs
        last = [_dilated(spec) if dilated else spec for spec in specs[self.stride16_blocks :]]
        self.stem = nn.Conv2d(3, STEM_CHANNELS, 3, stride=2, padding=1)
        self.blocks = nn.ModuleList(InvertedResidual(spec) for spec in (*specs[: self.stride16_blocks], *last))

    def early(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """RGB `(N, 3, H, W)` in [0, 1] -> features at stride 4 and at stride 2."""
        x = stride2 = convolve_relu6(self.stem, 2 * frames - 1)
        for block in self.blocks[: self.early_blocks]:
            x = block(x)
        return x, stride2

    def freeze_early(self) -> None:
        """Keep what `early` computes as it is in training."""
        self.stem.requires_grad_(False)
        self.blocks[: self.early_blocks].requires_grad_(False)

    def late(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Features at stride 4 -> those of the last stage, at stride 16 and at stride 8."""
        for block in self.blocks[self.early_blocks : self.stride8_blocks]:
            x = block(x)
        stride8 = x
        for block in self.blocks[self.stride8_blocks : self.stride16_blocks]:
            x = block(x)
        stride16 = x
        for block in self.blocks[self.stride16_blocks :]:
            x = block(x)
        return x, stride16, stride8


_NORM = ("running_mean", "running_var", "weight", "bias")


def folded_weights(state: Mapping[str, Tensor], variant: Variant, epsilon: float = 1e-3) -> dict[str, Tensor]:
    """Return the weights of a pretrained classifier with batch norm folded in, for an `EfficientNetLite`.

    Args:
        state: state_dict with the names of the public PyTorch port (`_conv_stem`, `_blocks.0._bn1`, ...).
        variant: the classifier's.
        epsilon: of its batch norms.
    """
    folded: dict[str, Tensor] = {}

    def fold(ours: str, convolution: str, norm: str) -> None:
        mean, variance, weight, bias = (state[f"{norm}.{name}"] for name in _NORM)
        scale, shift = scale_and_shift(mean, variance, weight, bias, epsilon)
        folded[f"{ours}.weight"] = scaled(state[f"{convolution}.weight"], scale)
        folded[f"{ours}.bias"] = shift

    fold("stem", "_conv_stem", "_bn0")
    for index, spec in enumerate(variant.specs):
        ours, theirs = f"blocks.{index}", f"_blocks.{index}"
        if spec.expansion > 1:
            fold(f"{ours}.expand", f"{theirs}._expand_conv", f"{theirs}._bn0")
        fold(f"{ours}.depthwise", f"{theirs}._depthwise_conv", f"{theirs}._bn1")
        fold(f"{ours}.project", f"{theirs}._project_conv", f"{theirs}._bn2")
    return folded
