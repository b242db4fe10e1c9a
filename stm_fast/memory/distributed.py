"""A memory larger than one device's: each of several processes holds and reads a part of it."""

import zlib
from collections.abc import Callable, Sequence

import torch
import torch.distributed as dist
from torch import Tensor

from stm_fast.memory.bank import MemoryBank
from stm_fast.memory.frames import Shard
from stm_fast.memory.groups import ObjectGroup
from stm_fast.memory.policies.policy import MemoryPolicy
from stm_fast.memory.readers import read_part
from stm_fast.memory.stores import Store


class ShardedMemory(MemoryBank):
    """A `MemoryBank` that the ranks of a `torch.distributed` group share, on one machine or several.

    Every rank follows the same video in step: all of them call the same methods in the same order, `memorise` with the
    same frame's keys and values and `read` with the same query key, as they do if each runs the same network on the
    same frames. Each frame in memory, including the previous one, is held by a single rank, so that no token counts
    twice. Ranks take turns: of T frames of objects that joined together, each holds T / size, up to rounding.

    Each rank reads its own part, and parts are merged by their log-sum-exp in float32 at least. Ranks exchange as much
    data as one readout has, whatever the size of the memory. All ranks get the same readout, which equals that of an
    unsharded memory up to rounding; it has no gradients.

    `frames`, `tokens` and `table()` describe the whole memory, `nbytes` and `frames_here` this rank's part. Every rank
    makes the same decision on which frames stay, by their numbers. So a policy may bound the memory with `Oldest` as
    its eviction; one that looks at usage or tokens is refused, since other ranks hold most of them. `max_frames` bounds
    the whole memory, `max_tokens` and `max_bytes` what each rank holds.

    If a rank raises or ends while others wait for it, they wait until the group's timeout.

    Args:
        policy: which frames stay: no admission, and `Oldest` as its eviction.
        group: the processes, by gloo for a memory on CPUs or nccl on GPUs; None for the default group.
        store: None; parts stay on the device.
        value_dtype: dtype in which values are stored, see `MemoryBank`.
        shared_keys: whether all objects have the same keys, see `MemoryBank`.

    Attributes:
        ranks: this process among the others.

    Raises:
        RuntimeError: no process group is initialised.
        TypeError: values cannot be stored in `value_dtype`.
        ValueError: the policy needs more than frame numbers, a store is given, or this process is not in the group.
    """

    def __init__(
        self,
        policy: MemoryPolicy | None = None,
        *,
        group: dist.ProcessGroup | None = None,
        store: Store | None = None,
        value_dtype: torch.dtype | None = None,
        shared_keys: bool = False,
    ) -> None:
        policy = policy or MemoryPolicy()
        if store is not None:
            raise ValueError(f"store must be None with a sharded memory, whose parts stay on the device, got {store}")
        if policy.looks_at_tokens:
            raise ValueError(
                "policy must have no admission and Oldest as its eviction in a sharded memory, where no rank sees all "
                f"tokens, got {policy}"
            )
        self.ranks = Ranks(group)
        reader = ShardedReader(self.ranks)
        super().__init__(policy, value_dtype=value_dtype, reader=reader, shared_keys=shared_keys)

    @property
    def frames_here(self) -> tuple[int, ...]:
        """Numbers of the frames of which this rank holds tokens, sorted."""
        return tuple(sorted({frame for group in self.groups for frame in group.table.frames_here}))


class ShardedReader:
    """Reads a memory that several processes share, see `stm_fast.memory.readers.Reader`.

    Args:
        ranks: this process among the others.
    """

    def __init__(self, ranks: "Ranks") -> None:
        self.processes = ranks.size
        self.part: str | None = f"{ranks.rank} of {ranks.size}"
        self._ranks = ranks

    def shard(self, group: int) -> Shard:
        """See `Reader.shard`. Each group begins with the next rank."""
        return Shard(self._ranks.rank, self._ranks.size, begin=group % self._ranks.size)

    @torch.no_grad()
    def read(
        self, groups: Sequence[ObjectGroup], query_key: Tensor, *, last: int, top_k: int | None, backend: str
    ) -> Tensor:
        """See `Reader.read`. All ranks call it with the same query key.

        Raises:
            RuntimeError: ranks remember different frames or objects, or their queries differ in shape.
            ValueError: `top_k` is given: the best tokens of parts are not those of the whole.
        """
        if top_k is not None:
            raise ValueError(f"top_k must be None for a sharded memory, which is read part by part, got {top_k}")
        finish = self._ranks.compare(_facts(groups, query_key, last), query_key.device)
        parts = [read_part(group, query_key, backend) for group in groups]
        finish()
        values, lses = zip(*parts, strict=True)
        for group in groups:
            group.counters.add(None)
        return self._ranks.merge(torch.cat(values), torch.cat(lses)).to(groups[0].storage.block.read_dtype)


