"""Merging reads of parts of a memory into the read of the whole."""

import math
from collections.abc import Iterable

import torch
from torch import Tensor


def merge_reads(reads: Iterable[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Merge dense reads of the same queries over disjoint parts of a memory into the read of the whole, exactly.

    Reads with `top_k` do not merge: each part has its own best tokens. The result can be merged again;
    the order does not matter. Differentiable.

    Args:
        reads: pairs of a value `(B, [O,] Cv, *query_grid)` and a lse `(B, *query_grid)` as `memory_read` returns them.

    Returns:
        Value and lse of the read of the whole memory, of the first pair's shapes and dtypes.

    Raises:
        TypeError: a pair is not two tensors.
        ValueError: there is no pair, or the shapes of pairs differ or do not go together.
    """
    values, lses = _check_reads(reads)
    stacked = torch.stack(lses)
    maximum = stacked.detach().amax(0).clamp_min(torch.finfo(stacked.dtype).min)
    weights = torch.exp(stacked - maximum)
    total = weights.sum(0)
    empty = total == 0
    total = total.masked_fill(empty, 1)
    shares = _over_channels(weights / total, values[0])
    value = sum((share * value for share, value in zip(shares, values, strict=True)), start=torch.zeros_like(shares[0]))
    return value.to(values[0].dtype), (maximum + total.log()).masked_fill(empty, -math.inf)


def _over_channels(weights: Tensor, value: Tensor) -> Tensor:
    """Weights `(n, B, *grid)` with ones for the dimensions that a value `(B, [O,] Cv, *grid)` has beyond them."""
    for _ in range(value.ndim - weights.ndim + 1):
        weights = weights.unsqueeze(2)
    return weights


def _check_reads(reads: Iterable[tuple[Tensor, Tensor]]) -> tuple[list[Tensor], list[Tensor]]:
    pairs = list(reads)
    if not pairs:
        raise ValueError("reads is empty; it needs at least one (value, lse) pair")
    for index, pair in enumerate(pairs):
        if not isinstance(pair, tuple | list) or len(pair) != 2 or not all(isinstance(t, Tensor) for t in pair):
            raise TypeError(f"reads[{index}] is not a pair of tensors (value, lse)")
        value, lse = pair
        first = pairs[0]
        if value.shape != first[0].shape or lse.shape != first[1].shape:
            raise ValueError(
                f"reads[{index}] has shapes {_shape(value)} and {_shape(lse)}; those of reads[0] are "
                f"{_shape(first[0])} and {_shape(first[1])}"
            )
        grid = lse.shape[1:]
        if value.ndim - lse.ndim not in (1, 2) or value.shape[0] != lse.shape[0] or value.shape[-len(grid) :] != grid:
            raise ValueError(
                f"reads[{index}] has a lse of shape {_shape(lse)}, which does not fit the value's {_shape(value)}"
            )
    return [value for value, _ in pairs], [lse for _, lse in pairs]


def _shape(tensor: Tensor) -> tuple[int, ...]:
    return tuple(tensor.shape)
