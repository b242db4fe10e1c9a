"""The public reads: arguments checked, grids flattened, a backend's result put back on the query's grid."""

import math
from collections.abc import Iterable
from typing import Literal, NamedTuple, overload

import torch
from torch import Tensor

from stm_fast.kernels.operands import Operands, statistics_dtype
from stm_fast.ops import autograd
from stm_fast.ops import similarity as similarities
from stm_fast.ops.autocast import autocast_enabled

Similarity = Literal["dot", "l2"]

_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


class MemoryReadout(NamedTuple):
    """What `memory_read` returns when more than the value is asked for. What was not asked for is None.

    Attributes:
        value: `(B, [O,] Cv, *query_grid)`, of the memory value's dtype.
        usage: `(B, *memory_grid)`, how much each memory token was read: its softmax weight summed over the queries.
            Float32 (float64 beside float64 keys), without gradients.
        lse: `(B, *query_grid)`, log Σ exp of the scores that were read, of usage's dtype.
    """

    value: Tensor
    usage: Tensor | None
    lse: Tensor | None


@overload
def memory_read(
    query_key: Tensor,
    memory_key: Tensor,
    memory_value: Tensor,
    *,
    similarity: Similarity = ...,
    scale: float | None = ...,
    shrinkage: Tensor | None = ...,
    selection: Tensor | None = ...,
    top_k: int | None = ...,
    memory_mask: Tensor | None = ...,
    return_usage: Literal[False] = ...,
    return_lse: Literal[False] = ...,
    backend: str = ...,
) -> Tensor: ...


@overload
def memory_read(
    query_key: Tensor,
    memory_key: Tensor,
    memory_value: Tensor,
    *,
    similarity: Similarity = ...,
    scale: float | None = ...,
    shrinkage: Tensor | None = ...,
    selection: Tensor | None = ...,
    top_k: int | None = ...,
    memory_mask: Tensor | None = ...,
    return_usage: bool = ...,
    return_lse: bool = ...,
    backend: str = ...,
) -> MemoryReadout: ...


