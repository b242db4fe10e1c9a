"""The compact STM: the design of the original at phone size, for CPUs and for use out of the box."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stm_fast.models.card import ModelCard
from stm_fast.models.decoder import FineDecoder
from stm_fast.models.efficientnet_lite import (
    LITE0,
    STEM_CHANNELS,
    EfficientNetLite,
    folded_weights,
)
from stm_fast.models.encoders import KeyValueHead
from stm_fast.models.stm import STM

_, _STRIDE_4, _STRIDE_8, _, _, _LAST = LITE0.channels
KEY_CHANNELS = 64
KEY_LENGTH = 16.0
"""Length of all keys before training; similarities, <q, k>/√64, are then between −32 and 32."""
VALUE_CHANNELS = 256
DECODER_CHANNELS, FINE_CHANNELS = 96, 32
CELL = 4
"""Side in pixels of the cells over which masks are averaged before memory values see them."""
MASK_CHANNELS = 2 * (STM.stride // CELL) ** 2
MASK_GAIN = 8.0
"""Factor on the initial weights from masks to memory values. Without it the few channels of masks would hardly count
beside 192 of features, and training would take long to learn what is to be segmented."""
FEATURE_SCALE = 0.25
"""Factor that brings the trunk's features to about unit variance."""


def of_length(keys: Tensor, length: Tensor) -> Tensor:
    """Give all keys `(N, C, h, w)` one length, so that their similarity is a cosine up to its square.

    With free lengths, the longest keys win the softmax whatever the query. Training then makes them longer still: the
    softmax becomes a hard maximum, mostly wrong, and has no gradient to recover.
    """
    return (length * F.normalize(keys.float(), dim=1)).to(keys.dtype)


def cells(masks: Tensor) -> Tensor:
    """Average masks `(N, C, H, W)` over cells of 4×4 pixels: `(N, 16·C, H/16, W/16)`, those of a mask together."""
    return F.pixel_unshuffle(F.avg_pool2d(masks, CELL), STM.stride // CELL)


class CosineKeyValueHead(KeyValueHead):
    """A head whose keys all have one learned length, see `of_length`."""

    def __init__(self, in_channels: int) -> None:
        super().__init__(in_channels, KEY_CHANNELS, VALUE_CHANNELS)
        self.key_length = nn.Parameter(torch.tensor(KEY_LENGTH))

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """`(N, in_channels, h, w)` -> `(N, 64, h, w)`, `(N, 256, h, w)`."""
        key, value = super().forward(features)
        return of_length(key, self.key_length), value


class CompactQueryEncoder(nn.Module):
    """EfficientNet-Lite0 over RGB frames."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = EfficientNetLite(LITE0, dilated=True)

    def forward(self, frames: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
        """Frames `(N, 3, H, W)` in [0, 1] -> 192 channels at stride 16, (40 at stride 8, 24 at 4, 32 at 2)."""
        stride4, stride2 = self.trunk.early(frames)
        features, _, stride8 = self.trunk.late(stride4)
        return FEATURE_SCALE * features, (stride8, stride4, stride2)


class CompactMemoryEncoder(nn.Module):
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


def compact_stm() -> STM:
    """Return a compact STM with random weights: 64 channels of keys, 256 of values, 96 in the decoder."""
    return STM(
        query_encoder=CompactQueryEncoder(),
        memory_encoder=CompactMemoryEncoder(),
        query_head=CosineKeyValueHead(_LAST),
        memory_head=CosineKeyValueHead(_LAST + MASK_CHANNELS),
        decoder=FineDecoder(
            VALUE_CHANNELS, (_STRIDE_8, _STRIDE_4, STEM_CHANNELS), DECODER_CHANNELS, FINE_CHANNELS
        ),
        card=ModelCard(working_size=608, max_enlargement=4 / 3, hole_size=STM.stride),
    )


@torch.no_grad()
def start_from_classifier(model: STM, classifier: Mapping[str, Tensor]) -> None:
    """Give a compact STM the trunks of an ImageNet classifier, in place, ready for training.

    Memory keys start equal to query keys, so that similar locations match before the first step, and ignore the masks.
    Memory values see the masks.

    Args:
        model: made by `compact_stm`.
        classifier: EfficientNet-Lite0's state dict; see `folded_weights`.
    """
    trunk = folded_weights(classifier, LITE0)
    for encoder in ("query_encoder", "memory_encoder"):
        model.get_submodule(f"{encoder}.trunk").load_state_dict(trunk)
    parameters = dict(model.named_parameters())
    parameters["memory_encoder.mask_stem.weight"].zero_()
    memory_key = parameters["memory_head.key.weight"].zero_()
    memory_key[:, :_LAST] = parameters["query_head.key.weight"]
    parameters["memory_head.key.bias"].copy_(parameters["query_head.key.bias"])
    parameters["memory_head.value.weight"][:, _LAST:] *= MASK_GAIN
