"""The compact STM of earlier versions: the original at phone size, with one trunk for queries and one for memory.

Files of its weights still load; none comes with the package, and no recipe trains it.
"""

import torch
from torch import Tensor, nn

from stm_fast.models.card import ModelCard
from stm_fast.models.compact import CELL, KEY_CHANNELS, KEY_LENGTH, cells, of_length
from stm_fast.models.decoder import FineDecoder
from stm_fast.models.efficientnet_lite import (
    LITE0,
    STEM_CHANNELS,
    EfficientNetLite,
)
from stm_fast.models.encoders import KeyValueHead
from stm_fast.models.stm import STM

_, _STRIDE_4, _STRIDE_8, _, _, _LAST = LITE0.channels
VALUE_CHANNELS = 256
DECODER_CHANNELS, FINE_CHANNELS = 96, 32
MASK_CHANNELS = 2 * (STM.stride // CELL) ** 2
FEATURE_SCALE = 0.25
"""Factor that brings the trunk's features to about unit variance."""


class CosineKeyValueHead(KeyValueHead):
    """A head whose keys all have one learned length, see `stm_fast.models.compact.of_length`."""

    def __init__(self, in_channels: int) -> None:
        super().__init__(in_channels, KEY_CHANNELS, VALUE_CHANNELS)
        self.key_length = nn.Parameter(torch.tensor(KEY_LENGTH))

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """`(N, in_channels, h, w)` -> `(N, 64, h, w)`, `(N, 256, h, w)`."""
        key, value = super().forward(features)
        return of_length(key, self.key_length), value


class QueryEncoder(nn.Module):
    """EfficientNet-Lite0 over RGB frames."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = EfficientNetLite(LITE0, dilated=True)

    def forward(self, frames: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
        """Frames `(N, 3, H, W)` in [0, 1] -> 192 channels at stride 16, (40 at stride 8, 24 at 4, 32 at 2)."""
        stride4, stride2 = self.trunk.early(frames)
        features, _, stride8 = self.trunk.late(stride4)
        return FEATURE_SCALE * features, (stride8, stride4, stride2)


class MemoryEncoder(nn.Module):
    """EfficientNet-Lite0 over RGB frames with masks.

    The masks enter twice. First, a strided convolution of them is added at stride 4; all before it depends on the frame
    alone and is computed once for all objects. Second, the masks are averaged over cells of 4×4 pixels, and the 16
    cells of each location are appended to the features as channels. This shows the heads where the object is from the
    first training step on, and keeps thin parts of it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.trunk = EfficientNetLite(LITE0, dilated=True)
        self.mask_stem = nn.Conv2d(2, _STRIDE_4, 8, stride=4, padding=2, bias=False)

    def forward(self, frames: Tensor, masks: Tensor, others: Tensor) -> Tensor:
        """Frames `(1 or N, 3, H, W)` in [0, 1], masks and others `(N, 1, H, W)` -> `(N, 224, H/16, W/16)`."""
        both = torch.cat([masks, others], 1)
        stride4 = self.mask_stem(both) + self.trunk.early(frames)[0]
        features, _, _ = self.trunk.late(stride4)
        return torch.cat([FEATURE_SCALE * features, cells(both).to(features.dtype)], 1)


def two_trunk_stm() -> STM:
    """Return a compact STM with random weights: 64 channels of keys, 256 of values, 96 in the decoder."""
    return STM(
        query_encoder=QueryEncoder(),
        memory_encoder=MemoryEncoder(),
        query_head=CosineKeyValueHead(_LAST),
        memory_head=CosineKeyValueHead(_LAST + MASK_CHANNELS),
        decoder=FineDecoder(VALUE_CHANNELS, (_STRIDE_8, _STRIDE_4, STEM_CHANNELS), DECODER_CHANNELS, FINE_CHANNELS),
        card=ModelCard(working_size=608, max_enlargement=4 / 3, hole_size=STM.stride),
    )
