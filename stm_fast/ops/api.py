"""The public reads: arguments checked, grids flattened, a backend's result put back on the query's grid."""

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple, overload

import torch
from torch import Tensor

from stm_fast.kernels.operands import Operands, statistics_dtype
from stm_fast.ops import arguments, autograd
from stm_fast.ops import similarity as similarities
from stm_fast.ops.autocast import autocast

Similarity = Literal["dot", "l2"]


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

    The similarity of query q and memory token k is `scale · <q, k>` for "dot" (STM, section 3.2; AOT) and
    −scale · s · Σ_c e_c (k_c − q_c)² for "l2" (STCN, section 4; XMem, section 3.2), with shrinkage s and selection e
    being one unless given. The affinity of queries × memory is never held, in neither pass.

    A grid is (H, W), (T, H, W) or already flat. Tensors may have any strides; a grid whose dimensions can be viewed as
    one, such as in a slice of a larger bank, a transposed or a channels-last tensor, is not copied, any other grid is
    copied once. "l2" with selection makes float32 copies of the keys and of their squares.

    Without selection, "l2" is as accurate as STCN's own formula, `2<q, k> − |k|²`: keys far from the origin lose
    digits. With it, keys and queries are centred first.

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
    reading = read_memory(
        query_key,
        memory_key,
        memory_value,
        similarity=similarity,
        scale=scale,
        shrinkage=shrinkage,
        selection=selection,
        top_k=top_k,
        memory_mask=memory_mask,
        backend=backend,
    )
    if not (return_usage or return_lse):
        return reading.value
    return MemoryReadout(reading.value, reading.usage() if return_usage else None, reading.lse if return_lse else None)


@dataclass(frozen=True)
class Reading:
    """A read, with all that can be asked of it.

    Attributes:
        value: `(B, [O,] Cv, *query_grid)`, of the memory value's dtype.
        lse: `(B, *query_grid)`, log Σ exp of the scores that were read.
        memory_grid: of the usage.
        operands: operands of the scores.
        choice: indices and weights of a top-k read.
        backend: a backend's name or "auto".
    """

    value: Tensor
    lse: Tensor
    memory_grid: torch.Size
    operands: Operands
    choice: tuple[Tensor, Tensor] | None
    backend: str

    def usage(self) -> Tensor:
        """Compute how much each memory token was read, `(B, *memory_grid)`; without gradients."""
        if self.choice is None:
            usage = autograd.usage(self.operands, self.lse.flatten(1), self.backend)
        else:
            usage = autograd.top_k_usage(self.operands, *self.choice)
        return usage.view(usage.shape[0], *self.memory_grid)


def read_memory(
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
    backend: str = "auto",
) -> Reading:
    """Read a space-time memory as `memory_read` does; what it can return besides the value is asked of the result."""
    arguments.check_options(similarity, scale, shrinkage, selection, top_k)
    for name, tensor in (("query_key", query_key), ("memory_key", memory_key), ("memory_value", memory_value)):
        arguments.check_tensor(name, tensor, query_key)
    query_key, memory_key, memory_value = map(autocast, (query_key, memory_key, memory_value))
    arguments.check_main(query_key, memory_key, memory_value)
    batch, query_grid, memory_grid = query_key.shape[0], query_key.shape[2:], memory_key.shape[2:]
    arguments.check_optional("shrinkage", shrinkage, (batch, 1, *memory_grid), memory_key)
    arguments.check_optional("selection", selection, tuple(query_key.shape), memory_key)
    arguments.check_optional("memory_mask", memory_mask, (batch, *memory_grid), memory_key, (torch.bool,))

    mask = None if memory_mask is None else memory_mask.flatten(1)
    operands = _prepare(query_key, memory_key, similarity, scale, shrinkage, selection, mask)
    if mask is not None:
        operands = _masked(operands, mask)
    shared = memory_value.ndim == memory_key.ndim + 1
    value = (memory_value if shared else memory_value.unsqueeze(1)).flatten(3)
    choice = None
    if top_k is None:
        out, lse = autograd.read(operands, value, backend)
    else:
        out, lse, indices, weights = autograd.top_k_read(operands, value, top_k, backend)
        choice = indices, weights
    readout = out.view(batch, *value.shape[1 if shared else 2 : 3], *query_grid)
    return Reading(readout, lse.view(batch, *query_grid), memory_grid, operands, choice, backend)


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
