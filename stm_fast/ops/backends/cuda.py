"""The read on NVIDIA GPUs without Triton: the CUDA kernels of `csrc/cuda`.

With STM_FAST_EMULATE_CUDA=1 in the environment the kernels are emulated, on CPU tensors, for tests.
"""

import os
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

from stm_fast.ops import compiled
from stm_fast.ops.backends.registry import Call
from stm_fast.ops.operands import Gradients, Operands, empty_gradients, empty_outputs, empty_top_k_outputs

MIN_CAPABILITY = (8, 0)
MAX_BLOCKS = 65535
"""Along the second and third dimension of a grid: batches, channels, rows of values."""
MAX_ITEMS = 2**31 - 2**20
"""Queries, or memory tokens: they are counted in 32 bits."""
MAX_CHOSEN = 128
"""Candidates that a warp keeps for a query, in registers."""


class Machine(NamedTuple):
    """Where kernels are launched.

    Attributes:
        processors: multiprocessors of the GPU.
        shared_bytes: of shared memory that a block may have.
    """

    processors: int
    shared_bytes: int


EMULATED = Machine(processors=2, shared_bytes=163 * 1024)


def emulating() -> bool:
    """Whether kernels are emulated on the CPU."""
    return os.environ.get("STM_FAST_EMULATE_CUDA") == "1"


def device_type() -> str:
    """It reads GPU tensors, or CPU tensors where kernels are emulated."""
    return "cpu" if emulating() else "cuda"


def unavailable(device: torch.device | None = None) -> str | None:
    """Why the kernels cannot run on a GPU, or None; without one, on any of this machine."""
    if emulating():
        return compiled.failure("cuda_emulated")
    if reason := _without_gpu():
        return reason
    if device is not None:
        return _unusable(device)
    reasons = [_unusable(torch.device("cuda", index)) for index in range(torch.cuda.device_count())]
    return reasons[0] if all(reasons) else None


@cache
def _without_gpu() -> str | None:
    if torch.version.hip is not None:
        return "it is for NVIDIA GPUs"
    return None if torch.cuda.is_available() else "torch sees no GPU"


@cache
def _unusable(device: torch.device) -> str | None:
    """Why the kernels do not run on a GPU, or None. The library is had only for a GPU that may run it."""
    capability = torch.cuda.get_device_capability(device)
    if capability < MIN_CAPABILITY:
        least, seen = (".".join(map(str, version)) for version in (MIN_CAPABILITY, capability))
        return f"it needs compute capability {least}; {torch.cuda.get_device_name(device)} has {seen}"
    if reason := compiled.failure("cuda"):
        return reason
    with torch.cuda.device(device):
        return compiled.cuda_unusable()


def supports(call: Call) -> str | None:
    """It serves tensors of any strides, up to the limits of a grid."""
    operands, other = call.operands, call.arguments[0]
    batch, channels, queries = operands.query.shape
    rows = 1 if call.operation == "usage" else other.shape[1] * other.shape[2]
    for name, size, most in (
        ("batches", batch, MAX_BLOCKS),
        ("key channels", channels, MAX_BLOCKS),
        ("value channels of all objects", rows, MAX_BLOCKS),
        ("queries", queries, MAX_ITEMS),
        ("memory tokens", operands.key.shape[2], MAX_ITEMS),
    ):
        if size > most:
            return f"it reads at most {most} {name}, not {size}"
    if call.operation == "top_k_read" and not 1 <= call.arguments[1] <= MAX_CHOSEN:
        return f"it reads the best 1 to {MAX_CHOSEN} tokens, not {call.arguments[1]}"
    return None


def read(operands: Operands, value: Tensor) -> tuple[Tensor, Tensor]:
    """Softmax over all memory tokens; see the reference."""
    out, lse = empty_outputs(operands, value)
    _launch("read", *operands, value, out, lse)
    return out, lse


def read_backward(
    operands: Operands,
    value: Tensor,
    out: Tensor,
    lse: Tensor,
    grad_out: Tensor,
    grad_lse: Tensor,
    query_side: bool,
    key_side: bool,
    value_side: bool,
) -> Gradients:
    """Gradients of `read`; see the reference."""
    gradients = empty_gradients(operands, value, query_side, key_side, value_side)
    upstream = grad_out.to(out.dtype), grad_lse.to(lse.dtype)
    _launch("read_backward", *operands, value, out, lse.contiguous(), *upstream, *gradients)
    return gradients


def usage(operands: Operands, lse: Tensor) -> Tensor:
    """How much each memory token is read; see the reference."""
    result = lse.new_empty(operands.key.shape[0], operands.key.shape[2])
    _launch("usage", *operands, lse.contiguous(), result)
    return result


def top_k_read(operands: Operands, value: Tensor, top_k: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Softmax over the best memory tokens of each query; see the reference."""
    out, lse, indices, weights = empty_top_k_outputs(operands, value, top_k)
    _launch("top_k_read", *operands, value, out, lse, indices, weights)
    return out, lse, indices, weights


def top_k_read_backward(
    operands: Operands,
    value: Tensor,
    out: Tensor,
    indices: Tensor,
    weights: Tensor,
    grad_out: Tensor,
    grad_lse: Tensor,
    query_side: bool,
    key_side: bool,
    value_side: bool,
) -> Gradients:
    """Gradients of `top_k_read` through the chosen tokens; see the reference."""
    gradients = empty_gradients(operands, value, query_side, key_side, value_side)
    upstream = grad_out.to(out.dtype), grad_lse.to(weights.dtype)
    chosen = indices.contiguous(), weights.contiguous()
    nothing = indices.new_empty(0), indices.new_empty(0)
    by_token = _sorted_by_token(indices, operands.key.shape[2]) if key_side or value_side else nothing
    _launch("top_k_read_backward", *operands, value, out, *chosen, *upstream, *gradients, *by_token)
    return gradients


def _sorted_by_token(indices: Tensor, tokens: int) -> tuple[Tensor, Tensor]:
    """Places of choices `(B, Nq, k)` in the order of their tokens `(B, Nq · k)`, and where each token's begin."""
    chosen, order = indices.flatten(1).sort(dim=1, stable=True)
    bounds = torch.arange(tokens + 1, device=indices.device).expand(len(indices), -1).contiguous()
    return order, torch.searchsorted(chosen, bounds)


def _launch(operation: str, query: Tensor, *arguments: Tensor | float | None) -> None:
    """Queue an op on the current stream of the query's device."""
    op = getattr(compiled.ops("cuda"), operation)
    if emulating():
        op(query, *arguments, *EMULATED, 0)
        return
    with torch.cuda.device(query.device):
        op(query, *arguments, *_machine(query.device), torch.cuda.current_stream().cuda_stream)


@cache
def _machine(device: torch.device) -> Machine:
    properties = torch.cuda.get_device_properties(device)
    return Machine(properties.multi_processor_count, properties.shared_memory_per_block_optin)  # type: ignore[attr-defined]
