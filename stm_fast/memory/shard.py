"""One process's part of an arena whose frames lie with several processes."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from stm_fast.memory.arena import Arena, Role, Slot
from stm_fast.memory.parts import Part, read_in_parts
from stm_fast.memory.policies import MemoryPolicy
from stm_fast.memory.tokens import Tokens


class Shard(Arena):
    """The part that one of several ranks has of an `Arena`.

    Each rank knows which frames are in memory and which rank holds each, and decides alike what stays: `slots`,
    `frames`, `tokens` and `holdings` are those of the whole memory, the same on all ranks. Only the block is the
    rank's own. A new frame, the previous one as well as those that stay, goes to the rank that holds fewest. So ranks
    take turns, and with F slots at most none comes to hold more than F / size, rounded up. A rank may have more for a
    while only when the bound itself shrinks.

    Policies may look at `slots`, but not at tokens: those of most frames are elsewhere.

    Args:
        policy: which frames stay.
        first: tokens of the first frame; nothing is written yet.
        grid: height and width of a frame in tokens.
        value_dtype: what values are stored in; None for the dtype they come in.
        max_slots: bound on the number of slots of all ranks together; None for none.
        rank: number of this rank.
        size: number of ranks.
        begin: the rank that has its turn first.

    Attributes:
        owners: the rank that holds each frame, by its number.
    """

    def __init__(
        self,
        policy: MemoryPolicy,
        first: Tokens,
        grid: tuple[int, int],
        value_dtype: torch.dtype | None,
        max_slots: int | None,
        *,
        rank: int,
        size: int,
        begin: int,
    ) -> None:
        self.rank, self.size, self.begin = rank, size, begin
        self.owners: dict[int, int] = {}
        super().__init__(policy, first, grid, value_dtype, _share(max_slots, size))
        self.limit(max_slots)

    @property
    def frames_here(self) -> tuple[int, ...]:
        """Numbers of the frames that lie with this rank, in the order of its block."""
        return tuple(self.slots[slot].frame for slot in self._slots_at(self.rank))

    def read_part(self, query_key: Tensor, backend: str = "auto") -> tuple[Tensor, Tensor]:
        """What this rank's part says about a query key `(1, Ck, h, w)` that the objects share.

        Returns:
            Value `(O, Cv, h, w)` and lse `(O, h, w)`, in float32 at least; zeros and −inf if the part is empty.
        """
        self.reads += 1
        query_key = query_key.expand(self.objects, -1, -1, -1)
        return read_in_parts(query_key, self.block.values.shape[1], self._in_parts(), backend)

    def read(self, query_key: Tensor, *, top_k: int | None = None, backend: str = "auto") -> Tensor:
        """Refused: a rank has but a part. See `read_part`."""
        raise NotImplementedError("a shard has a part of the memory: merge what read_part returns on all ranks")

    def drop(self, slot: int) -> None:
        """Forgets the frame in a slot; the last one of the same rank takes its place."""
        frame = self.slots[slot].frame
        owner = self.owners[frame]
        last = self._slots_at(owner)[-1]
        if slot != last:
            if owner == self.rank:
                self.block.copy(self._place(last), self._place(slot), self.tokens_per_frame)
            self.slots[slot] = self.slots[last]
        self.slots.pop(last)
        del self.owners[frame]

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """See `Arena.state`; the tensors are those of this rank's part."""
        tensors, rest = super().state()
        owners = [self.owners[slot.frame] for slot in self.slots]
        return tensors, rest | {"rank": self.rank, "size": self.size, "begin": self.begin, "owners": owners}

    @classmethod
    def from_state(
        cls, policy: MemoryPolicy, tensors: dict[str, Tensor], rest: dict[str, Any], device: torch.device
    ) -> "Shard":
        """The shard whose `state` this is, on a device."""
        shard = cls.__new__(cls)
        shard.rank, shard.size, shard.begin = rest["rank"], rest["size"], rest["begin"]
        frames = [slot["frame"] for slot in rest["slots"]]
        shard.owners = dict(zip(frames, rest["owners"], strict=True))
        shard._restore(policy, tensors, rest, device)
        return shard

    def renumber(self, by: int) -> None:
        """See `Arena.renumber`."""
        super().renumber(by)
        self.owners = {frame + by: owner for frame, owner in self.owners.items()}

    @property
    def _held(self) -> int:
        return len(self._slots_at(self.rank))

    @property
    def _max_held(self) -> int | None:
        return _share(self.max_slots, self.size)

    def _slots_at(self, rank: int) -> list[int]:
        """Slots whose frames lie with a rank, in the order of its block."""
        return [number for number, slot in enumerate(self.slots) if self.owners[slot.frame] == rank]

    def _place(self, slot: int) -> int:
        return self._capacity(self._slots_at(self.rank).index(slot))

    def _new_slot(self, frame: int) -> int:
        held = [len(self._slots_at(rank)) for rank in range(self.size)]
        owner = min(range(self.size), key=lambda rank: (held[rank], (rank - self.begin) % self.size))
        self._reserve(held[self.rank] + (owner == self.rank))
        self.owners[frame] = owner
        self.slots.append(Slot(frame, Role.temporary))
        return len(self.slots) - 1

    def _write(self, slot: int, tokens: Tokens) -> None:
        if self.owners[self.slots[slot].frame] == self.rank:
            super()._write(slot, tokens)

    def _in_parts(self) -> Iterator[Part]:
        if self.block.scales is not None:
            yield from super()._in_parts()
        elif self._held:
            yield Part(slice(None), self.keys, self.values)


def _share(slots: int | None, size: int) -> int | None:
    """The most that one of the ranks holds of so many slots."""
    return None if slots is None else -(-slots // size)
