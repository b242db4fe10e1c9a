"""The read on CPU tensors: the fused kernels of `csrc/cpu`, for the instruction set that is the fastest here.

`STM_FAST_CPU_ISA` forces one of those that `stm-fast doctor` lists.
"""

import torch
from torch import Tensor

from stm_fast.ops import compiled
from stm_fast.ops.backends.registry import Call
from stm_fast.ops.cpu_engines import engine_of
from stm_fast.ops.operands import Gradients, Operands, empty_gradients, empty_outputs, empty_top_k_outputs

MAX_TOKENS = 2**32 - 1


def device_type() -> str:
    """It reads CPU tensors."""
    return "cpu"


def unavailable(device: torch.device | None = None) -> str | None:
    """Why the compiled library cannot be used, or None."""
    return compiled.failure()


def supports(call: Call) -> str | None:
    """It serves all but more tokens than it counts."""
    operands = call.operands
    if call.operation == "top_k_read" and call.arguments[1] < 1:
        return f"it reads at least one token, not {call.arguments[1]}"
    if operands.key.shape[-1] > MAX_TOKENS:
        return f"it reads at most {MAX_TOKENS} memory tokens, not {operands.key.shape[-1]}"
    return None


def read(operands: Operands, value: Tensor) -> tuple[Tensor, Tensor]:
    """Softmax over all memory tokens; see the reference."""
    out, lse = empty_outputs(operands, value)
    compiled.ops().read(*operands, value, out, lse, engine_of("read", operands, value))
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
    engine = engine_of("read_backward", operands, value)
    compiled.ops().read_backward(*operands, value, out, lse, *upstream, *gradients, engine)
    return gradients


def usage(operands: Operands, lse: Tensor) -> Tensor:
    """How much each memory token is read; see the reference."""
    result = lse.new_empty(operands.key.shape[0], operands.key.shape[2])
    compiled.ops().usage(*operands, lse, result, engine_of("usage", operands))
    return result


def top_k_read(operands: Operands, value: Tensor, top_k: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Softmax over the best memory tokens of each query; see the reference."""
    out, lse, indices, weights = empty_top_k_outputs(operands, value, top_k)
    engine = engine_of("top_k_read", operands, value)
    compiled.ops().top_k_read(*operands, value, out, lse, indices, weights, engine)
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
    engine = engine_of("top_k_read_backward", operands, value, top_k=indices.shape[2])
    compiled.ops().top_k_read_backward(*operands, value, out, *chosen, *upstream, *gradients, engine)
    return gradients