def memory_read(
    query_key: Tensor,
    memory_key: Tensor,
    memory_value: Tensor,
    *,
    similarity: Similarity = "dot",
    scale: float | None = None,
    shrinkage: Tensor | None = None,
    selection: Tensor | None = None,
    top_k: int | None = None,
    memory_mask: Tensor | None = None,
    return_usage: bool = False,
    return_lse: bool = False,
    backend: str = "auto",
) -> Tensor | MemoryReadout:
    """Read a space-time memory: for each query a softmax over memory tokens and the weighted sum of their values.

    The similarity of query q and memory token k is scale·<q, k> for "dot" (STM, section 3.3; AOT) and
    −scale · s · Σ_c e_c (k_c − q_c)² for "l2" (STCN, section 3.3; XMem, section 3.4), with shrinkage s and selection e
    being one unless given. The affinity of queries × memory is never held, in neither pass.

    A grid is (H, W), (T, H, W) or already flat. Tensors may have any strides; a grid whose dimensions can be viewed as
    one, such as in a slice of a larger bank, a transposed or a channels-last tensor, is not copied, any other grid is
    copied once. "l2" with selection makes float32 copies of the keys and of their squares.

    Without selection, "l2" is as accurate as STCN's own formula, 2<q, k> − |k|²: keys far from the origin lose digits.
    With it, keys and queries are centred first.

    Masked tokens must still have finite keys, values and products with the queries. NaN in, NaN out.

    Inside an autocast region keys and values are cast to its dtype, as for a matrix product (float64 is left alone).
    Scores, softmax statistics and accumulation are float32 in any case.

    Gradients reach query_key, memory_key, memory_value, shrinkage and selection, through value and lse. There are no
    second derivatives.

    Args:
        query_key: `(B, Ck, *query_grid)`; float16, bfloat16, float32 or float64.
        memory_key: `(B, Ck, *memory_grid)`, of the query key's dtype.
        memory_value: `(B, Cv, *memory_grid)`, or `(B, O, Cv, *memory_grid)` where O objects share one affinity. Of any
            of the dtypes; float64 goes with float64 only.
        similarity: "dot" or "l2".
        scale: factor of the similarity; 1/√Ck by default.
        shrinkage: `(B, 1, *memory_grid)`, for "l2".
        selection: `(B, Ck, *query_grid)`, for "l2".
        top_k: read only the best tokens of each query (fewer if the memory is smaller; of equal ones those of lower
            index). None reads all.
        memory_mask: `(B, *memory_grid)` bool, True where a token takes part. A query that is left no token reads zeros
            and has lse −inf.
        return_usage: also return how much each token was read.
        return_lse: also return the log-sum-exp of the scores, for `merge_reads`.
        backend: "auto" for the fastest that serves the call, or a name; a named one never falls back to another. Under
            "auto" a RuntimeWarning tells once of a kernel that fails, and of what leaves a call to the reference.

    Returns:
        The readout `(B, [O,] Cv, *query_grid)` of the memory value's dtype, or with a `return_` flag a `MemoryReadout`.

    Raises:
        TypeError: an argument is of a type or dtype that is not allowed.
        ValueError: an argument has a shape, device or value that is not allowed.
        BackendUnavailableError: the named backend cannot serve the call.
    """
    _check_options(similarity, scale, shrinkage, selection, top_k)
    for name, tensor in (("query_key", query_key), ("memory_key", memory_key), ("memory_value", memory_value)):
        _check_tensor(name, tensor, query_key)
    query_key, memory_key, memory_value = map(_autocast, (query_key, memory_key, memory_value))
    _check_main(query_key, memory_key, memory_value)
    batch, query_grid, memory_grid = query_key.shape[0], query_key.shape[2:], memory_key.shape[2:]
    _check_optional("shrinkage", shrinkage, (batch, 1, *memory_grid), memory_key)
    _check_optional("selection", selection, tuple(query_key.shape), memory_key)
    _check_optional("memory_mask", memory_mask, (batch, *memory_grid), memory_key, (torch.bool,))

    mask = None if memory_mask is None else memory_mask.flatten(1)
    operands = _prepare(query_key, memory_key, similarity, scale, shrinkage, selection, mask)
    if mask is not None:
        operands = _masked(operands, mask)
    shared = memory_value.ndim == memory_key.ndim + 1
    value = (memory_value if shared else memory_value.unsqueeze(1)).flatten(3)
    if top_k is None:
        out, lse = autograd.read(operands, value, backend)
        usage = autograd.usage(operands, lse, backend) if return_usage else None
    else:
        # Symbolic sizes would turn the smaller of the two into a guard; the op copes with more than there is.
        chosen = top_k if torch.compiler.is_compiling() else min(top_k, value.shape[3])
        out, lse, indices, weights = autograd.top_k_read(operands, value, chosen, backend)
        usage = _top_k_usage(operands, indices, weights) if return_usage else None

    readout = out.view(batch, *value.shape[1 if shared else 2 : 3], *query_grid)
    if not (return_usage or return_lse):
        return readout
    return MemoryReadout(
        readout,
        None if usage is None else usage.view(batch, *memory_grid),
        lse.view(batch, *query_grid) if return_lse else None,
    )


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


def _autocast(tensor: Tensor) -> Tensor:
    """Inside an autocast region, the tensor in its dtype, as it has it for a matrix product."""
    device = tensor.device.type
    if tensor.dtype == torch.float64 or not autocast_enabled(device):
        return tensor
    return tensor.to(torch.get_autocast_dtype(device))


def _prepare(
    query_key: Tensor,
    memory_key: Tensor,
    similarity: Similarity,
    scale: float | None,
    shrinkage: Tensor | None,
    selection: Tensor | None,
    mask: Tensor | None,
) -> Operands:
    factor = query_key.shape[1] ** -0.5 if scale is None else float(scale)
    query, key = query_key.flatten(2), memory_key.flatten(2)
    if similarity == "dot":
        return similarities.dot(query, key, factor)
    return similarities.l2(
        query,
        key,
        factor,
        None if shrinkage is None else shrinkage.flatten(2),
        None if selection is None else selection.flatten(2),
        mask,
    )


def _masked(operands: Operands, mask: Tensor) -> Operands:
    bias = operands.bias
    if bias is None:
        bias = torch.zeros(mask.shape, dtype=statistics_dtype(operands.key), device=mask.device)
    return operands._replace(bias=bias.masked_fill(~mask, -math.inf))


