"""A network in parts: modules of tensors alone, which a loop in any language calls one after the other.

All take float32. Frames and masks are padded: their sizes are multiples of the network's stride. A batch is one of the
objects of one frame; what depends on the frame alone has a batch of 1.
"""

import torch
from torch import Tensor, nn

from stm_fast.models.aggregation import aggregate, other_masks
from stm_fast.models.stm import STM, Guide, QueryFeatures
from stm_fast.ops import memory_read


class EncodeQuery(nn.Module):
    """Frame `(1, 3, H, W)` in [0, 1] -> query key, query value, skips."""

    def __init__(self, model: STM) -> None:
        super().__init__()
        self.model = model

    def forward(self, frame: Tensor) -> tuple[Tensor, ...]:
        """See `STM.encode_query`."""
        query = self.model.encode_query(frame)
        return query.key, query.value, *query.skips


class EncodeMemory(nn.Module):
    """Frame `(1, 3, H, W)` and the masks of all its objects `(O, 1, H, W)` -> memory keys, memory values."""

    def __init__(self, model: STM) -> None:
        super().__init__()
        self.model = model

    def forward(self, frame: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
        """See `STM.encode_memory`."""
        return self.model.encode_memory(frame, masks, other_masks(masks))


class EncodeMemoryValue(nn.Module):
    """Query value of a frame and the masks of all its objects `(O, 1, H, W)` -> memory values, where keys are shared.

    The frame's key in memory is its query key.
    """

    def __init__(self, model: STM) -> None:
        super().__init__()
        self.model = model

    def forward(self, query_value: Tensor, masks: Tensor) -> Tensor:
        """See `STM.encode_memory`."""
        values: Tensor = self.model.memory_encoder(query_value, masks, other_masks(masks))
        return values


class Read(nn.Module):
    """Query key `(1, Ck, h, w)`, memory keys `(1 or O, Ck, T, h, w)` and values `(O, Cv, T, h, w)` -> readout.

    Keys have a batch of 1 where the network shares them.
    """

    def __init__(self, model: STM) -> None:
        super().__init__()
        self.shares_keys = model.shares_keys
        self.top_k = model.card.top_k

    def forward(self, query_key: Tensor, memory_key: Tensor, memory_value: Tensor) -> Tensor:
        """Return `(O, Cv, h, w)`, see `stm_fast.memory_read`."""
        if self.shares_keys:
            return memory_read(query_key, memory_key, memory_value[None], top_k=self.top_k)[0]
        query_key = query_key.expand(memory_key.shape[0], -1, -1, -1)
        return memory_read(query_key, memory_key, memory_value, top_k=self.top_k)


class Decode(nn.Module):
    """Readout, query value, skips and, in guided networks, what is known of the frame before -> probabilities."""

    def __init__(self, model: STM) -> None:
        super().__init__()
        self.model = model

    def forward(
        self,
        readout: Tensor,
        query_value: Tensor,
        skips: tuple[Tensor, ...],
        previous_masks: Tensor | None = None,
        previous_value: Tensor | None = None,
    ) -> Tensor:
        """Return probabilities of background and objects `(O + 1, H, W)`, which sum to one.

        Args:
            readout: `(O, Cv, h, w)`.
            query_value: of the frame.
            skips: of the frame.
            previous_masks: probabilities of the objects in the frame before, `(O, 1, H, W)`; None for no guide.
            previous_value: the query value of that frame; None for no guide.
        """
        query = QueryFeatures(query_value, query_value, skips)
        guide = None
        if previous_masks is not None and previous_value is not None:
            guide = Guide(previous_masks, other_masks(previous_masks), previous_value)
        return torch.softmax(aggregate(self.model.decode(readout, query, guide)), dim=0)


class Step(nn.Module):
    """A frame and the memory -> probabilities, and what of the frame goes into memory."""

    def __init__(self, model: STM) -> None:
        super().__init__()
        self.model = model
        self.read = Read(model)
        self.decode = Decode(model)

    def forward(
        self,
        frame: Tensor,
        memory_key: Tensor,
        memory_value: Tensor,
        previous_masks: Tensor | None = None,
        previous_value: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return probabilities as `Decode` does, the frame's query key and its query value."""
        query = self.model.encode_query(frame)
        readout = self.read(query.key, memory_key, memory_value)
        probabilities = self.decode(readout, query.value, query.skips, previous_masks, previous_value)
        return probabilities, query.key, query.value
