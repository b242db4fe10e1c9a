"""Cases as calls of the ops with a backend."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from benchmarks.read.cases import Case
from stm_fast.kernels.operands import Operands
from stm_fast.memory.tokens import aligned
from stm_fast.ops.calls import Read, ReadBackward, TopKRead, TopKReadBackward, Usage
from stm_fast.ops.dispatch import run_op


def operands(case: Case, device: torch.device) -> tuple[Operands, Tensor]:
    """Return the operands of a case and its values, with the memory's layout in a bank."""
    query, key, value = case.tensors(device)
    if not (case.packed or case.channels_last):
        key, value = in_bank(key), in_bank(value)
    return Operands(query, key, *case.vectors(device), case.key_channels**-0.5), value


def in_bank(tensor: Tensor) -> Tensor:
    """Copy a tensor to storage with room for a multiple of `TOKEN_ALIGNMENT` tokens per channel."""
    tokens = tensor.shape[-1]
    bank = tensor.new_empty(*tensor.shape[:-1], aligned(tokens))[..., :tokens]
    return bank.copy_(tensor)


def upstream_of(out: Tensor) -> Tensor:
    """Return a seeded gradient of a readout."""
    return torch.randn(out.shape, generator=torch.Generator(out.device).manual_seed(1), device=out.device).to(out)


def launches(
    case: Case, parts: Operands, value: Tensor, backend: str, upstream: Tensor
) -> Callable[[], tuple[Tensor, ...]]:
    """Return a case as a call of a backend that returns all outputs.

    Args:
        case: the operation.
        parts: operands of the scores.
        value: `(1, O, Cv, Nk)`.
        backend: backend to call.
        upstream: gradient of the readout, for a backward pass.
    """
    run = partial(run_op, backend=backend)
    read, best = Read(parts, value), TopKRead(parts, value, case.top_k)
    match case.operation:
        case "read":
            return partial(run, read)
        case "top_k":
            return lambda: run(best)[:2]
        case "usage":
            return partial(run, Usage(parts, run(read).lse))
        case "top_k_backward":
            out, lse, *chosen = run(best)
            backward = TopKReadBackward(parts, value, out, *chosen, upstream, torch.ones_like(lse))
        case _:
            out, lse = run(read)
            backward = ReadBackward(parts, value, out, lse, upstream, torch.ones_like(lse))
    return lambda: tuple(gradient for gradient in run(backward) if gradient is not None)


class Problem:
    """A case with tensors on a device."""

    def __init__(self, case: Case, device: torch.device) -> None:
        self.case, self.device = case, device
        self.parts, self.value = operands(case, device)
        self.upstream = upstream_of(self.value.new_empty(*self.value.shape[:3], case.queries))

    def call(self, backend: str) -> Callable[[], tuple[Tensor, ...]]:
        """Return the case as a call of a backend."""
        return launches(self.case, self.parts, self.value, backend, self.upstream)

    def exact(self) -> tuple[Tensor, ...]:
        """Return the reference's results in float64."""
        wide = Operands(*(part.double() if isinstance(part, Tensor) else part for part in self.parts))
        return launches(self.case, wide, self.value.double(), "reference", self.upstream.double())()