def _top_k_usage(operands: Operands, indices: Tensor, weights: Tensor) -> Tensor:
    batch, tokens = operands.key.shape[0], operands.key.shape[2]
    usage = weights.new_zeros(batch, tokens)
    if usage.device.type == "cpu":
        return usage.scatter_add_(1, indices.flatten(1), weights.flatten(1))
    # On a GPU `scatter_add_` adds in any order. This sorts first, and so makes the same bits every time.
    first = tokens * torch.arange(batch, device=indices.device)[:, None, None]
    return usage.view(-1).index_put_(((indices + first).flatten(),), weights.flatten(), accumulate=True).view_as(usage)


def _check_options(similarity: object, scale: object, shrinkage: object, selection: object, top_k: object) -> None:
    if similarity not in ("dot", "l2"):
        raise ValueError(f"similarity is {similarity!r}; allowed are 'dot' and 'l2'")
    if similarity == "dot":
        for name, tensor in (("shrinkage", shrinkage), ("selection", selection)):
            if tensor is not None:
                raise ValueError(f"{name} is given with similarity 'dot'; it goes with 'l2' only")
    if scale is not None:
        if isinstance(scale, bool) or not isinstance(scale, (int, float)):
            raise TypeError(f"scale is a {type(scale).__name__}; allowed are a number and None")
        if not math.isfinite(scale):
            raise ValueError(f"scale is {scale}; allowed are finite numbers")
    if top_k is not None:
        if isinstance(top_k, bool) or not isinstance(top_k, (int, torch.SymInt)):
            raise TypeError(f"top_k is a {type(top_k).__name__}; allowed are an int and None")
        if top_k < 1:
            raise ValueError(f"top_k is {top_k}; allowed are 1 and more")


def _check_tensor(name: str, tensor: object, beside: object, dtypes: tuple[torch.dtype, ...] = _DTYPES) -> None:
    if not isinstance(tensor, Tensor):
        raise TypeError(f"{name} is a {type(tensor).__name__}; allowed is a torch.Tensor")
    if tensor.dtype not in dtypes:
        raise TypeError(f"{name} is {tensor.dtype}; allowed are {', '.join(map(str, dtypes))}")
    if isinstance(beside, Tensor) and tensor.device != beside.device:
        raise ValueError(f"{name} is on {tensor.device}; allowed is {beside.device}, where query_key is")


def _check_main(query_key: Tensor, memory_key: Tensor, memory_value: Tensor) -> None:
    if query_key.dtype != memory_key.dtype:
        raise TypeError(f"memory_key is {memory_key.dtype}; allowed is {query_key.dtype}, the dtype of query_key")
    if (memory_value.dtype == torch.float64) != (memory_key.dtype == torch.float64):
        raise TypeError(
            f"memory_value is {memory_value.dtype}, the keys are {memory_key.dtype}; float64 goes with itself"
        )
    for name, tensor in (("query_key", query_key), ("memory_key", memory_key)):
        if tensor.ndim < 3:
            raise ValueError(f"{name} has shape {_shape(tensor)}; allowed is (B, Ck, *grid)")
    batch, channels, *_ = query_key.shape
    grid = memory_key.shape[2:]
    if channels == 0:
        raise ValueError(f"query_key has shape {_shape(query_key)}; it needs at least one channel")
    if memory_key.shape[:2] != query_key.shape[:2]:
        raise ValueError(
            f"memory_key has shape {_shape(memory_key)}; allowed is ({batch}, {channels}, *grid), "
            "the batch and channels of query_key"
        )
    if 0 in grid:
        raise ValueError(f"memory_key has shape {_shape(memory_key)}; its grid needs at least one token")
    leading = memory_value.ndim - len(grid)
    if leading not in (2, 3) or memory_value.shape[0] != batch or memory_value.shape[leading:] != grid:
        wanted = ", ".join(map(str, grid))
        raise ValueError(
            f"memory_value has shape {_shape(memory_value)}; allowed are ({batch}, Cv, {wanted}) and "
            f"({batch}, O, Cv, {wanted}), on the grid of memory_key"
        )


def _check_optional(
    name: str,
    tensor: Tensor | None,
    shape: tuple[int, ...],
    beside: Tensor,
    dtypes: tuple[torch.dtype, ...] = _DTYPES,
) -> None:
    if tensor is None:
        return
    _check_tensor(name, tensor, beside, dtypes)
    if tensor.shape != torch.Size(shape):
        raise ValueError(f"{name} has shape {_shape(tensor)}; allowed is {tuple(shape)}")


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
