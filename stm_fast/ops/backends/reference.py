"""The read in plain torch, on every device: an online softmax over tiles of the scores.

Two more channels carry the affine part of the scores, so that a tile of them is one matrix product:

    S = rows · columns        rows = [scale · query, offset, 1]        columns = [gain · key; gain; bias]

and the products of the backward pass hold the gradients of gain, offset and bias as well. At any time a few tiles of
scores are alive, whatever the numbers of queries and memory tokens are.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import hardshrink

from stm_fast.ops.backends.registry import Call
from stm_fast.ops.operands import Gradients, Operands, empty_gradients, empty_outputs, statistics_dtype

CPU_TILE_SCORES = 1 << 19
"""Scores in a tile: 2 MB, which stay in a second-level cache while the softmax passes over them."""
GPU_TILE_SCORES = 1 << 24
TILE_QUERIES = 2048
TOP_K_TILE_QUERIES = 64
"""Few, for long rows: torch selects from those several times faster."""
TILE_TOKENS = 256
"""The least, so that the matrix products stay efficient."""
GATHERED_VALUES = 1 << 21
"""Values gathered at a time for top-k."""
NEGLIGIBLE = 1e-20
"""A softmax weight taken for zero. 10⁵ of them change a sum by 1e-15: nothing in float32, last bits in float64."""


def device_type() -> None:
    """It reads tensors on every device, of every floating dtype."""


def unavailable(device: torch.device | None = None) -> str | None:
    """Torch is all it needs."""
    return None


def supports(call: Call) -> str | None:
    """It serves every call."""
    return None


def read(operands: Operands, value: Tensor) -> tuple[Tensor, Tensor]:
    """Softmax over all memory tokens.

    Args:
        operands: operands of the scores.
        value: `(B, O, Cv, Nk)`, floating point.

    Returns:
        out `(B, O, Cv, Nq)` of the value's dtype and lse `(B, Nq)` of the statistics' dtype. A query without tokens has
        zeros and −inf.
    """
    batches, queries, tokens = _tiles(operands, TILE_QUERIES)
    out, lse = empty_outputs(operands, value)
    for batch in batches:
        part, part_value = _part(operands, batch), value[batch]
        for query in queries:
            readout, lse[batch, query] = _read_rows(_rows(part, query), part, part_value, tokens)
            out[batch, ..., query] = readout.view_as(out[batch, ..., query])
    return out, lse


def _read_rows(rows: Tensor, operands: Operands, value: Tensor, tokens: list[slice]) -> tuple[Tensor, Tensor]:
    """Readout `(B, O·Cv, n)` and lse `(B, n)` of rows `(B, n, C)`."""
    batch, count, _ = rows.shape
    maximum = rows.new_full((batch, count, 1), torch.finfo(rows.dtype).min)
    total = rows.new_zeros(batch, count, 1)
    readout = rows.new_zeros(batch, value.shape[1] * value.shape[2], count)
    for token in tokens:
        scores = rows @ _columns(operands, token)
        # Finite from the start: a row of −inf scores less its maximum must be −inf, not NaN.
        previous, maximum = maximum, torch.maximum(maximum, scores.amax(-1, keepdim=True))
        weights = _exponential(scores.sub_(maximum))
        decay = _exponential(previous - maximum)
        total = total * decay + weights.sum(-1, keepdim=True)
        readout.mul_(decay.mT).baddbmm_(_channels(value[..., token], rows.dtype), weights.mT)
    readout.div_(total.masked_fill(total == 0, 1).mT)
    return readout, (maximum + total.log()).squeeze(-1)


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
    """Gradients of `read`.

    Args:
        operands: operands of the scores.
        value: `(B, O, Cv, Nk)`.
        out: what `read` returned.
        lse: what `read` returned.
        grad_out: gradient of out.
        grad_lse: gradient of lse.
        query_side: whether the gradients of query and offset are wanted.
        key_side: whether those of key, gain and bias are.
        value_side: whether that of value is.

    Returns:
        Gradients of query, key, gain, offset, bias and value with the shapes and dtypes of these; an empty tensor for
        one that is not wanted or whose operand is None.
    """

    def weights(batch: slice, query: slice, token: slice, rows: Tensor, columns: Tensor) -> Tensor:
        return _weights(rows, columns, lse[batch, query])

    return _gradients(operands, value, out, grad_out, grad_lse, (query_side, key_side, value_side), weights)


def usage(operands: Operands, lse: Tensor) -> Tensor:
    """How much each memory token is read: its softmax weight, summed over the queries.

    Args:
        operands: operands of the scores.
        lse: what `read` returned.

    Returns:
        `(B, Nk)` of lse's dtype.
    """
    batches, queries, tokens = _tiles(operands, TILE_QUERIES)
    result = lse.new_zeros(operands.key.shape[0], operands.key.shape[2])
    for batch in batches:
        part = _part(operands, batch)
        for query in queries:
            rows = _rows(part, query)
            for token in tokens:
                result[batch, token] += _weights(rows, _columns(part, token), lse[batch, query]).sum(1)
    return result


def top_k_read(operands: Operands, value: Tensor, top_k: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Softmax over the best memory tokens of each query; of equal ones the lower index is better.

    Args:
        operands: operands of the scores.
        value: `(B, O, Cv, Nk)`.
        top_k: number of tokens, at least 1.

    Returns:
        out and lse as from `read`, indices `(B, Nq, top_k)` int64 and weights `(B, Nq, top_k)` of lse's dtype. Places
        that a small memory leaves free have index 0 and weight 0.
    """
    batches, queries, tokens = _tiles(operands, TOP_K_TILE_QUERIES)
    out, lse = empty_outputs(operands, value)
    indices = lse.new_zeros(*lse.shape, top_k, dtype=torch.int64)
    weights = lse.new_zeros(*lse.shape, top_k)
    chosen = min(top_k, value.shape[-1])
    for batch in batches:
        part, part_value = _part(operands, batch), value[batch]
        for query in queries:
            scores, best = _best(_rows(part, query), part, tokens, chosen)
            maximum = scores.amax(-1, keepdim=True).clamp_min(torch.finfo(scores.dtype).min)
            scores = _exponential(scores.sub_(maximum))
            total = scores.sum(-1, keepdim=True)
            lse[batch, query] = (maximum + total.log()).squeeze(-1)
            scores.div_(total.masked_fill(total == 0, 1))
            indices[batch, query, :chosen], weights[batch, query, :chosen] = best, scores
            out[batch, ..., query] = _gather(part_value, best, scores)
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
    """Gradients of `top_k_read` through the chosen tokens; `indices` and `weights` are its own, the rest as above."""

    def scattered(batch: slice, query: slice, token: slice, rows: Tensor, columns: Tensor) -> Tensor:
        place, weight, size = indices[batch, query] - token.start, weights[batch, query], columns.shape[2]
        inside = (place >= 0) & (place < size) & (weight != 0)
        # One more column takes what is not of this tile.
        tile = rows.new_zeros(rows.shape[0], rows.shape[1], size + 1)
        return tile.scatter_(-1, place.where(inside, size), weight)[..., :size]

    return _gradients(operands, value, out, grad_out, grad_lse, (query_side, key_side, value_side), scattered)


