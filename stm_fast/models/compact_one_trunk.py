"""The compact STM with one trunk, which sees every frame once.

The keys of a memory frame are those that it had as a query, as in STCN (Cheng et al.,
NeurIPS 2021), so that all objects share them, and a small encoder makes each object's values of the frame's features
and the masks. The decoder sees where the object was in the frame before, and lets locations of a frame that look like
one thing agree on what they read.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stm_fast.models.card import ModelCard
from stm_fast.models.compact import CELL, KEY_CHANNELS, KEY_LENGTH, cells, of_length
from stm_fast.models.decoder import ResidualBlock, upsample
from stm_fast.models.efficientnet_lite import (
    LAST_CHANNELS,
    STRIDE_2_CHANNELS,
    STRIDE_4_CHANNELS,
    STRIDE_8_CHANNELS,
    STRIDE_16_CHANNELS,
    EfficientNetLite0,
    folded_weights,
)
from stm_fast.models.stm import STM
from stm_fast.ops import memory_read

FEATURE_VALUES = 80
"""Channels of values that are learned. The others are the object's mask itself, in cells."""
CONTEXT_CHANNELS = 96
DECODER_CHANNELS = (96, 48, 24)
"""Channels of the decoder at strides 16, 8 and 4."""
SELF_READ_CHANNELS = 32
SELF_READ_KEY_LENGTH = 8.0
FEATURE_CHANNELS = STRIDE_16_CHANNELS + LAST_CHANNELS
STRIDE_16_SCALE, LAST_SCALE = 0.2, 0.25
"""Factors that bring the trunk's features to about unit variance."""
CELLS = (STM.stride // CELL) ** 2
"""Cells of a location at stride 16."""
VALUE_CHANNELS = FEATURE_VALUES + CELLS
MASK_LOGIT = 3.0
"""Initial log-odds of an object where all that is read from memory is of the object."""
MASK_GAIN = 4.0
"""Factor on the initial weights of masks. Without it training would take long to learn what is to be segmented."""


class CompactEncoder(nn.Module):
    """EfficientNet-Lite0 over RGB frames."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = EfficientNetLite0(dilated=False)

    def forward(self, frames: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
        """Frames `(N, 3, H, W)` in [0, 1] -> 304 channels at stride 16, (40 at stride 8, 24 at 4, 32 at 2)."""
        stride4, stride2 = self.trunk.early(frames)
        last, stride16, stride8 = self.trunk.late(stride4)
        height, width = stride16.shape[2:]
        # Point i of the last stage is point 2i at stride 16.
        last = F.pad(last, (0, 1, 0, 1), mode="replicate")
        size = (2 * last.shape[2] - 1, 2 * last.shape[3] - 1)
        between = F.interpolate(last, size, mode="bilinear", align_corners=True)[:, :, :height, :width]
        return torch.cat([STRIDE_16_SCALE * stride16, LAST_SCALE * between], 1), (stride8, stride4, stride2)


class CompactHead(nn.Module):
    """Features -> keys, and the context that values and the decoder are made of."""

    def __init__(self) -> None:
        super().__init__()
        self.key = nn.Conv2d(FEATURE_CHANNELS, KEY_CHANNELS, 3, padding=1)
        self.key_length = nn.Parameter(torch.tensor(KEY_LENGTH))
        self.context = nn.Conv2d(FEATURE_CHANNELS, CONTEXT_CHANNELS, 1)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """`(N, 304, h, w)` -> `(N, 64, h, w)`, `(N, 96, h, w)`."""
        return of_length(self.key(features), self.key_length), self.context(features)


class ValueEncoder(nn.Module):
    """The context of a frame and the masks in it -> values of each object, of which the mask is a part.

    So what is read from memory is first of all the mask of what looks alike, before anything is learned.
    """

    def __init__(self) -> None:
        super().__init__()
        self.context = nn.Conv2d(CONTEXT_CHANNELS, VALUE_CHANNELS, 3, padding=1)
        self.masks = nn.Conv2d(2 * CELLS, VALUE_CHANNELS, 3, padding=1)
        self.block = ResidualBlock(VALUE_CHANNELS)
        self.value = nn.Conv2d(VALUE_CHANNELS, FEATURE_VALUES, 1)
        with torch.no_grad():
            self.masks.weight *= MASK_GAIN

    def forward(self, context: Tensor, masks: Tensor, others: Tensor) -> Tensor:
        """Context `(1 or N, 96, h, w)`, masks and others `(N, 1, H, W)` -> values `(N, 96, h, w)`."""
        own_and_others = cells(torch.cat([masks, others], 1)).to(context.dtype)
        x = self.masks(own_and_others)
        x += self.context(context)
        return torch.cat([self.value(F.relu_(self.block(x))), own_and_others[:, :CELLS]], 1)


class SelfRead(nn.Module):
    """Locations that look like parts of one thing agree on what they read.

    The frame is read as a memory of itself, by keys that are learned to say which locations belong together. What one
    part of an object knows reaches its other parts, also those that no memory frame shows.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.key = nn.Conv2d(CONTEXT_CHANNELS, SELF_READ_CHANNELS, 1)
        self.key_length = nn.Parameter(torch.tensor(SELF_READ_KEY_LENGTH))
        self.value = nn.Conv2d(channels, channels // 2, 1)
        self.back = nn.Conv2d(channels // 2, channels, 1)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """`(N, C, h, w)` and the frame's context `(1 or N, 96, h, w)` -> `(N, C, h, w)`."""
        key = of_length(self.key(context), self.key_length)
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
        self.context = nn.Conv2d(CONTEXT_CHANNELS, coarse, 3, padding=1)
        self.previous16 = nn.Conv2d(2 * CELLS, coarse, 3, padding=1)
        self.self_read = SelfRead(coarse)
        self.block16 = ResidualBlock(coarse)
        self.narrow8 = nn.Conv2d(coarse, middle, 1)
        self.skip8 = nn.Conv2d(STRIDE_8_CHANNELS, middle, 3, padding=1)
        self.block8 = ResidualBlock(middle)
        self.narrow4 = nn.Conv2d(middle, fine, 1)
        self.skip4 = nn.Conv2d(STRIDE_4_CHANNELS, fine, 3, padding=1)
        self.skip2 = nn.Conv2d(STRIDE_2_CHANNELS, fine, 4, stride=2, padding=1)
        self.block4 = ResidualBlock(fine)
        self.mask4 = nn.Conv2d(1, fine, 3, padding=1)
        self.previous4 = nn.Conv2d(1, fine, 3, padding=1)
        self.predict = nn.Conv2d(fine, 2 * 4, 3, padding=1)
        self.mask_gain = nn.Parameter(torch.tensor(MASK_LOGIT))
        with torch.no_grad():
            self.predict.weight *= 0.1

    def forward(
        self, readout: Tensor, context: Tensor, skips: tuple[Tensor, ...], previous: tuple[Tensor, Tensor] | None
    ) -> Tensor:
        """Return logits `(N, 2, H, W)` of background and object.

        Args:
            readout: `(N, 96, H/16, W/16)`.
            context: `(1 or N, 96, H/16, W/16)`.
            skips: `(1 or N, C, H/8, W/8)`, `(1 or N, C, H/4, W/4)` and `(1 or N, C, H/2, W/2)`.
            previous: masks of the objects and of the others in the frame before, `(N, 1, H, W)`; None if unknown.
        """
        skip8, skip4, skip2 = skips
        x = self.readout(readout)
        x += self.context(context)
        if previous is not None:
            x += self.previous16(cells(torch.cat(previous, 1)).to(x.dtype))
        x = self.block16(x + self.self_read(F.relu(x), context))
        x = upsample(self.narrow8(x), 2)
        x += self.skip8(skip8)
        x = upsample(self.narrow4(self.block8(x)), 2)
        mask = 2 * F.pixel_shuffle(readout[:, FEATURE_VALUES:], STM.stride // CELL) - 1
        x += self.skip4(skip4) + self.skip2(skip2)
        x += self.mask4(mask)
        if previous is not None:
            x += self.previous4(2 * F.avg_pool2d(previous[0], CELL).to(x.dtype) - 1)
        logits = upsample(F.pixel_shuffle(self.predict(F.relu_(self.block4(x))), 2), 2)
        logits += self.mask_gain * upsample(mask, CELL) * logits.new_tensor([-0.5, 0.5]).view(1, 2, 1, 1)
        return logits


def one_trunk_stm() -> STM:
    """Return a compact STM with random weights: 64 channels of keys, 96 of values."""
    return STM(
        query_encoder=CompactEncoder(),
        memory_encoder=ValueEncoder(),
        query_head=CompactHead(),
        memory_head=None,
        decoder=CompactDecoder(),
        card=ModelCard(working_size=480, hole_size=STM.stride, top_k=32),
        guided=True,
    )


@torch.no_grad()
def start_from_classifier(model: STM, classifier: Mapping[str, Tensor]) -> None:
    """Give a compact STM the trunk of an ImageNet classifier, in place, ready for training.

    Args:
        model: made by `one_trunk_stm`.
        classifier: EfficientNet-Lite0's state dict; see `folded_weights`.
    """
    model.get_submodule("query_encoder.trunk").load_state_dict(folded_weights(classifier))


@torch.no_grad()
def start_from_two_trunks(model: STM, state: Mapping[str, Tensor]) -> None:
    """Give a compact STM the trunk and the keys that a compact STM with two trunks has for its queries, in place.

    Args:
        model: made by `one_trunk_stm`.
        state: the state dict of `stm_fast.models.compact.compact_stm`.
    """
    trunk = "query_encoder.trunk."
    model.get_submodule(trunk[:-1]).load_state_dict(
        {name.removeprefix(trunk): part for name, part in state.items() if name.startswith(trunk)}
    )
    parameters = dict(model.named_parameters())
    key = parameters["query_head.key.weight"].zero_()
    key[:, STRIDE_16_CHANNELS:] = state["query_head.key.weight"]
    parameters["query_head.key.bias"].copy_(state["query_head.key.bias"])
    parameters["query_head.key_length"].copy_(state["query_head.key_length"])