class Ranks:
    """The processes of a `torch.distributed` group, as one of them sees them.

    Args:
        group: a process group whose backend reduces tensors on the memory's device: gloo for CPUs, nccl for GPUs; None
            for the default group.

    Attributes:
        rank: number of this process in the group, from 0.
        size: number of processes.

    Raises:
        RuntimeError: no process group is initialised, or this torch has none.
        ValueError: this process is not in the group.
    """

    def __init__(self, group: dist.ProcessGroup | None = None) -> None:
        if not (dist.is_available() and dist.is_initialized()):
            raise RuntimeError(
                "a process group is needed: call torch.distributed.init_process_group first, in a script that torchrun "
                "starts or with rank, world_size and init_method; there is none"
            )
        self.rank = dist.get_rank(group)
        if self.rank < 0:
            raise ValueError(f"group must be one that this process is in, which rank {dist.get_rank()} is not")
        self.size = dist.get_world_size(group)
        self._group = group

    def merge(self, value: Tensor, lse: Tensor) -> Tensor:
        """Merge reads of the same queries over all ranks' parts of a memory into the read of the whole, exactly.

        This is `merge_reads` with its maximum and its sums taken over the group. Ranks exchange as much data as one
        read has, whatever their number, and none sees another's part.

        Args:
            value: read of this rank's part `(O, Cv, *grid)`, float32 or float64; zeros if it has none.
            lse: `(O, *grid)` of the same dtype; −inf if it has none.

        Returns:
            The merged value, the same on all ranks; zeros where no rank has a part.
        """
        maximum = lse.clone()
        dist.all_reduce(maximum, dist.ReduceOp.MAX, self._group)
        weights = torch.exp(lse - maximum.clamp_min(torch.finfo(lse.dtype).min))[:, None]
        sums = torch.cat([value * weights, weights], 1)
        dist.all_reduce(sums, dist.ReduceOp.SUM, self._group)
        total = sums[:, -1:]
        return sums[:, :-1] / total.masked_fill(total == 0, 1)

    def compare(self, facts: dict[str, int], device: torch.device) -> Callable[[], None]:
        """Begin to compare what must be the same on all ranks.

        Args:
            facts: 64-bit numbers by name, which errors show; all ranks have the same names.
            device: a device on which the group reduces.

        Returns:
            A function that waits for the end of the comparison. It raises a `RuntimeError` on all ranks if any fact
            differs.
        """
        here = torch.tensor(list(facts.values()), device=device)
        extremes = torch.cat([here, -here])
        work = dist.all_reduce(extremes, dist.ReduceOp.MAX, self._group, async_op=True)

        def finish() -> None:
            work.wait()
            numbers = extremes.tolist()
            differing = [
                f"{name} (from {-negated} to {largest})"
                for name, largest, negated in zip(facts, numbers[: len(facts)], numbers[len(facts) :], strict=True)
                if largest != -negated
            ]
            if differing:
                raise RuntimeError(
                    f"all ranks must follow the same video in step; they differ in {', '.join(differing)}"
                )

        return finish


def _facts(groups: Sequence[ObjectGroup], query_key: Tensor, last: int) -> dict[str, int]:
    """Return numbers that differ between ranks only if these follow different videos or are out of step."""
    held = [[(slot.frame, slot.role.value, slot.rank) for slot in group.slots] for group in groups]
    return {
        "the number of the last frame memorised": last,
        "the number of objects": sum(group.objects for group in groups),
        "a digest of the frames in memory": zlib.crc32(repr(held).encode()),
        "a digest of the query key's shape and dtype": zlib.crc32(repr((query_key.shape, query_key.dtype)).encode()),
    }