def _tiles(operands: Operands, max_queries: int) -> tuple[list[slice], list[slice], list[slice]]:
    """Slices of batch, queries and memory tokens whose products are tiles of bounded size."""
    batch, _, queries = operands.query.shape
    tokens = operands.key.shape[-1]
    scores = CPU_TILE_SCORES if operands.query.device.type == "cpu" else GPU_TILE_SCORES
    query_step = max(1, min(queries, max_queries))
    token_step = min(tokens, max(TILE_TOKENS, scores // query_step))
    batch_step = max(1, scores // (query_step * token_step))
    return _slices(batch, batch_step), _slices(queries, query_step), _slices(tokens, token_step)


def _slices(length: int, step: int) -> list[slice]:
    return [slice(start, min(start + step, length)) for start in range(0, length, step)]


def _part(operands: Operands, batch: slice) -> Operands:
    query, key, gain, offset, bias, scale = operands
    return Operands(
        query[batch],
        key[batch],
        None if gain is None else gain[batch],
        None if offset is None else offset[batch],
        None if bias is None else bias[batch],
        scale,
    )


def _rows(operands: Operands, query: slice) -> Tensor:
    """The queries' factor of the scores, `(B, n, C + up to 2)`."""
    channels = operands.query[..., query].to(statistics_dtype(operands.key)) * operands.scale
    parts = [channels]
    if operands.offset is not None:
        parts.append(operands.offset[:, None, query])
    if operands.bias is not None:
        parts.append(torch.ones_like(channels[:, :1]))
    return torch.cat(parts, 1).mT


def _columns(operands: Operands, token: slice) -> Tensor:
    """The memory's factor of the scores, `(B, C + up to 2, n)`."""
    channels = operands.key[..., token].to(statistics_dtype(operands.key))
    gain = None if operands.gain is None else operands.gain[:, None, token]
    parts = [channels if gain is None else channels * gain]
    if operands.offset is not None:
        parts.append(torch.ones_like(channels[:, :1]) if gain is None else gain)
    if operands.bias is not None:
        parts.append(operands.bias[:, None, token])
    return parts[0] if len(parts) == 1 else torch.cat(parts, 1)


def _channels(value: Tensor, dtype: torch.dtype) -> Tensor:
    """Values or readouts `(B, O, Cv, n)` of all objects as channels `(B, O·Cv, n)`."""
    return value.flatten(1, 2).to(dtype)


def _weights(rows: Tensor, columns: Tensor, lse: Tensor) -> Tensor:
    """A tile of the softmax, `(B, n, m)`; zeros where lse is −inf."""
    finite = lse.clamp_min(torch.finfo(lse.dtype).min)
    return _exponential((rows @ columns).sub_(finite[..., None]))


def _exponential(x: Tensor) -> Tensor:
    """exp(x), exactly zero where it is negligible beside one; overwrites x.

    A trained network's softmax is sharp: most weights would be subnormal numbers, or make subnormal products, and a CPU
    computes with those tens of times slower. The clamp spares `exp` from making them.
    """
    return hardshrink(x.clamp_min_(math.log(NEGLIGIBLE) - 1).exp_(), NEGLIGIBLE)


def _gradients(
    operands: Operands,
    value: Tensor,
    out: Tensor,
    grad_out: Tensor,
    grad_lse: Tensor,
    wanted: tuple[bool, bool, bool],
    weights: Callable[[slice, slice, slice, Tensor, Tensor], Tensor],
) -> Gradients:
    """Gradients of a read whose softmax comes tile by tile from `weights(batch, query, token, rows, columns)`."""
    query_side, key_side, value_side = wanted
    gradients = empty_gradients(operands, value, *wanted)
    batches, queries, tokens = _tiles(operands, TILE_QUERIES)
    for batch in batches:
        part = _part(operands, batch)
        rows = _rows(part, slice(None))
        grad = _channels(grad_out[batch], rows.dtype)
        delta = (grad * _channels(out[batch], rows.dtype)).sum(1) - grad_lse[batch]
        rows_grad = torch.zeros_like(rows)
        columns_grad = rows.new_zeros(rows.shape[0], rows.shape[2], value.shape[3] if key_side else 0)
        value_grad = rows.new_zeros(rows.shape[0], grad.shape[1], value.shape[3] if value_side else 0)
        for token in tokens:
            columns = _columns(part, token)
            channels = _channels(value[batch, ..., token], rows.dtype)
            for query in queries:
                tile = weights(batch, query, token, rows[:, query], columns)
                if value_side:
                    value_grad[..., token].baddbmm_(grad[..., query], tile)
                if not (query_side or key_side):
                    continue
                tile *= (grad[..., query].mT @ channels).sub_(delta[:, query, None])
                if query_side:
                    rows_grad[:, query].baddbmm_(tile, columns.mT)
                if key_side:
                    columns_grad[..., token].baddbmm_(rows[:, query].mT, tile)
        _store(gradients, batch, part, rows_grad, columns_grad, value_grad)
    return gradients


def _store(
    gradients: Gradients, batch: slice, operands: Operands, rows_grad: Tensor, columns_grad: Tensor, value_grad: Tensor
) -> None:
    """Turn gradients of the factors of a batch's scores into those of its operands, where there is room for them."""
    query, key, gain, offset, bias, value = gradients
    size = operands.key.shape[1]
    if query.numel():
        query[batch] = rows_grad[..., :size].mT * operands.scale
    if offset.numel():
        offset[batch] = rows_grad[..., size]
    if value.numel():
        value[batch] = value_grad.view(value_grad.shape[0], *value.shape[1:])
    if bias.numel():
        bias[batch] = columns_grad[:, -1]
    if not key.numel():
        return
    channels_grad = columns_grad[:, :size]
    if operands.gain is None:
        key[batch] = channels_grad
        return
    gain[batch] = (channels_grad * operands.key).sum(1)
    if operands.offset is not None:
        gain[batch] += columns_grad[:, size]
    key[batch] = channels_grad * operands.gain[:, None]


def _best(rows: Tensor, operands: Operands, tokens: list[slice], top_k: int) -> tuple[Tensor, Tensor]:
    """The `top_k` highest scores of rows `(B, n, C)` and their tokens, `(B, n, top_k)` each."""
    scores = rows.new_empty(rows.shape[0], rows.shape[1], 0)
    indices = torch.empty_like(scores, dtype=torch.int64)
    for token in tokens:
        tile_scores, tile_indices = _best_of_tile(rows @ _columns(operands, token), top_k)
        scores = torch.cat([scores, tile_scores], -1)
        indices = torch.cat([indices, tile_indices + token.start], -1)
        # Equal scores stand in the order of their tokens on both sides, so a stable sort keeps them so.
        scores, order = scores.sort(dim=-1, descending=True, stable=True)
        scores, indices = scores[..., :top_k], indices.gather(-1, order[..., :top_k])
    return scores, indices


def _best_of_tile(scores: Tensor, top_k: int) -> tuple[Tensor, Tensor]:
    """The `top_k` highest of the last dimension in the order of their indices; of equal ones those of lower index."""
    if scores.shape[-1] <= top_k:
        return scores, torch.arange(scores.shape[-1], device=scores.device).expand(scores.shape)
    # One more than wanted shows where the choice among equal scores was left to chance.
    values, indices = scores.topk(top_k + 1)
    tied = values[..., -2] == values[..., -1]
    indices = indices[..., :-1].sort().values
    if tied.any():
        row, threshold = scores[tied], values[tied][:, -1:]
        above, level = ~(row <= threshold), row == threshold
        room = top_k - above.sum(-1, keepdim=True)
        indices[tied] = (above | (level & (level.cumsum(-1) <= room))).nonzero()[:, 1].view(-1, top_k)
    return scores.gather(-1, indices), indices


def _gather(value: Tensor, indices: Tensor, weights: Tensor) -> Tensor:
    """Σ_k weights `(B, n, k)` · the values `(B, O, Cv, Nk)` at indices `(B, n, k)`, as `(B, O, Cv, n)`."""
    batch, objects, channels, _ = value.shape
    step = max(1, GATHERED_VALUES // max(1, batch * objects * channels * indices.shape[-1]))
    parts = []
    for query in _slices(indices.shape[1], step):
        place, weight = indices[:, query], weights[:, query]
        flat = place.flatten(1)[:, None, None].expand(batch, objects, channels, -1)
        gathered = value.gather(-1, flat).view(batch, objects, channels, *place.shape[1:]).to(weight.dtype)
        parts.append((gathered * weight[:, None, None]).sum(-1))
    return torch.cat(parts, -1)
