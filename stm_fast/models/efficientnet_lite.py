"""EfficientNet-Lite0 (Tan & Le, ICML 2019; Lite: ReLU6, no squeeze-and-excitation) without its classifier.

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


BLOCKS = (
    BlockSpec(32, 16, 1, 3),
    BlockSpec(16, 24, 6, 3, stride=2),
    BlockSpec(24, 24, 6, 3),
    BlockSpec(24, 40, 6, 5, stride=2),
    BlockSpec(40, 40, 6, 5),
    BlockSpec(40, 80, 6, 3, stride=2),
    BlockSpec(80, 80, 6, 3),
    BlockSpec(80, 80, 6, 3),
    BlockSpec(80, 112, 6, 5),
    BlockSpec(112, 112, 6, 5),
    BlockSpec(112, 112, 6, 5),
    BlockSpec(112, 192, 6, 5, stride=2),
    BlockSpec(192, 192, 6, 5),
    BlockSpec(192, 192, 6, 5),
    BlockSpec(192, 192, 6, 5),
)
EARLY_BLOCKS, STRIDE_8_BLOCKS, STRIDE_16_BLOCKS = 3, 5, 11
"""Number of blocks up to stride 4, up to stride 8, and up to stride 16."""
STRIDE_2_CHANNELS, STRIDE_4_CHANNELS, STRIDE_8_CHANNELS, STRIDE_16_CHANNELS, LAST_CHANNELS = 32, 24, 40, 112, 192


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


class EfficientNetLite0(nn.Module):
    """The trunk, in parts between which masks can enter and features leave.

    Args:
        dilated: whether the last stage stays at stride 16, dilated, instead of stride 32. Its weights are the same, and
            so is what it computes for every second row and column; the others take three times as long as these.
    """

    def __init__(self, *, dilated: bool) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 32, 3, stride=2, padding=1)
        last = [_dilated(spec) if dilated else spec for spec in BLOCKS[STRIDE_16_BLOCKS:]]
        self.blocks = nn.ModuleList(InvertedResidual(spec) for spec in (*BLOCKS[:STRIDE_16_BLOCKS], *last))

    def early(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """RGB `(N, 3, H, W)` in [0, 1] -> 24 channels at stride 4, 32 channels at stride 2."""
        x = stride2 = convolve_relu6(self.stem, 2 * frames - 1)
        for block in self.blocks[:EARLY_BLOCKS]:
            x = block(x)
        return x, stride2

    def late(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """24 channels at stride 4 -> 192 channels of the last stage, 112 at stride 16, 40 at stride 8."""
        for block in self.blocks[EARLY_BLOCKS:STRIDE_8_BLOCKS]:
            x = block(x)
        stride8 = x
        for block in self.blocks[STRIDE_8_BLOCKS:STRIDE_16_BLOCKS]:
            x = block(x)
        stride16 = x
        for block in self.blocks[STRIDE_16_BLOCKS:]:
            x = block(x)
        return x, stride16, stride8


_NORM = ("running_mean", "running_var", "weight", "bias")


def folded_weights(state: Mapping[str, Tensor], epsilon: float = 1e-3) -> dict[str, Tensor]:
    """Return the weights of a pretrained classifier with batch norm folded in, for an `EfficientNetLite0`.

    Args:
        state: state_dict with the names of the public PyTorch port (`_conv_stem`, `_blocks.0._bn1`, ...).
        epsilon: of its batch norms.
    """
    folded: dict[str, Tensor] = {}

    def fold(ours: str, convolution: str, norm: str) -> None:
        mean, variance, weight, bias = (state[f"{norm}.{name}"] for name in _NORM)
        scale, shift = scale_and_shift(mean, variance, weight, bias, epsilon)
        folded[f"{ours}.weight"] = scaled(state[f"{convolution}.weight"], scale)
        folded[f"{ours}.bias"] = shift

    fold("stem", "_conv_stem", "_bn0")
    for index, spec in enumerate(BLOCKS):
        ours, theirs = f"blocks.{index}", f"_blocks.{index}"
        if spec.expansion > 1:
            fold(f"{ours}.expand", f"{theirs}._expand_conv", f"{theirs}._bn0")
        fold(f"{ours}.depthwise", f"{theirs}._depthwise_conv", f"{theirs}._bn1")
        fold(f"{ours}.project", f"{theirs}._project_conv", f"{theirs}._bn2")
    return folded
