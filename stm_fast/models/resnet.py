"""ResNet-50 up to its third stage, stride 16 (He et al., CVPR 2016; the stride sits on the 3×3 convolution)."""

from torch import Tensor, nn
from torch.nn import functional as F

BLOCKS = {"res2": 3, "res3": 4, "res4": 6}


def conv_norm(in_channels: int, out_channels: int, kernel_size: int, stride: int = 1) -> nn.Sequential:
    """Return a convolution without bias, followed by batch norm."""
    convolution = nn.Conv2d(in_channels, out_channels, kernel_size, stride, kernel_size // 2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(out_channels))


class Bottleneck(nn.Module):
    """1×1, 3×3 and 1×1 convolutions beside a shortcut; the output has four times as many channels as the inside.

    Args:
        in_channels: channels of the input.
        width: channels inside.
        stride: stride of the 3×3 convolution and of the shortcut.
    """

    expansion = 4

    def __init__(self, in_channels: int, width: int, stride: int = 1) -> None:
        super().__init__()
        out_channels = self.expansion * width
        self.reduce = conv_norm(in_channels, width, 1)
        self.spatial = conv_norm(width, width, 3, stride)
        self.expand = conv_norm(width, out_channels, 1)
        projects = stride != 1 or in_channels != out_channels
        self.shortcut = conv_norm(in_channels, out_channels, 1, stride) if projects else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """`(N, in_channels, H, W)` -> `(N, 4 * width, H / stride, W / stride)`."""
        out = F.relu_(self.reduce(x))
        out = F.relu_(self.spatial(out))
        out = self.expand(out)
        out += self.shortcut(x)
        return F.relu_(out)


def _stage(in_channels: int, width: int, blocks: int, stride: int) -> nn.Sequential:
    first = Bottleneck(in_channels, width, stride)
    rest = (Bottleneck(Bottleneck.expansion * width, width) for _ in range(blocks - 1))
    return nn.Sequential(first, *rest)


class ResNet50Stages(nn.Module):
    """The part of a ResNet-50 after its stem: pooling, and the stages res2, res3 and res4."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = nn.MaxPool2d(3, stride=2, padding=1)
        self.res2 = _stage(64, 64, BLOCKS["res2"], stride=1)
        self.res3 = _stage(256, 128, BLOCKS["res3"], stride=2)
        self.res4 = _stage(512, 256, BLOCKS["res4"], stride=2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Stem features `(N, 64, H/2, W/2)` -> 256 channels at stride 4, 512 at stride 8, 1024 at stride 16."""
        res2 = self.res2(self.pool(x))
        res3 = self.res3(res2)
        return res2, res3, self.res4(res3)
