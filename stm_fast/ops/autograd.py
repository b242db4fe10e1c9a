"""Reads as differentiable functions: a forward op and its backward op tied together.

Saved are the inputs, the outputs and, for top-k, the chosen tokens with their weights; the softmax is computed again in
the backward pass. Nothing of size queries × memory outlives an op.
"""

from typing import Any

import torch
from torch import Tensor

from stm_fast.kernels.operands import Operands

_OPS = torch.ops.stm_fast


class _Read(torch.autograd.Function):
    @staticmethod
    def forward(
        query: Tensor,
        key: Tensor,
        gain: Tensor | None,
        offset: Tensor | None,
        bias: Tensor | None,
        scale: float,
        value: Tensor,
        backend: str,
    ) -> tuple[Tensor, Tensor]:
        out, lse = _OPS.read(query, key, gain, offset, bias, scale, value, backend)
        return out, lse

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        *tensors, ctx.scale, value, ctx.backend = inputs
        ctx.save_for_backward(*tensors, value, *output)

    @staticmethod
    def backward(ctx: Any, grad_out: Tensor, grad_lse: Tensor) -> tuple[Tensor | None, ...]:
        *tensors, value, out, lse = ctx.saved_tensors
        wanted = _wanted(ctx.needs_input_grad)
        gradients = _OPS.read_backward(*tensors, ctx.scale, value, out, lse, grad_out, grad_lse, wanted, ctx.backend)
        return _returned(gradients, ctx.needs_input_grad)


class _TopKRead(torch.autograd.Function):
    @staticmethod
    def forward(
        query: Tensor,
        key: Tensor,
        gain: Tensor | None,
        offset: Tensor | None,
        bias: Tensor | None,
        scale: float,
        value: Tensor,
        top_k: int,
        backend: str,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        out, lse, indices, weights = _OPS.top_k_read(query, key, gain, offset, bias, scale, value, top_k, backend)
        return out, lse, indices, weights

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        *tensors, ctx.scale, value, _, ctx.backend = inputs
        out, _, indices, weights = output
        ctx.mark_non_differentiable(indices, weights)
        ctx.save_for_backward(*tensors, value, out, indices, weights)

    @staticmethod
    def backward(ctx: Any, grad_out: Tensor, grad_lse: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        *tensors, value, out, indices, weights = ctx.saved_tensors
        wanted = _wanted(ctx.needs_input_grad)
        gradients = _OPS.top_k_read_backward(
            *tensors, ctx.scale, value, out, indices, weights, grad_out, grad_lse, wanted, ctx.backend
        )
        return *_returned(gradients, ctx.needs_input_grad), None


def read(operands: Operands, value: Tensor, backend: str) -> tuple[Tensor, Tensor]:
    """Differentiable softmax read over all memory tokens.

    Args:
        operands: operands of the scores.
        value: `(B, O, Cv, Nk)`.
        backend: a backend's name or "auto".

    Returns:
        out `(B, O, Cv, Nq)` of the value's dtype, lse `(B, Nq)` of the statistics' dtype.
    """
    out, lse = _Read.apply(*operands, value, backend)  # type: ignore[no-untyped-call]
    return out, lse


def top_k_read(operands: Operands, value: Tensor, top_k: int, backend: str) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Softmax read over the `top_k` best memory tokens of each query, differentiable through the chosen ones.

    Args:
        operands: operands of the scores.
        value: `(B, O, Cv, Nk)`.
        top_k: number of tokens, at least 1.
        backend: a backend's name or "auto".

    Returns:
        out and lse as from `read`; indices `(B, Nq, top_k)` int64 and weights `(B, Nq, top_k)`, without gradients.
    """
    out, lse, indices, weights = _TopKRead.apply(*operands, value, top_k, backend)  # type: ignore[no-untyped-call]
    return out, lse, indices, weights


def _wanted(needed: tuple[bool, ...]) -> list[bool]:
    """Return `stm_fast.ops.calls.Wanted` as the op takes it."""
    query, key, gain, offset, bias, _, value, *_ = needed
    return [query or offset, key or gain or bias, value]


def _returned(gradients: tuple[Tensor, ...], needed: tuple[bool, ...]) -> tuple[Tensor | None, ...]:
    """The gradients as `backward` returns them: for each operand, scale, value and backend, None where not needed."""
    *operands, value = (grad if need else None for grad, need in zip(gradients, (*needed[:5], needed[6]), strict=True))
    return *operands, None, value, None


def usage(operands: Operands, lse: Tensor, backend: str) -> Tensor:
    """How much each memory token is read, `(B, Nk)` of lse's dtype, from a second pass; without gradients."""
    *tensors, scale = (part.detach() if isinstance(part, Tensor) else part for part in operands)
    result: Tensor = _OPS.usage(*tensors, scale, lse.detach(), backend)
    return result
