"""Gradients of the ops: what a forward op saves, and how its backward op is called.

Saved are the inputs and the outputs; a top-k read saves the chosen tokens with their weights instead of lse. The
backward pass computes the softmax again, so nothing of size queries × memory outlives an op. The formulas belong to the
ops themselves: gradients also flow through exported programs. There are first derivatives only.
"""

from typing import Any

import torch
from torch import Tensor, library

from stm_fast.kernels.operands import Operands
from stm_fast.ops.schemas import LIBRARY

_OPS = torch.ops.stm_fast
_NUM_TENSORS = 5
"""Operands that are tensors; the scale and the value follow."""


def _save_read(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    *tensors, scale, value, backend = inputs
    ctx.scale, ctx.backend = scale, backend
    ctx.save_for_backward(*tensors, value, *output)


def _read_backward(ctx: Any, grad_out: Tensor, grad_lse: Tensor) -> tuple[Tensor | None, ...]:
    *tensors, value, out, lse = ctx.saved_tensors
    wanted = _wanted(ctx.needs_input_grad)
    gradients = _OPS.read_backward(*tensors, ctx.scale, value, out, lse, grad_out, grad_lse, wanted, ctx.backend)
    return _in_order_of_inputs(gradients, ctx.needs_input_grad)


def _save_top_k_read(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *tensors, scale, value, _, backend = inputs
    ctx.scale, ctx.backend = scale, backend
    out, _, indices, weights = output
    ctx.mark_non_differentiable(indices, weights)
    ctx.save_for_backward(*tensors, value, out, indices, weights)


def _top_k_read_backward(ctx: Any, grad_out: Tensor, grad_lse: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
    *tensors, value, out, indices, weights = ctx.saved_tensors
    wanted = _wanted(ctx.needs_input_grad)
    gradients = _OPS.top_k_read_backward(
        *tensors, ctx.scale, value, out, indices, weights, grad_out, grad_lse, wanted, ctx.backend
    )
    return _in_order_of_inputs(gradients, ctx.needs_input_grad)


library.register_autograd("stm_fast::read", _read_backward, setup_context=_save_read, lib=LIBRARY)
library.register_autograd("stm_fast::top_k_read", _top_k_read_backward, setup_context=_save_top_k_read, lib=LIBRARY)


def read(operands: Operands, value: Tensor, backend: str) -> tuple[Tensor, Tensor]:
    """Read all memory tokens by softmax, differentiably.

    Args:
        operands: operands of the scores.
        value: `(B, O, Cv, Nk)`.
        backend: a backend's name or "auto".

    Returns:
        out `(B, O, Cv, Nq)` of the value's dtype, lse `(B, Nq)` of the statistics' dtype.
    """
    out, lse = _OPS.read(*operands, value, backend)
    return out, lse


def top_k_read(operands: Operands, value: Tensor, top_k: int, backend: str) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Read the best memory tokens of each query by softmax, differentiably through the chosen ones.

    Args:
        operands: operands of the scores.
        value: `(B, O, Cv, Nk)`.
        top_k: number of tokens, at least 1; a memory with fewer is read whole.
        backend: a backend's name or "auto".

    Returns:
        out and lse as from `read`; indices `(B, Nq, k)` int64 and weights `(B, Nq, k)`, without gradients.
    """
    out, lse, indices, weights = _OPS.top_k_read(*operands, value, top_k, backend)
    return out, lse, indices, weights


def usage(operands: Operands, lse: Tensor, backend: str) -> Tensor:
    """Compute how much each memory token is read, `(B, Nk)` of lse's dtype, in a second pass; without gradients."""
    *tensors, scale = (part.detach() if isinstance(part, Tensor) else part for part in operands)
    result: Tensor = _OPS.usage(*tensors, scale, lse.detach(), backend)
    return result


def top_k_usage(operands: Operands, indices: Tensor, weights: Tensor) -> Tensor:
    """Sum the weights of a top-k read by token, `(B, Nk)`; the same bits every time."""
    result: Tensor = _OPS.top_k_usage(indices, weights.detach(), operands.key.shape[2])
    return result


def _wanted(needed: tuple[bool, ...]) -> list[bool]:
    """Return `stm_fast.kernels.operands.Wanted` as an op takes it."""
    query, key, gain, offset, bias, _, value, *_ = needed
    return [query or offset, key or gain or bias, value]


def _in_order_of_inputs(gradients: tuple[Tensor, ...], needed: tuple[bool, ...]) -> tuple[Tensor | None, ...]:
    """Return a gradient for each input of a forward op; None for those that are not needed or no tensors."""
    *operands, value = gradients
    found: list[Tensor | None] = [*operands, None, value, *(None for _ in needed[_NUM_TENSORS + 2 :])]
    return tuple(gradient if need else None for gradient, need in zip(found, needed, strict=True))
