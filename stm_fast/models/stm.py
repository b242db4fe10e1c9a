"""Space-Time Memory Network (Oh et al., ICCV 2019): its parts, in the order in which a frame passes them."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from stm_fast.models.card import ModelCard


class QueryFeatures(NamedTuple):
    """What the query encoder returns for frames, at stride 16 unless said otherwise.

    Attributes:
        key: `(N, Ck, h, w)`.
        value: `(N, Cv, h, w)`.
        skips: trunk features at stride 8, stride 4 and, in the compact model, stride 2, for the decoder.
    """

    key: Tensor
    value: Tensor
    skips: tuple[Tensor, ...]

    def select(self, index: Tensor | slice) -> "QueryFeatures":
        """Return the features of some frames, chosen along the batch dimension."""
        return QueryFeatures(self.key[index], self.value[index], tuple(skip[index] for skip in self.skips))


class STM(nn.Module):
    """An STM network. The memory between `encode_memory` and `decode` is kept and read by the caller.

    A batch is one of object instances. Wherever frames and masks meet, the frame batch may be 1 (one frame, N objects
    of it: what depends on the frame alone is computed once) or N.

    Args:
        query_encoder: frames -> (features at stride 16, skips from coarse to fine).
        memory_encoder: frames, object masks, masks of the other objects -> features at stride 16.
        query_head: features -> (key, value).
        memory_head: features -> (key, value).
        decoder: readout, query value, skips -> logits `(N, 2, H, W)`.
        card: inference settings; None for the defaults.

    Attributes:
        card: the inference settings. They take no part in the arithmetic: `Segmenter` follows them.
    """

    stride = 16

    def __init__(
        self,
        query_encoder: nn.Module,
        memory_encoder: nn.Module,
        query_head: nn.Module,
        memory_head: nn.Module,
        decoder: nn.Module,
        card: ModelCard | None = None,
    ) -> None:
        super().__init__()
        self.query_encoder = query_encoder
        self.memory_encoder = memory_encoder
        self.query_head = query_head
        self.memory_head = memory_head
        self.decoder = decoder
        self.card = card or ModelCard()

    def encode_query(self, frames: Tensor) -> QueryFeatures:
        """Return keys, values and skips of RGB frames `(N, 3, H, W)` in [0, 1]; H and W are multiples of 16."""
        features, skips = self.query_encoder(frames)
        key, value = self.query_head(features)
        return QueryFeatures(key, value, skips)

    def encode_memory(self, frames: Tensor, masks: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
        """Return keys `(N, Ck, h, w)` and values `(N, Cv, h, w)` of N object instances.

        Args:
            frames: RGB `(1 or N, 3, H, W)` in [0, 1].
            masks: soft mask of each object `(N, 1, H, W)`.
            others: sum of the other objects' masks, clamped to [0, 1] `(N, 1, H, W)`.
        """
        key, value = self.memory_head(self.memory_encoder(frames, masks, others))
        return key, value

    def decode(self, readout: Tensor, query: QueryFeatures) -> Tensor:
        """Return object probabilities `(N, H, W)`, float32, from the readout `(N, Cv, h, w)` of the memory."""
        logits: Tensor = self.decoder(readout, query.value, query.skips)
        return torch.softmax(logits.float(), dim=1)[:, 1]
