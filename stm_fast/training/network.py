"""One pass of an STM over a batch of clips in training (STM paper, section 3.5)."""

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor, nn

from stm_fast.models.aggregation import aggregate
from stm_fast.models.stm import STM, Guide, QueryFeatures
from stm_fast.ops import memory_read
from stm_fast.training.clip_memory import ClipMemory
from stm_fast.training.erasing import Erasing
from stm_fast.training.spilling import Spilling

Read: TypeAlias = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Query keys `(N, Ck, h, w)`, memory keys `(N, Ck, t, h, w)`, memory values `(N, Cv, t, h, w)` -> `(N, Cv, h, w)`."""


class Rollout(nn.Module):
    """An STM that segments whole clips from the true masks of their first frames.

    Every frame is memorised with the soft probabilities predicted for it, so that training sees how errors propagate.

    Args:
        model: the network that is trained.
        read: how the memory is read.
        erased: share of the objects that lose a part of their masks where a seed is given; see `Erasing`.
        spilled: share of the objects whose masks take more than the object where a seed is given; see `Spilling`.
    """

    def __init__(self, model: STM, read: Read = memory_read, *, erased: float = 0.0, spilled: float = 0.0) -> None:
        super().__init__()
        self.model = model
        self.read = read
        self.erased = erased
        self.spilled = spilled

    def forward(self, frames: Tensor, masks: Tensor, clip: Tensor, slot: Tensor, seed: int | None = None) -> Tensor:
        """Segment frames 1..T-1 of every clip. The arguments are those of `stm_fast.training.batch.Batch`.

        Args:
            frames: `(B, T, 3, S, S)` float32 in [0, 1], T at least 2; S is a multiple of 16.
            masks: ids of objects `(B, T, S, S)`. Only those of frame 0 are used; void is background there.
            clip: the clip of each object `(N,)` int64, in ascending order.
            slot: its id in that clip's masks minus one `(N,)` int64.
            seed: of what is erased from the masks and added to them; None leaves them as they are.

        Returns:
            Aggregated logits `(B, T-1, 1+K, S, S)` float32 over background and objects, K being the largest number of
            objects in one clip. Slots that a clip does not use have probability zero.
        """
        clips, length = frames.shape[:2]
        slots = int(slot.max()) + 1
        first = 0 if self.model.shares_keys else 1
        query = self.model.encode_query(_channels_last(frames[:, first:].flatten(0, 1)))

        def features(time: int, *, skips: bool = True) -> QueryFeatures:
            wanted = query if skips else query._replace(skips=())
            return wanted.select(clip * (length - first) + time - first)

        erasing = spilling = None
        if seed is not None and length > 2:
            generator = torch.Generator().manual_seed(seed)
            erasing = Erasing(self.erased, len(clip), length, generator) if self.erased else None
            spilling = Spilling(self.spilled, clip, length, generator) if self.spilled else None
        memory = ClipMemory(length - 1)
        logits = []
        soft = (masks[clip, 0] == (slot + 1)[:, None, None]).float()[:, None]
        for time in range(1, length):
            total = _by_clip(soft[:, 0], clip, slot, (clips, slots)).sum(1)
            others = (total[clip, None] - soft).clamp(0, 1)
            past = _channels_last(frames[clip, time - 1])
            remembered = (features(time - 1, skips=False),) if self.model.shares_keys else ()
            memory.append(*self.model.encode_memory(past, soft, others, *remembered))
            present = features(time)
            readout = self.read(present.key, memory.keys, memory.values)
            # True masks do not guide the decoder: they would teach it to trust masks more than it may later.
            guided = self.model.guided and time > 1
            guide = Guide(soft, others, features(time - 1, skips=False).value) if guided else None
            probabilities = self.model.decode(readout, present, guide)
            logits.append(aggregate(_by_clip(probabilities, clip, slot, (clips, slots)), dim=1))
            soft = torch.softmax(logits[-1], 1)[clip, slot + 1][:, None]
            if erasing is not None and time < length - 1:
                soft = soft * erasing.kept(time, frames[clip, time], soft)
            if spilling is not None and time < length - 1:
                soft = spilling.spill(time, soft)
        return torch.stack(logits, 1)


def _by_clip(values: Tensor, clip: Tensor, slot: Tensor, shape: tuple[int, int]) -> Tensor:
    """Sort objects `(N, S, S)` into clips and slots `(B, K, S, S)`, zero where a clip has no such object."""
    return values.new_zeros(*shape, *values.shape[1:]).index_put((clip, slot), values)


def _channels_last(frames: Tensor) -> Tensor:
    return frames.contiguous(memory_format=torch.channels_last)
