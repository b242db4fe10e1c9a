"""The read in plain torch, on every device: an online softmax over tiles of the scores.

The formula done plainly, with which tests compare every backend, is `direct_read` in tests/ops/oracle.py.

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

from stm_fast.kernels.operands import Gradients, Operands, statistics_dtype
from stm_fast.ops.calls import (
    Call,
    Outputs,
    Read,
    ReadBackward,
    ReadOutputs,
    TopKOutputs,
    TopKRead,
    TopKReadBackward,
    Usage,
    UsageOutputs,
)

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
    """Return None: it reads tensors on every device, of every floating dtype."""


def unavailable(device: torch.device | None = None) -> str | None:
    """Return None: torch is all it needs."""
    return None


def refusal(call: Call) -> str | None:
    """Return None: it serves every call."""
    return None


def fill(call: Call, outputs: Outputs) -> None:
    """Do what a call asks for, in tiles."""
    match call, outputs:
        case Read(), ReadOutputs():
            _read(call, outputs)
        case ReadBackward(), Gradients():
            _read_backward(call, outputs)
        case Usage(), UsageOutputs():
            _usage(call, outputs.usage)
        case TopKRead(), TopKOutputs():
            _top_k_read(call, outputs)
        case TopKReadBackward(), Gradients():
            _top_k_read_backward(call, outputs)


def _read(call: Read, outputs: ReadOutputs) -> None:
    batches, queries, tokens = _tiles(call.operands, TILE_QUERIES)
    for batch in batches:
        part, value = _part(call.operands, batch), call.value[batch]
        for query in queries:
            out = outputs.out[batch, ..., query]
            readout, outputs.lse[batch, query] = _read_rows(_rows(part, query), part, value, tokens)
            out.copy_(readout.view_as(out))


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


def _read_backward(call: ReadBackward, gradients: Gradients) -> None:
    def weights(batch: slice, query: slice, token: slice, rows: Tensor, columns: Tensor) -> Tensor:
        return _weights(rows, columns, call.lse[batch, query])

    _fill_gradients(call, gradients, weights)


def _usage(call: Usage, usage: Tensor) -> None:
    batches, queries, tokens = _tiles(call.operands, TILE_QUERIES)
    usage.zero_()
    for batch in batches:
        part = _part(call.operands, batch)
        for query in queries:
            rows = _rows(part, query)
            for token in tokens:
                usage[batch, token] += _weights(rows, _columns(part, token), call.lse[batch, query]).sum(1)


def _top_k_read(call: TopKRead, outputs: TopKOutputs) -> None:
    batches, queries, tokens = _tiles(call.operands, TOP_K_TILE_QUERIES)
    out, lse, indices, weights = outputs
    indices.zero_()
    weights.zero_()
    chosen = min(call.top_k, call.value.shape[-1])
    for batch in batches:
        part, value = _part(call.operands, batch), call.value[batch]
        for query in queries:
            scores, best = _best(_rows(part, query), part, tokens, chosen)
            maximum = scores.amax(-1, keepdim=True).clamp_min(torch.finfo(scores.dtype).min)
            scores = _exponential(scores.sub_(maximum))
            total = scores.sum(-1, keepdim=True)
            lse[batch, query] = (maximum + total.log()).squeeze(-1)
            scores.div_(total.masked_fill(total == 0, 1))
            indices[batch, query, :chosen], weights[batch, query, :chosen] = best, scores
            out[batch, ..., query] = _gather(value, best, scores)


def _top_k_read_backward(call: TopKReadBackward, gradients: Gradients) -> None:
    def scattered(batch: slice, query: slice, token: slice, rows: Tensor, columns: Tensor) -> Tensor:
        weight, size = call.weights[batch, query], columns.shape[2]
        place = call.indices[batch, query] - token.start
        inside = (place >= 0) & (place < size) & (weight != 0)
        # One more column takes what is not of this tile.
        tile = rows.new_zeros(rows.shape[0], rows.shape[1], size + 1)
        return tile.scatter_(-1, place.where(inside, size), weight)[..., :size]

    _fill_gradients(call, gradients, scattered)


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


def _fill_gradients(
    call: ReadBackward | TopKReadBackward,
    gradients: Gradients,
    weights: Callable[[slice, slice, slice, Tensor, Tensor], Tensor],
) -> None:
    """Fill the gradients of a read whose softmax comes in tiles from `weights(batch, query, token, rows, columns)`."""
    wanted, value = gradients.wanted, call.value
    batches, queries, tokens = _tiles(call.operands, TILE_QUERIES)
    for batch in batches:
        part = _part(call.operands, batch)
        rows = _rows(part, slice(None))
        grad = _channels(call.grad_out[batch], rows.dtype)
        delta = (grad * _channels(call.out[batch], rows.dtype)).sum(1) - call.grad_lse[batch]
        grad_rows = torch.zeros_like(rows)
        grad_columns = rows.new_zeros(rows.shape[0], rows.shape[2], value.shape[3] if wanted.key else 0)
        grad_value = rows.new_zeros(rows.shape[0], grad.shape[1], value.shape[3] if wanted.value else 0)
        for token in tokens:
            columns = _columns(part, token)
            channels = _channels(value[batch, ..., token], rows.dtype)
            for query in queries:
                tile = weights(batch, query, token, rows[:, query], columns)
                if wanted.value:
                    grad_value[..., token].baddbmm_(grad[..., query], tile)
                if not (wanted.query or wanted.key):
                    continue
                tile *= (grad[..., query].mT @ channels).sub_(delta[:, query, None])
                if wanted.query:
                    grad_rows[:, query].baddbmm_(tile, columns.mT)
                if wanted.key:
                    grad_columns[..., token].baddbmm_(rows[:, query].mT, tile)
        _store(gradients, batch, part, grad_rows, grad_columns, grad_value)


def _store(
    gradients: Gradients, batch: slice, operands: Operands, grad_rows: Tensor, grad_columns: Tensor, grad_value: Tensor
) -> None:
    """Turn gradients of the factors of a batch's scores into those of its operands, where there is room for them."""
    query, key, gain, offset, bias, value = gradients
    size = operands.key.shape[1]
    if query is not None:
        query[batch] = grad_rows[..., :size].mT * operands.scale
    if offset is not None:
        offset[batch] = grad_rows[..., size]
    if value is not None:
        value[batch] = grad_value.view(grad_value.shape[0], *value.shape[1:])
    if bias is not None:
        bias[batch] = grad_columns[:, -1]
    if key is None:
        return
    grad_channels = grad_columns[:, :size]
    if operands.gain is None or gain is None:
        key[batch] = grad_channels
        return
    gain[batch] = (grad_channels * operands.key).sum(1)
    if operands.offset is not None:
        gain[batch] += grad_columns[:, size]
    key[batch] = grad_channels * operands.gain[:, None]


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
