"""What a memory read is made of once its similarity is prepared: the one formula that every backend implements.

S[i, j] = gain[j] · (scale · <query[i], key[j]> + offset[i]) + bias[j]        i: query, j: memory token
P = softmax of S over j
out[i] = Σ_j P[i, j] · value[j]        lse[i] = log Σ_j exp S[i, j]

The same structs in C++ are in csrc/include/stm_fast/read.h. Nothing here imports triton.
"""

from typing import NamedTuple

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


class Wanted(NamedTuple):
    """Which gradients are wanted: of query and offset; of key, gain and bias; of value."""

    query: bool
    key: bool
    value: bool


class Gradients(NamedTuple):
    """Gradients of the operands and of the value, contiguous; None if not wanted, or where an operand is None."""

    query: Tensor | None
    key: Tensor | None
    gain: Tensor | None
    offset: Tensor | None
    bias: Tensor | None
    value: Tensor | None

    @property
    def wanted(self) -> Wanted:
        """Which gradients there is room for."""
        return Wanted(self.query is not None, self.key is not None, self.value is not None)


def statistics_dtype(key: Tensor) -> torch.dtype:
    """Return the dtype of scores, softmax statistics and lse: float32, or float64 beside float64 keys."""
    return torch.float64 if key.dtype == torch.float64 else torch.float32
