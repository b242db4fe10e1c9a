"""The compact STM, for CPUs and for use out of the box. Its one trunk sees every frame once.

The keys of a memory frame are those that it had as a query, as in STCN (Cheng et al.,
NeurIPS 2021), so that all objects share them, and a small encoder makes each object's values of the frame's features
and the masks. The decoder sees the masks of the frame before, where they were and carried to where things are now, and
lets locations of a frame that look like one thing agree on what they read.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stm_fast.models.card import ModelCard
from stm_fast.models.carry import Carry
from stm_fast.models.decoder import ResidualBlock, upsample
from stm_fast.models.efficientnet_lite import LITE2, STEM_CHANNELS, EfficientNetLite, folded_weights
from stm_fast.models.stm import STM, Guide
from stm_fast.ops import memory_read

_, _STRIDE_4, _STRIDE_8, _, _STRIDE_16, _LAST = LITE2.channels
FEATURE_CHANNELS = _STRIDE_16 + _LAST
STRIDE_16_SCALE, LAST_SCALE = 0.2, 0.25
"""Factors that bring the trunk's features to about unit variance."""
KEY_CHANNELS = 64
KEY_LENGTH = 16.0
"""Length of all keys before training; similarities, <q, k>/√64, are then between −32 and 32."""
CONTEXT_CHANNELS = 128
CELL = 4
"""Side in pixels of the cells over which masks are averaged before memory values see them."""
FEATURE_VALUES = 80
"""Channels of values that are learned. The others are the object's mask itself, in cells."""
CELLS = (STM.stride // CELL) ** 2
"""Cells of a location at stride 16."""
VALUE_CHANNELS = FEATURE_VALUES + CELLS
DECODER_CHANNELS = (96, 64, 32)
"""Channels of the decoder at strides 16, 8 and 4."""
SELF_READ_CHANNELS = 32
SELF_READ_KEY_LENGTH = 8.0
QUERY_PARTS = (VALUE_CHANNELS, DECODER_CHANNELS[0], SELF_READ_CHANNELS, KEY_CHANNELS)
"""Channels of the parts of a query's value: for memory values, for the decoder, keys of the self read, and the keys."""
MASK_LOGIT = 2.0
"""Initial log-odds of an object where all that is read from memory is of the object."""
MASK_GAIN = 4.0
"""Factor on the initial weights of masks. Without it training would take long to learn what is to be segmented."""


def of_length(keys: Tensor, length: Tensor) -> Tensor:
    """Give all keys `(N, C, h, w)` one length, so that their similarity is a cosine up to its square.

    With free lengths, the longest keys win the softmax whatever the query. Training then makes them longer still: the
    softmax becomes a hard maximum, mostly wrong, and has no gradient to recover.
    """
    return (length * F.normalize(keys.float(), dim=1)).to(keys.dtype)


def cells(masks: Tensor) -> Tensor:
    """Average masks `(N, C, H, W)` over cells of 4×4 pixels: `(N, 16·C, H/16, W/16)`, those of a mask together."""
    return F.pixel_unshuffle(F.avg_pool2d(masks, CELL), STM.stride // CELL)


class CompactEncoder(nn.Module):
    """EfficientNet-Lite2 over RGB frames, and a pyramid that tells its finer features what the coarser ones know."""

    def __init__(self) -> None:
        super().__init__()
        _, middle, fine = DECODER_CHANNELS
        self.trunk = EfficientNetLite(LITE2, dilated=False)
        self.narrow8 = nn.Conv2d(FEATURE_CHANNELS, middle, 1)
        self.skip8 = nn.Conv2d(_STRIDE_8, middle, 3, padding=1)
        self.block8 = ResidualBlock(middle)
        self.narrow4 = nn.Conv2d(middle, fine, 1)
        self.skip4 = nn.Conv2d(_STRIDE_4, fine, 3, padding=1)
        self.skip2 = nn.Conv2d(STEM_CHANNELS, fine, 4, stride=2, padding=1)
        self.block4 = ResidualBlock(fine)

    def forward(self, frames: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Frames `(N, 3, H, W)` in [0, 1] -> 328 channels at stride 16, (64 at stride 8, 32 at stride 4)."""
        stride4, stride2 = self.trunk.early(frames)
        last, stride16, stride8 = self.trunk.late(stride4)
        height, width = stride16.shape[2:]
        # Point i of the last stage is point 2i at stride 16.
        last = F.pad(last, (0, 1, 0, 1), mode="replicate")
        size = (2 * last.shape[2] - 1, 2 * last.shape[3] - 1)
        between = F.interpolate(last, size, mode="bilinear", align_corners=True)[:, :, :height, :width]
        features = torch.cat([STRIDE_16_SCALE * stride16, LAST_SCALE * between], 1)
        middle = upsample(self.narrow8(features), 2)
        middle += self.skip8(stride8)
        middle = self.block8(middle)
        fine = upsample(self.narrow4(middle), 2)
        fine += self.skip4(stride4) + self.skip2(stride2)
        return features, (middle, self.block4(fine))


class CompactHead(nn.Module):
    """Features -> keys, and all that memory values and the decoder need to know of a frame at stride 16."""

    def __init__(self) -> None:
        super().__init__()
        value, decoder, self_read, _ = QUERY_PARTS
        self.key = nn.Conv2d(FEATURE_CHANNELS, KEY_CHANNELS, 3, padding=1)
        self.key_length = nn.Parameter(torch.tensor(KEY_LENGTH))
        self.context = nn.Conv2d(FEATURE_CHANNELS, CONTEXT_CHANNELS, 1)
        self.parts = nn.Conv2d(CONTEXT_CHANNELS, value + decoder, 3, padding=1)
        self.self_read_key = nn.Conv2d(CONTEXT_CHANNELS, self_read, 1)
        self.self_read_key_length = nn.Parameter(torch.tensor(SELF_READ_KEY_LENGTH))

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """`(N, 328, h, w)` -> `(N, 64, h, w)`, `(N, 288, h, w)`, the parts of which `QUERY_PARTS` counts."""
        context = F.relu_(self.context(features))
        self_read_key = of_length(self.self_read_key(context), self.self_read_key_length)
        key = of_length(self.key(features), self.key_length)
        return key, torch.cat([self.parts(context), self_read_key, key], 1)


class ValueEncoder(nn.Module):
    """What is known of a frame and the masks in it -> values of each object, of which the mask is a part.

    So what is read from memory is first of all the mask of what looks alike, before anything is learned.
    """

    def __init__(self) -> None:
        super().__init__()
        self.masks = nn.Conv2d(2 * CELLS, VALUE_CHANNELS, 3, padding=1)
        self.block = ResidualBlock(VALUE_CHANNELS)
        self.value = nn.Conv2d(VALUE_CHANNELS, FEATURE_VALUES, 1)
        with torch.no_grad():
            self.masks.weight *= MASK_GAIN

    def forward(self, query_value: Tensor, masks: Tensor, others: Tensor) -> Tensor:
        """Query value `(1 or N, 288, h, w)`, masks and others `(N, 1, H, W)` -> values `(N, 96, h, w)`."""
        own_and_others = cells(torch.cat([masks, others], 1)).to(query_value.dtype)
        x = self.masks(own_and_others)
        x += query_value[:, :VALUE_CHANNELS]
        return torch.cat([self.value(F.relu_(self.block(x))), own_and_others[:, :CELLS]], 1)


class SelfRead(nn.Module):
    """Locations that look like parts of one thing agree on what they read.

    The frame is read as a memory of itself, by keys that are learned to say which locations belong together. What one
    part of an object knows reaches its other parts, also those that no memory frame shows.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.value = nn.Conv2d(channels, channels // 2, 1)
        self.back = nn.Conv2d(channels // 2, channels, 1)

    def forward(self, x: Tensor, key: Tensor) -> Tensor:
        """`(N, C, h, w)` and the frame's keys `(1 or N, 32, h, w)` -> `(N, C, h, w)`."""
        value = self.value(x)
        read = memory_read(key, key, value[None])[0] if len(key) == 1 else memory_read(key, key, value)
        shared: Tensor = self.back(read)
        return shared


class CompactDecoder(nn.Module):
    """Readout, the frame's features and the masks of the frame before -> logits at full resolution."""

    def __init__(self) -> None:
        super().__init__()
        coarse, middle, fine = DECODER_CHANNELS
        self.readout = nn.Conv2d(VALUE_CHANNELS, coarse, 3, padding=1)
        self.previous16 = nn.Conv2d(2 * CELLS, coarse, 3, padding=1)
        self.carry = Carry()
        self.carried16 = nn.Conv2d(2 * CELLS, coarse, 3, padding=1)
        self.self_read = SelfRead(coarse)
        self.block16 = ResidualBlock(coarse)
        self.narrow8 = nn.Conv2d(coarse, middle, 1)
        self.block8 = ResidualBlock(middle)
        self.narrow4 = nn.Conv2d(middle, fine, 1)
        self.masks4 = nn.Conv2d(3, fine, 3, padding=1)
        self.block4 = ResidualBlock(fine)
        self.predict = nn.Conv2d(fine, 4, 3, padding=1)
        self.mask_gain = nn.Parameter(torch.tensor(MASK_LOGIT))
        with torch.no_grad():
            self.predict.weight *= 0.1

    def forward(
        self,
        readout: Tensor,
        query_value: Tensor,
        skips: tuple[Tensor, ...],
        guide: Guide | None,
    ) -> Tensor:
        """Return log-odds of the object `(N, 1, H, W)`.

        Args:
            readout: `(N, 96, H/16, W/16)`.
            query_value: `(1 or N, 288, H/16, W/16)`.
            skips: `(1 or N, 64, H/8, W/8)` and `(1 or N, 32, H/4, W/4)`.
            guide: what is known of the frame before; None if nothing is.
        """
        skip8, skip4 = skips
        _, context, self_read_key, key = torch.split(query_value, list(QUERY_PARTS), dim=1)
        x = self.readout(readout)
        x += context
        read_mask = _mask(readout[:, FEATURE_VALUES:])
        previous_mask = carried_mask = torch.zeros_like(read_mask)
        if guide is not None:
            previous_cells = cells(torch.cat([guide.masks, guide.others], 1)).to(x.dtype)
            carried = self.carry(key, guide.value[:, -KEY_CHANNELS:], previous_cells).to(x.dtype)
            x += self.previous16(previous_cells)
            x += self.carried16(carried)
            previous_mask, carried_mask = _mask(previous_cells[:, :CELLS]), _mask(carried[:, :CELLS])
        x = self.block16(x + self.self_read(F.relu(x), self_read_key))
        x = upsample(self.narrow8(x), 2)
        x += skip8
        x = upsample(self.narrow4(self.block8(x)), 2)
        x += skip4
        x += self.masks4(torch.cat([read_mask, previous_mask, carried_mask], 1))
        odds = F.pixel_shuffle(self.predict(F.relu_(self.block4(x))), 2)
        odds += self.mask_gain * upsample(read_mask, 2)
        return upsample(odds, 2)


def _mask(of_cells: Tensor) -> Tensor:
    """Cells `(N, 16, h, w)` of masks in [0, 1] -> masks `(N, 1, 4h, 4w)` in [−1, 1]."""
    return 2 * F.pixel_shuffle(of_cells, STM.stride // CELL) - 1


def compact_stm() -> STM:
    """Return a compact STM with random weights: 64 channels of keys, 96 of values."""
    return STM(
        query_encoder=CompactEncoder(),
        memory_encoder=ValueEncoder(),
        query_head=CompactHead(),
        memory_head=None,
        decoder=CompactDecoder(),
        card=ModelCard(working_size=544, max_enlargement=2.0, hole_size=STM.stride, top_k=8),
        guided=True,
    )


@torch.no_grad()
def start_from_classifier(model: STM, classifier: Mapping[str, Tensor]) -> None:
    """Give a compact STM the trunk of an ImageNet classifier, in place, ready for training.

    Args:
        model: made by `compact_stm`.
        classifier: EfficientNet-Lite2's state dict; see `folded_weights`.
    """
    model.get_submodule("query_encoder.trunk").load_state_dict(folded_weights(classifier, LITE2))
