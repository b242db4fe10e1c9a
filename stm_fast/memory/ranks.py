"""The processes that share a memory, and what they tell one another."""

from collections.abc import Callable

import torch
import torch.distributed as dist
from torch import Tensor


class Ranks:
    """The processes of a `torch.distributed` group, as one of them sees them.

    Args:
        group: a process group of any backend that reduces tensors where the memory lies: gloo for a CPU, nccl for GPUs;
            None for the default group.

    Attributes:
        rank: number of this process in the group, from 0.
        size: number of processes.

    Raises:
        RuntimeError: no process group is initialised, or this torch has none.
        ValueError: the group is one that this process is not in.
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

    def merged(self, value: Tensor, lse: Tensor) -> Tensor:
        """Merges reads of the same queries over all ranks' parts of a memory into the read of the whole, exactly.

        `merge_reads` with its maximum and its sums taken over the group: what travels has the size of one read,
        whatever the number of ranks, and no rank sees another's part.

        Args:
            value: of this rank's part `(O, Cv, *grid)`, float32 or float64; zeros if it has none.
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

    def compared(self, facts: dict[str, int], device: torch.device) -> Callable[[], None]:
        """Begins to compare what must be the same on all ranks.

        Args:
            facts: 64-bit numbers by what they are called in an error; the same names on all ranks.
            device: one that the group reduces on.

        Returns:
            A function that waits for the end of the comparison. It raises a `RuntimeError`, on all ranks alike, if they
            differ in any fact.
        """
        mine = torch.tensor(list(facts.values()), device=device)
        highest = torch.cat([mine, -mine])
        work = dist.all_reduce(highest, dist.ReduceOp.MAX, self._group, async_op=True)

        def finish() -> None:
            work.wait()
            ends = highest.tolist()
            differing = [
                f"{name} (from {-negated} to {most})"
                for name, most, negated in zip(facts, ends[: len(facts)], ends[len(facts) :], strict=True)
                if most != -negated
            ]
            if differing:
                raise RuntimeError(
                    f"all ranks must follow the same video in step; they differ in {', '.join(differing)}"
                )

        return finish
