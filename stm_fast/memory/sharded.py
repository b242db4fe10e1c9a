"""A memory larger than one device's: each of several processes holds and reads a part of it."""

import zlib
from dataclasses import replace
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from stm_fast.memory.arena import Arena
from stm_fast.memory.bank import MemoryBank
from stm_fast.memory.offload import Store
from stm_fast.memory.policies import MemoryPolicy
from stm_fast.memory.ranks import Ranks
from stm_fast.memory.shard import Shard
from stm_fast.memory.tokens import Tokens


class ShardedMemory(MemoryBank):
    """A `MemoryBank` that the ranks of a `torch.distributed` group share, on one machine or several.

    Every rank follows the same video in step: all of them call the same methods in the same order, `memorise` with the
    same frame's keys and values and `read` with the same query key, as they do when each runs the same network on the
    same frames. Each frame in memory lies with one rank, the previous frame too: no token counts twice. They take
    turns, so that T frames of objects that joined together take T / size on each, to a frame.

    Each rank reads its own part, and parts are merged by their log-sum-exp in float32 at least. What travels is the
    size of one readout, whatever the memory's. All ranks get the same readout, which is that of an unsharded memory to
    rounding; no gradients go through it.

    `frames`, `tokens` and `table()` tell of the whole memory, `nbytes` and `frames_here` of this rank's part. All that
    decides which frames stay is done by every rank alike. So a policy may bound the memory if the oldest frame goes;
    one that looks at usage or at what frames say is refused, since most of it is with others. `max_frames` bounds the
    whole memory, `max_tokens` and `max_bytes` what each rank holds.

    A rank that raises or ends while others wait for it leaves them waiting, until the group's timeout.

    Args:
        policy: which frames stay: no admission, and `Oldest` as its eviction.
        group: the processes, by gloo for a memory on CPUs or nccl on GPUs; None for the default group.
        store: None; parts stay on the device.
        value_dtype: what values are stored in, see `MemoryBank`.

    Attributes:
        ranks: this process among the others.

    Raises:
        RuntimeError: no process group is initialised.
        TypeError: values cannot be stored in `value_dtype`.
        ValueError: a policy that needs more than the numbers of frames, a store, or a group without this process.
    """

    def __init__(
        self,
        policy: MemoryPolicy | None = None,
        *,
        group: dist.ProcessGroup | None = None,
        store: Store | None = None,
        value_dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(policy, value_dtype=value_dtype)
        if store is not None:
            raise ValueError(f"store must be None with a sharded memory, whose parts stay on the device, got {store}")
        if self.policy.looks_at_tokens:
            raise ValueError(
                "policy must have no admission and Oldest as its eviction in a sharded memory, where no rank sees all "
                f"tokens, got {self.policy}"
            )
        self.ranks = Ranks(group)
        self.part = f"{self.ranks.rank} of {self.ranks.size}"

    @property
    def frames_here(self) -> tuple[int, ...]:
        """Numbers of the frames of which tokens lie with this rank, sorted."""
        return tuple(sorted({frame for shard in self._shards for frame in shard.frames_here}))

    @torch.no_grad()
    def read(self, query_key: Tensor, *, top_k: int | None = None, backend: str = "auto") -> Tensor:
        """See `MemoryBank.read`. To be called by all ranks, with the same query key.

        Raises:
            RuntimeError: ranks do not remember the same frames and objects, or read queries of other shapes.
            ValueError: the memory is empty, or `top_k` is given: the best tokens of parts are not those of the whole.
        """
        if top_k is not None:
            raise ValueError(f"top_k must be None for a sharded memory, which is read part by part, got {top_k}")
        if not self.arenas:
            raise ValueError("the memory is empty: memorise a frame before reading")
        finish = self.ranks.compared(self._facts(query_key), query_key.device)
        values, lses = zip(*(shard.read_part(query_key, backend) for shard in self._shards), strict=True)
        finish()
        return self.ranks.merged(torch.cat(values), torch.cat(lses)).to(self.arenas[0].block.read_dtype)

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """See `MemoryBank.state`; of this rank's part."""
        tensors, rest = super().state()
        return tensors, rest | {"part": self.part}

    def restore(
        self, tensors: dict[str, Tensor], rest: dict[str, Any], device: torch.device | str | None = None
    ) -> None:
        """See `MemoryBank.restore`. To be called by all ranks, each with the state of its own part.

        Raises:
            ValueError: the state is of another part, or of a memory that was not sharded.
        """
        if rest.get("part") != self.part:
            raise ValueError(f"rest must be the state of part {self.part}, got that of part {rest.get('part')}")
        super().restore(tensors, rest, device)

    @property
    def _shards(self) -> list[Shard]:
        return [arena for arena in self.arenas if isinstance(arena, Shard)]

    def _facts(self, query_key: Tensor) -> dict[str, int]:
        """What is the same on all ranks, unless they follow different videos or have lost step."""
        held = [
            [(slot.frame, slot.role.value, shard.owners[slot.frame]) for slot in shard.slots] for shard in self._shards
        ]
        return {
            "the number of the last frame memorised": self._last,
            "the number of objects": self.objects,
            "a digest of the frames in memory": zlib.crc32(repr(held).encode()),
            "a digest of the query key's shape and dtype": zlib.crc32(
                repr((query_key.shape, query_key.dtype)).encode()
            ),
        }

    def _empty(self, first: Tokens, grid: tuple[int, int], max_slots: int | None) -> Arena:
        return Shard(
            self.policy,
            first,
            grid,
            self.value_dtype,
            max_slots,
            rank=self.ranks.rank,
            size=self.ranks.size,
            begin=len(self.arenas) % self.ranks.size,
        )

    def _restored(self, tensors: dict[str, Tensor], rest: dict[str, Any], device: torch.device) -> Arena:
        return Shard.from_state(self.policy, tensors, rest, device)

    def _max_slots(self, tokens_per_frame: int, bytes_per_token: int, objects: int) -> int | None:
        of_a_rank = replace(self.policy, max_frames=None).max_slots(tokens_per_frame, bytes_per_token, objects)
        bounds = (self.policy.max_frames, None if of_a_rank is None else of_a_rank * self.ranks.size)
        return min((bound for bound in bounds if bound is not None), default=None)
