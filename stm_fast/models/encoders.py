"""Encoders and key-value heads of the original STM (STM paper, section 3.1; figure 2)."""

from torch import Tensor, nn
from torch.nn import functional as F

from stm_fast.models.resnet import ResNet50Stages, conv_norm

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class Normalize(nn.Module):
    """Normalise RGB in [0, 1] to zero mean and unit variance over ImageNet."""

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        mean, std = (Tensor(values).view(1, 3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)

    def forward(self, frames: Tensor) -> Tensor:
        """Frames `(N, 3, H, W)` -> the same shape."""
        return (frames - self.mean) / self.std


class MaskedStem(nn.Module):
    """The first convolution of a frame with masks: the sum of one each over RGB, the mask, and the masks of others.

    The RGB part of a frame with N objects is computed once.
    """

    def __init__(self, out_channels: int) -> None:
        super().__init__()
        self.rgb, self.mask, self.others = (
            nn.Conv2d(channels, out_channels, 7, stride=2, padding=3, bias=False) for channels in (3, 1, 1)
        )
        self.norm: nn.Module = nn.BatchNorm2d(out_channels)

    def forward(self, frames: Tensor, masks: Tensor, others: Tensor) -> Tensor:
        """Frames `(1 or N, 3, H, W)`, masks and others `(N, 1, H, W)` -> `(N, out_channels, H/2, W/2)`."""
        features = self.mask(masks)
        features += self.others(others)
        features += self.rgb(frames)
        normalized: Tensor = self.norm(features)
        return normalized


class QueryEncoder(nn.Module):
    """ResNet-50 up to res4 over RGB frames."""

    def __init__(self) -> None:
        super().__init__()
        self.normalize = Normalize()
        self.stem = conv_norm(3, 64, 7, stride=2)
        self.stages = ResNet50Stages()

    def forward(self, frames: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Frames `(N, 3, H, W)` in [0, 1] -> 1024 channels at stride 16, (512 at stride 8, 256 at stride 4)."""
        stem = F.relu_(self.stem(self.normalize(frames)))
        res2, res3, res4 = self.stages(stem)
        return res4, (res3, res2)


class MemoryEncoder(nn.Module):
    """ResNet-50 up to res4 over RGB frames with the masks of an object and of the other objects."""

    def __init__(self) -> None:
        super().__init__()
        self.normalize = Normalize()
        self.stem = MaskedStem(64)
        self.stages = ResNet50Stages()

    def forward(self, frames: Tensor, masks: Tensor, others: Tensor) -> Tensor:
        """Frames `(1 or N, 3, H, W)` in [0, 1], masks and others `(N, 1, H, W)` -> `(N, 1024, H/16, W/16)`."""
        stem = F.relu_(self.stem(self.normalize(frames), masks, others))
        features: Tensor = self.stages(stem)[-1]
        return features


class KeyValueHead(nn.Module):
    """Two 3×3 convolutions side by side: features -> key and value."""

    def __init__(self, in_channels: int, key_channels: int, value_channels: int) -> None:
        super().__init__()
        self.key = nn.Conv2d(in_channels, key_channels, 3, padding=1)
        self.value = nn.Conv2d(in_channels, value_channels, 3, padding=1)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """`(N, in_channels, h, w)` -> `(N, key_channels, h, w)`, `(N, value_channels, h, w)`."""
        return self.key(features), self.value(features)
