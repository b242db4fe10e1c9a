"""The decoder of the original STM: refinement stages after Oh et al., CVPR 2018 (STM paper, section 3.3)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stm_fast.models.fused_activation import convolve_relu


def upsample(x: Tensor, factor: int) -> Tensor:
    """Enlarge by bilinear interpolation with `align_corners=False`."""
    return F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)


class ResidualBlock(nn.Module):
    """Two 3×3 convolutions, each after a ReLU, around an identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """`(N, channels, H, W)` -> the same shape."""
        residual: Tensor = self.conv2(convolve_relu(self.conv1, F.relu(x)))
        residual += x
        return residual


class Refinement(nn.Module):
    """A stage that doubles the resolution of coarse features and adds those of a skip connection.

    The skip branch of a frame with N objects is computed once.
    """

    def __init__(self, skip_channels: int, channels: int) -> None:
        super().__init__()
        self.skip = nn.Conv2d(skip_channels, channels, 3, padding=1)
        self.skip_block = ResidualBlock(channels)
        self.merge_block = ResidualBlock(channels)

    def forward(self, coarse: Tensor, skip: Tensor) -> Tensor:
        """Coarse `(N, channels, H/2, W/2)` and skip `(1 or N, skip_channels, H, W)` -> `(N, channels, H, W)`."""
        merged = upsample(coarse, 2)
        merged += self.skip_block(self.skip(skip))
        refined: Tensor = self.merge_block(merged)
        return refined


class Decoder(nn.Module):
    """The decoder: readout and query value -> logits of background and object at full resolution.

    Args:
        value_channels: channels of the readout and of the query value.
        skip_channels: channels of the skips at stride 8 and at stride 4.
        channels: channels inside.
    """

    def __init__(self, value_channels: int, skip_channels: tuple[int, int], channels: int) -> None:
        super().__init__()
        self.compress = nn.Conv2d(2 * value_channels, channels, 3, padding=1)
        self.block = ResidualBlock(channels)
        self.refine8 = Refinement(skip_channels[0], channels)
        self.refine4 = Refinement(skip_channels[1], channels)
        self.predict = nn.Conv2d(channels, 2, 3, padding=1)

    def forward(self, readout: Tensor, value: Tensor, skips: tuple[Tensor, Tensor]) -> Tensor:
        """Return logits `(N, 2, H, W)` of background and object.

        Args:
            readout: `(N, value_channels, H/16, W/16)`.
            value: the query's own value `(1 or N, value_channels, H/16, W/16)`.
            skips: `(1 or N, C, H/8, W/8)` and `(1 or N, C, H/4, W/4)`.
        """
        return upsample(self.predict(self.refine(readout, value, *skips)), 4)

    def refine(self, readout: Tensor, value: Tensor, skip8: Tensor, skip4: Tensor) -> Tensor:
        """Return the features `(N, channels, H/4, W/4)`, none negative, from which logits are predicted."""
        # `len` would fix the number of objects in exported programs.
        x = torch.cat([readout, value.expand(readout.shape[0], -1, -1, -1)], dim=1)
        x = self.block(self.compress(x))
        x = self.refine8(x, skip8)
        return F.relu_(self.refine4(x, skip4))


class FineDecoder(Decoder):
    """A decoder that corrects its logits at stride 2, where parts of a few pixels are still visible.

    Args:
        value_channels: channels of the readout and of the query value.
        skip_channels: channels of the skips at stride 8, 4 and 2.
        channels: channels inside.
        fine_channels: channels inside at stride 2.
    """

    def __init__(
        self, value_channels: int, skip_channels: tuple[int, int, int], channels: int, fine_channels: int
    ) -> None:
        super().__init__(value_channels, skip_channels[:2], channels)
        self.narrow = nn.Conv2d(channels, fine_channels, 1)
        self.skip2 = nn.Conv2d(skip_channels[2], fine_channels, 3, padding=1)
        self.fine_block = ResidualBlock(fine_channels)
        self.correct = nn.Conv2d(fine_channels, 2, 3, padding=1)

    def forward(self, readout: Tensor, value: Tensor, skips: tuple[Tensor, ...]) -> Tensor:
        """Return logits `(N, 2, H, W)` of background and object.

        Args:
            readout: `(N, value_channels, H/16, W/16)`.
            value: the query's own value `(1 or N, value_channels, H/16, W/16)`.
            skips: `(1 or N, C, H/8, W/8)`, `(1 or N, C, H/4, W/4)` and `(1 or N, C, H/2, W/2)`.
        """
        *coarse_skips, skip2 = skips
        x = self.refine(readout, value, *coarse_skips)
        fine = upsample(self.narrow(x), 2)
        fine += self.skip2(skip2)
        correction = self.correct(F.relu_(self.fine_block(fine)))
        return upsample(upsample(self.predict(x), 2) + correction, 2)
