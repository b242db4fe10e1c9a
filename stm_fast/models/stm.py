"""Space-Time Memory Network (Oh et al., ICCV 2019): the parts in the order in which a frame passes them."""

from typing import NamedTuple

import torch
from torch import Tensor, nn


class QueryFeatures(NamedTuple):
    """What the query encoder makes of frames, at `stride` 16 unless said otherwise.

    Attributes:
        key: `(N, Ck, h, w)`.
        value: `(N, Cv, h, w)`.
        skips: trunk features at stride 8, stride 4 and, in the compact model, stride 2, for the decoder.
    """

    key: Tensor
    value: Tensor
    skips: tuple[Tensor, ...]

    def select(self, index: Tensor | slice) -> "QueryFeatures":
        """The features of some frames, chosen along the batch dimension."""
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
        working_size: shorter side, in pixels, of the frames that it segments best.
        max_enlargement: by how much smaller frames may be enlarged towards it; 1 leaves them as they are.
        hole_size: holes and gaps of a given mask up to this many pixels wide are filled in what is remembered of it; 0
            for none. An object that shows through spray or leaves has more of them than two memory locations can tell
            apart, and fades where they are.
    """

    stride = 16

    def __init__(
        self,
        query_encoder: nn.Module,
        memory_encoder: nn.Module,
        query_head: nn.Module,
        memory_head: nn.Module,
        decoder: nn.Module,
        working_size: int = 480,
        max_enlargement: float = 1.0,
        hole_size: int = 0,
    ) -> None:
        super().__init__()
        self.query_encoder = query_encoder
        self.memory_encoder = memory_encoder
        self.query_head = query_head
        self.memory_head = memory_head
        self.decoder = decoder
        self.working_size = working_size
        self.max_enlargement = max_enlargement
        self.hole_size = hole_size

    def best_size(self, shorter_side: int) -> int:
        """The shorter side, in pixels, at which frames of this shorter side are segmented best."""
        return min(self.working_size, round(shorter_side * self.max_enlargement))

    def encode_query(self, frames: Tensor) -> QueryFeatures:
        """Keys, values and skips of RGB frames `(N, 3, H, W)` in [0, 1]; H and W are multiples of 16."""
        features, skips = self.query_encoder(frames)
        key, value = self.query_head(features)
        return QueryFeatures(key, value, skips)

    def encode_memory(self, frames: Tensor, masks: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
        """Keys `(N, Ck, h, w)` and values `(N, Cv, h, w)` of N object instances.

        Args:
            frames: RGB `(1 or N, 3, H, W)` in [0, 1].
            masks: soft mask of each object `(N, 1, H, W)`.
            others: sum of the other objects' masks, clamped to [0, 1] `(N, 1, H, W)`.
        """
        key, value = self.memory_head(self.memory_encoder(frames, masks, others))
        return key, value

    def decode(self, readout: Tensor, query: QueryFeatures) -> Tensor:
        """Object probabilities `(N, H, W)` from the readout `(N, Cv, h, w)` of the memory, in float32."""
        logits: Tensor = self.decoder(readout, query.value, query.skips)
        return torch.softmax(logits.float(), dim=1)[:, 1]
