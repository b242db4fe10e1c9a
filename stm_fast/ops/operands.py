"""What a memory read is made of once its similarity is prepared: the one formula that every backend implements.

S[i, j] = gain[j] · (scale · <query[i], key[j]> + offset[i]) + bias[j]        i: query, j: memory token
P = softmax of S over j
out[i] = Σ_j P[i, j] · value[j]        lse[i] = log Σ_j exp S[i, j]
"""

from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor


class Operands(NamedTuple):
    """The operands of the scores S. Strides are free.

    Attributes:
        query: `(B, C, Nq)`; float16, bfloat16, float32 or float64.
        key: `(B, C, Nk)`, of the query's dtype.
        gain: `(B, Nk)` or None for ones, of dtype `statistics_dtype(key)`.
        offset: `(B, Nq)` or None for zeros, of the same dtype.
        bias: `(B, Nk)` or None for zeros, of the same dtype. −inf keeps a token out of the read.
        scale: a finite number.
    """

    query: Tensor
    key: Tensor
    gain: Tensor | None
    offset: Tensor | None
    bias: Tensor | None
    scale: float


Gradients: TypeAlias = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]
"""Gradients of query, key, gain, offset, bias and value; an empty tensor where there is none."""


def statistics_dtype(key: Tensor) -> torch.dtype:
    """The dtype of scores, softmax statistics and lse: float32, or float64 beside float64 keys."""
    return torch.float64 if key.dtype == torch.float64 else torch.float32


def empty_outputs(operands: Operands, value: Tensor) -> tuple[Tensor, Tensor]:
    """Room for the outputs of a read: out `(B, O, Cv, Nq)` of the value's dtype and lse `(B, Nq)`."""
    batch, _, queries = operands.query.shape
    out = value.new_empty(*value.shape[:3], queries)
    return out, value.new_empty(batch, queries, dtype=statistics_dtype(operands.key))


def empty_top_k_outputs(operands: Operands, value: Tensor, top_k: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Room for out, lse, indices `(B, Nq, k)` int64 and weights `(B, Nq, k)` of a read of the best tokens."""
    out, lse = empty_outputs(operands, value)
    return out, lse, lse.new_empty(*lse.shape, top_k, dtype=torch.int64), lse.new_empty(*lse.shape, top_k)


def empty_gradients(operands: Operands, value: Tensor, query_side: bool, key_side: bool, value_side: bool) -> Gradients:
    """Room for the gradients that are wanted: those of query and offset, of key, gain and bias, of value."""

    def like(tensor: Tensor | None, wanted: bool) -> Tensor:
        return value.new_empty(0) if tensor is None or not wanted else tensor.new_empty(tensor.shape)

    return (
        like(operands.query, query_side),
        like(operands.key, key_side),
        like(operands.gain, key_side),
        like(operands.offset, query_side),
        like(operands.bias, key_side),
        like(value, value_side),
    )
