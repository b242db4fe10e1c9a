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
        skips: features of higher resolution for the decoder, at stride 8, stride 4 and, in some networks, stride 2.
    """

    key: Tensor
    value: Tensor
    skips: tuple[Tensor, ...]

    def select(self, index: Tensor | slice) -> "QueryFeatures":
        """Return the features of some frames, chosen along the batch dimension."""
        return QueryFeatures(self.key[index], self.value[index], tuple(skip[index] for skip in self.skips))


class Guide(NamedTuple):
    """What is known of the frame before, see `STM.decode`.

    Attributes:
        masks: soft masks found there, of each object `(N, 1, H, W)`.
        others: of the other objects of each, `(N, 1, H, W)`.
        value: its value as a query, `(1 or N, Cv, h, w)`.
    """

    masks: Tensor
    others: Tensor
    value: Tensor


class STM(nn.Module):
    """An STM network. The memory between `encode_memory` and `decode` is kept and read by the caller.

    A batch is one of object instances. Wherever frames and masks meet, the frame batch may be 1 (one frame, N objects
    of it: what depends on the frame alone is computed once) or N.

    Args:
        query_encoder: frames -> (features at stride 16, skips from coarse to fine).
        memory_encoder: frames, object masks, masks of the other objects -> features at stride 16.
        query_head: features -> (key, value).
        memory_head: features -> (key, value). None if the keys of a frame in memory are those that it had as a query:
            `memory_encoder` then takes the query's value, object masks and masks of the other objects, and returns
            values.
        decoder: readout, query value, skips -> logits of background and object `(N, 2, H, W)`, or log-odds of the
            object `(N, 1, H, W)`.
        card: inference settings; None for the defaults.
        guided: whether the decoder takes a fourth argument, a `Guide` or None.

    Attributes:
        guided: see above.
        card: the inference settings. They take no part in the arithmetic: `Segmenter` follows them.
    """

    stride = 16

    def __init__(
        self,
        query_encoder: nn.Module,
        memory_encoder: nn.Module,
        query_head: nn.Module,
        memory_head: nn.Module | None,
        decoder: nn.Module,
        card: ModelCard | None = None,
        *,
        guided: bool = False,
    ) -> None:
        super().__init__()
        self.query_encoder = query_encoder
        self.memory_encoder = memory_encoder
        self.query_head = query_head
        self.memory_head = memory_head
        self.decoder = decoder
        self.card = card or ModelCard()
        self.guided = guided

    def encode_query(self, frames: Tensor) -> QueryFeatures:
        """Return keys, values and skips of RGB frames `(N, 3, H, W)` in [0, 1]; H and W are multiples of 16."""
        features, skips = self.query_encoder(frames)
        key, value = self.query_head(features)
        return QueryFeatures(key, value, skips)

    @property
    def shares_keys(self) -> bool:
        """Whether the keys of a frame in memory are those that it had as a query, the same for all objects."""
        return self.memory_head is None

    def encode_memory(
        self, frames: Tensor, masks: Tensor, others: Tensor, query: QueryFeatures | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return keys `(N, Ck, h, w)` and values `(N, Cv, h, w)` of N object instances.

        Args:
            frames: RGB `(1 or N, 3, H, W)` in [0, 1].
            masks: soft mask of each object `(N, 1, H, W)`.
            others: sum of the other objects' masks, clamped to [0, 1] `(N, 1, H, W)`.
            query: what `encode_query` returned for the frames; None if it was not called. Networks that do not share
                keys have no use for it.
        """
        if self.memory_head is not None:
            key, value = self.memory_head(self.memory_encoder(frames, masks, others))
            return key, value
        query = query or self.encode_query(frames)
        return query.key.expand(masks.shape[0], -1, -1, -1), self.memory_encoder(query.value, masks, others)

    def decode(self, readout: Tensor, query: QueryFeatures, guide: Guide | None = None) -> Tensor:
        """Return object probabilities `(N, H, W)`, float32.

        Args:
            readout: `(N, Cv, h, w)`, from the memory.
            query: features of the frame, or of each object's.
            guide: what is known of the frame before; None if nothing is. Networks that are not guided do not use it.
        """
        given = (guide,) if self.guided else ()
        logits: Tensor = self.decoder(readout, query.value, query.skips, *given).float()
        return torch.sigmoid(logits[:, 0]) if logits.shape[1] == 1 else torch.softmax(logits, dim=1)[:, 1]
