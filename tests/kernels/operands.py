"""Reads at random."""

import math

import torch
from torch import Tensor

from stm_fast.kernels.operands import Operands


def random_read(sizes: tuple[int, ...], device: torch.device, affine: bool) -> tuple[Operands, Tensor]:
    """Operands and value of float32, of (batch, key channels, queries, tokens, objects, value channels)."""
    batch, channels, queries, tokens, objects, rows = sizes
    random = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=random).to(device)

    query, key, value = (
        normal(batch, channels, queries),
        normal(batch, channels, tokens),
        normal(batch, objects, rows, tokens),
    )
    if not affine:
        return Operands(query, key, None, None, None, 0.3), value
    bias = normal(batch, tokens)
    bias[:, ::5] = -math.inf
    return Operands(query, key, normal(batch, tokens).abs() + 0.5, normal(batch, queries), bias, 0.3), value


def doubled(operands: Operands) -> Operands:
    return Operands(*(part.double() if isinstance(part, Tensor) else part for part in operands))
