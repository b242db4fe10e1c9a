"""Gradients of the dense read, with the scores computed again: one kernel a side.

Each program sums one tile of a gradient over everything it depends on, so nothing is added by two programs. dS is the
same on both sides: P · (Σ over value channels of grad_out · value − delta), delta = Σ grad_out · out − grad_lse.
"""

from typing import Any

import triton
import triton.language as tl
from torch import Tensor

from stm_fast.kernels.launch import (
    Gradients,
    Operands,
    blocks,
    on_device_of,
    precision,
    processors,
    score_arguments,
    split_count,
    value_arguments,
    with_offsets,
)
from stm_fast.kernels.primitives import (
    LN_2,
    affine,
    begin,
    first_queries,
    load_block,
    normalised,
    products,
    row_place,
    strided,
)
from stm_fast.kernels.tiles import Tile, tile_for


@triton.jit
def value_products(
    grad, value, grad_place, value_place, grad_object, grad_channel, value_object, value_channel, grad_mask, value_mask,
    VALUE_CHANNELS: tl.constexpr, ROWS: tl.constexpr, BLOCK_V: tl.constexpr, OFFSET: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """Σ over all value channels of grad_out times value, `[M, N]`; bases, places and masks as in `products`."""
    total = tl.zeros([grad_place.shape[0], value_place.shape[0]], tl.float32)
    for first in range(0, ROWS, BLOCK_V):
        row = first + tl.arange(0, BLOCK_V).to(OFFSET)  # [V]
        inside = row < ROWS
        grad_row = row_place(row, grad_object, grad_channel, VALUE_CHANNELS)
        value_row = row_place(row, value_object, value_channel, VALUE_CHANNELS)
        g = tl.load(
            grad + (grad_place[:, None] + grad_row[None, :]), mask=grad_mask[:, None] & inside[None, :], other=0.0
        )  # [M, V]
        v = tl.load(
            value + (value_place[None, :] + value_row[:, None]), mask=value_mask[None, :] & inside[:, None], other=0.0
        )  # [V, N]
        total = tl.dot(g, v, total, input_precision=PRECISION)
    return total


@triton.jit(do_not_specialize=["queries", "tokens", "splits"])
def query_gradient_kernel(
    query, key, gain, offset, bias, value, grad, lse, delta, query_grad, offset_grad,
    scale, queries, tokens, splits,
    query_batch, query_channel, query_item, key_batch, key_channel, key_item,
    value_batch, value_object, value_channel, value_item, grad_batch, grad_object, grad_channel, grad_item,
    CHANNELS: tl.constexpr, VALUE_CHANNELS: tl.constexpr, ROWS: tl.constexpr, UNIT: tl.constexpr,
    QUERY_UNIT: tl.constexpr, TOKEN_UNIT: tl.constexpr, OFFSET: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_V: tl.constexpr,
):  # fmt: skip
    """Gradients of one tile of queries (some of their channels) and of their offsets, from one split of the memory.

    Writes query_grad `(B, splits, CHANNELS, queries)` over scale, and offset_grad `(B, splits, queries)`.
    """
    queries, tokens = queries * QUERY_UNIT, tokens * TOKEN_UNIT
    tile, split = tl.program_id(0) % tl.cdiv(queries, BLOCK_M), tl.program_id(0) // tl.cdiv(queries, BLOCK_M)
    batch = tl.program_id(2).to(tl.int64)
    m = tile * BLOCK_M + tl.arange(0, BLOCK_M)  # [M]
    mine = (tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)).to(OFFSET)  # [C]
    inside_m = m < queries
    query_channel, key_channel = strided(query_channel, UNIT, OFFSET), strided(key_channel, UNIT, OFFSET)
    grad_object, grad_channel = strided(grad_object, UNIT, OFFSET), strided(grad_channel, UNIT, OFFSET)
    value_object, value_channel = strided(value_object, UNIT, OFFSET), strided(value_channel, UNIT, OFFSET)
    query = begin(query, batch, query_batch, tile * BLOCK_M, query_item, UNIT)
    grad = begin(grad, batch, grad_batch, tile * BLOCK_M, grad_item, UNIT)
    query_place = tl.arange(0, BLOCK_M).to(OFFSET) * query_item  # [M]
    key_place = tl.arange(0, BLOCK_N).to(OFFSET) * key_item  # [N]
    grad_place = tl.arange(0, BLOCK_M).to(OFFSET) * grad_item  # [M]
    value_place = tl.arange(0, BLOCK_N).to(OFFSET) * value_item  # [N]
    q = first_queries(query, query_place, query_channel, inside_m, CHANNELS, BLOCK_C, OFFSET)
    level = tl.load(lse + batch * queries + m, mask=inside_m, other=0.0)  # [M]
    shift = tl.load(delta + batch * queries + m, mask=inside_m, other=0.0)  # [M]

    length = tl.cdiv(tl.cdiv(tokens, BLOCK_N), splits) * BLOCK_N
    first = split * length
    query_sum = tl.zeros([BLOCK_M, BLOCK_C], tl.float32)
    offset_sum = tl.zeros([BLOCK_M], tl.float32)
    for start in range(first, tl.minimum(first + length, tokens), BLOCK_N):
        n = start + tl.arange(0, BLOCK_N)  # [N]
        inside_n = n < tokens
        tile_key = begin(key, batch, key_batch, start, key_item, UNIT)
        product = products(
            q, query, tile_key, query_place, key_place, query_channel, key_channel, inside_m, inside_n,
            CHANNELS, BLOCK_C, OFFSET, PRECISION,
        )  # fmt: skip
        score, _ = affine(product, gain, offset, bias, scale, batch, m, n, queries, tokens)  # [M, N]
        weight = normalised(score, level)
        score_grad = value_products(
            grad, begin(value, batch, value_batch, start, value_item, UNIT), grad_place, value_place,
            grad_object, grad_channel, value_object, value_channel, inside_m, inside_n,
            VALUE_CHANNELS, ROWS, BLOCK_V, OFFSET, PRECISION,
        )  # fmt: skip
        score_grad = weight * (score_grad - shift[:, None])  # [M, N]
        if gain is not None:
            score_grad *= tl.load(gain + batch * tokens + n, mask=inside_n, other=0.0)[None, :]
        if offset_grad is not None:
            offset_sum += tl.sum(score_grad, 1)
        k = load_block(tile_key, key_place[:, None], mine[None, :], key_channel, inside_n[:, None], CHANNELS)  # [N, C]
        query_sum = tl.dot(score_grad.to(k.dtype), k, query_sum, input_precision=PRECISION)

    place = batch * splits + split
    tl.store(
        query_grad + (place * CHANNELS + mine[None, :]) * queries + m[:, None],
        query_sum,
        mask=inside_m[:, None] & (mine < CHANNELS)[None, :],
    )
    if offset_grad is not None:
        if tl.program_id(1) == 0:
            tl.store(offset_grad + place * queries + m, offset_sum, mask=inside_m)


@triton.jit(do_not_specialize=["queries", "tokens"])
def key_gradient_kernel(
    query, key, gain, offset, bias, value, grad, lse, delta, key_grad, gain_grad, bias_grad,
    scale, queries, tokens, natural_scale,
    query_batch, query_channel, query_item, key_batch, key_channel, key_item,
    value_batch, value_object, value_channel, value_item, grad_batch, grad_object, grad_channel, grad_item,
    CHANNELS: tl.constexpr, VALUE_CHANNELS: tl.constexpr, ROWS: tl.constexpr, UNIT: tl.constexpr,
    QUERY_UNIT: tl.constexpr, TOKEN_UNIT: tl.constexpr, OFFSET: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_V: tl.constexpr,
):  # fmt: skip
    """Gradients of one tile of keys (some of their channels), of their gains and of their biases.

    Writes key_grad `(B, CHANNELS, tokens)`, gain_grad and bias_grad `(B, tokens)`.
    """
    queries, tokens = queries * QUERY_UNIT, tokens * TOKEN_UNIT
    batch = tl.program_id(2).to(tl.int64)
    n = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)  # [N]
    mine = (tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)).to(OFFSET)  # [C]
    inside_n = n < tokens
    query_channel, key_channel = strided(query_channel, UNIT, OFFSET), strided(key_channel, UNIT, OFFSET)
    grad_object, grad_channel = strided(grad_object, UNIT, OFFSET), strided(grad_channel, UNIT, OFFSET)
    value_object, value_channel = strided(value_object, UNIT, OFFSET), strided(value_channel, UNIT, OFFSET)
    key = begin(key, batch, key_batch, tl.program_id(0) * BLOCK_N, key_item, UNIT)
    value = begin(value, batch, value_batch, tl.program_id(0) * BLOCK_N, value_item, UNIT)
    query_place = tl.arange(0, BLOCK_M).to(OFFSET) * query_item  # [M]
    key_place = tl.arange(0, BLOCK_N).to(OFFSET) * key_item  # [N]
    grad_place = tl.arange(0, BLOCK_M).to(OFFSET) * grad_item  # [M]
    value_place = tl.arange(0, BLOCK_N).to(OFFSET) * value_item  # [N]

    key_sum = tl.zeros([BLOCK_N, BLOCK_C], tl.float32)
    gain_sum = tl.zeros([BLOCK_N], tl.float32)
    bias_sum = tl.zeros([BLOCK_N], tl.float32)
    for start in range(0, queries, BLOCK_M):
        m = start + tl.arange(0, BLOCK_M)  # [M]
        inside_m = m < queries
        tile_query = begin(query, batch, query_batch, start, query_item, UNIT)
        q = load_block(
            tile_query, query_place[:, None], mine[None, :], query_channel, inside_m[:, None], CHANNELS
        )  # [M, C]
        first_q = q
        if CHANNELS > BLOCK_C:
            first_q = first_queries(tile_query, query_place, query_channel, inside_m, CHANNELS, BLOCK_C, OFFSET)
        product = products(
            first_q, tile_query, key, query_place, key_place, query_channel, key_channel, inside_m, inside_n,
            CHANNELS, BLOCK_C, OFFSET, PRECISION,
        )  # fmt: skip
        score, raw = affine(product, gain, offset, bias, scale, batch, m, n, queries, tokens)  # [M, N]
        level = tl.load(lse + batch * queries + m, mask=inside_m, other=0.0)  # [M]
        shift = tl.load(delta + batch * queries + m, mask=inside_m, other=0.0)  # [M]
        weight = tl.where(inside_m[:, None], normalised(score, level), 0.0)
        score_grad = value_products(
            begin(grad, batch, grad_batch, start, grad_item, UNIT), value, grad_place, value_place,
            grad_object, grad_channel, value_object, value_channel, inside_m, inside_n,
            VALUE_CHANNELS, ROWS, BLOCK_V, OFFSET, PRECISION,
        )  # fmt: skip
        score_grad = weight * (score_grad - shift[:, None])  # [M, N]
        if gain_grad is not None:
            gain_sum += tl.sum(score_grad * raw, 0)
        if bias_grad is not None:
            bias_sum += tl.sum(score_grad, 0)
        key_sum = tl.dot(tl.trans(score_grad.to(q.dtype)), q, key_sum, input_precision=PRECISION)

    key_sum *= natural_scale
    if gain is not None:
        key_sum *= tl.load(gain + batch * tokens + n, mask=inside_n, other=0.0)[:, None]
    tl.store(
        key_grad + (batch * CHANNELS + mine[None, :]) * tokens + n[:, None],
        key_sum.to(key_grad.dtype.element_ty),
        mask=inside_n[:, None] & (mine < CHANNELS)[None, :],
    )
    if tl.program_id(1) == 0:
        if gain_grad is not None:
            tl.store(gain_grad + batch * tokens + n, gain_sum * LN_2, mask=inside_n)
        if bias_grad is not None:
            tl.store(bias_grad + batch * tokens + n, bias_sum, mask=inside_n)


@triton.jit(do_not_specialize=["queries", "tokens"])
def value_gradient_kernel(
    query, key, gain, offset, bias, grad, lse, value_grad, scale, queries, tokens,
    query_batch, query_channel, query_item, key_batch, key_channel, key_item,
    grad_batch, grad_object, grad_channel, grad_item,
    CHANNELS: tl.constexpr, VALUE_CHANNELS: tl.constexpr, ROWS: tl.constexpr, UNIT: tl.constexpr,
    QUERY_UNIT: tl.constexpr, TOKEN_UNIT: tl.constexpr, OFFSET: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_V: tl.constexpr,
):  # fmt: skip
    """Gradients of some channels of one tile of values: value_grad `(B, ROWS, tokens)`."""
    queries, tokens = queries * QUERY_UNIT, tokens * TOKEN_UNIT
    batch = tl.program_id(2).to(tl.int64)
    n = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)  # [N]
    row = tl.program_id(1) * BLOCK_V + tl.arange(0, BLOCK_V)  # [V]
    inside_n, inside_row = n < tokens, row < ROWS
    query_channel, key_channel = strided(query_channel, UNIT, OFFSET), strided(key_channel, UNIT, OFFSET)
    grad_object, grad_channel = strided(grad_object, UNIT, OFFSET), strided(grad_channel, UNIT, OFFSET)
    key = begin(key, batch, key_batch, tl.program_id(0) * BLOCK_N, key_item, UNIT)
    query_place = tl.arange(0, BLOCK_M).to(OFFSET) * query_item  # [M]
    key_place = tl.arange(0, BLOCK_N).to(OFFSET) * key_item  # [N]
    grad_place = tl.arange(0, BLOCK_M).to(OFFSET) * grad_item  # [M]
    grad_row = row_place(row.to(OFFSET), grad_object, grad_channel, VALUE_CHANNELS)  # [V]

    value_sum = tl.zeros([BLOCK_N, BLOCK_V], tl.float32)
    for start in range(0, queries, BLOCK_M):
        m = start + tl.arange(0, BLOCK_M)  # [M]
        inside_m = m < queries
        tile_query = begin(query, batch, query_batch, start, query_item, UNIT)
        q = first_queries(tile_query, query_place, query_channel, inside_m, CHANNELS, BLOCK_C, OFFSET)
        product = products(
            q, tile_query, key, query_place, key_place, query_channel, key_channel, inside_m, inside_n,
            CHANNELS, BLOCK_C, OFFSET, PRECISION,
        )  # fmt: skip
        score, _ = affine(product, gain, offset, bias, scale, batch, m, n, queries, tokens)  # [M, N]
        level = tl.load(lse + batch * queries + m, mask=inside_m, other=0.0)  # [M]
        weight = tl.where(inside_m[:, None], normalised(score, level), 0.0)
        g = tl.load(
            begin(grad, batch, grad_batch, start, grad_item, UNIT) + (grad_place[:, None] + grad_row[None, :]),
            mask=inside_m[:, None] & inside_row[None, :],
            other=0.0,
        )  # [M, V]
        value_sum = tl.dot(tl.trans(weight.to(g.dtype)), g, value_sum, input_precision=PRECISION)

    tl.store(
        value_grad + (batch * ROWS + row[None, :]) * tokens + n[:, None],
        value_sum.to(value_grad.dtype.element_ty),
        mask=inside_n[:, None] & inside_row[None, :],
    )


def read_backward(
    operands: Operands,
    value: Tensor,
    out: Tensor,
    lse: Tensor,
    grad_out: Tensor,
    grad_lse: Tensor,
    gradients: Gradients,
    tile: Tile | None = None,
    splits: int | None = None,
) -> None:
    """Gradients of `stm_fast.kernels.forward.read`.

    Args:
        operands: operands of the scores.
        value: `(B, O, Cv, Nk)`.
        out: what `read` made.
        lse: what `read` made.
        grad_out: gradient of out, of its dtype.
        grad_lse: gradient of lse.
        gradients: room for those of query, key, gain, offset, bias and value, contiguous; empty if not wanted.
        tile: instead of the table's, for all kernels.
        splits: into how many splits the memory is split for the queries' side, instead of what fills the chip.
    """
    delta = (grad_out.float() * out.float()).sum((1, 2)).sub_(grad_lse)
    scores = {
        **score_arguments(operands),
        **value_arguments("grad", grad_out),
        "lse": lse,
        "PRECISION": precision(operands.query, value),
    }
    with on_device_of(value):
        if gradients[0].numel():
            _query_side(operands, value, scores, delta, gradients, tile, splits)
        if gradients[1].numel():
            _key_side(operands, value, scores, delta, gradients, tile)
        if gradients[5].numel():
            _value_side(operands, value, scores, gradients, tile)


def _query_side(
    operands: Operands,
    value: Tensor,
    scores: dict[str, Any],
    delta: Tensor,
    gradients: Gradients,
    tile: Tile | None,
    splits: int | None,
) -> None:
    query_grad, offset_grad = gradients[0], gradients[3]
    batch, channels, queries = operands.query.shape
    tile = tile or tile_for("query_gradient", operands.key, value)
    tiles, slices = blocks(queries, tile.queries), blocks(channels, scores["BLOCK_C"])
    memory_tiles = blocks(operands.key.shape[2], tile.tokens)
    splits = splits or split_count(tiles * slices * batch, memory_tiles, processors(value.device))
    query_sums = delta.new_empty(batch, splits, channels, queries)
    offset_sums = None if operands.offset is None else delta.new_empty(batch, splits, queries)
    query_gradient_kernel[tiles * splits, slices, batch](
        **with_offsets(scores, value_arguments("value", value)),
        delta=delta,
        query_grad=query_sums,
        offset_grad=offset_sums,
        splits=splits,
        **tile.options(),
    )
    query_grad.copy_(query_sums.sum(1).mul_(operands.scale))
    if offset_sums is not None:
        offset_grad.copy_(offset_sums.sum(1))


def _key_side(
    operands: Operands,
    value: Tensor,
    scores: dict[str, Any],
    delta: Tensor,
    gradients: Gradients,
    tile: Tile | None,
) -> None:
    _, key_grad, gain_grad, _, bias_grad, _ = gradients
    batch, channels, tokens = operands.key.shape
    tile = tile or tile_for("key_gradient", operands.key, value)
    key_gradient_kernel[blocks(tokens, tile.tokens), blocks(channels, scores["BLOCK_C"]), batch](
        **with_offsets(scores, value_arguments("value", value)),
        delta=delta,
        key_grad=key_grad,
        gain_grad=None if operands.gain is None else gain_grad,
        bias_grad=None if operands.bias is None else bias_grad,
        natural_scale=operands.scale,
        **tile.options(),
    )


def _value_side(
    operands: Operands, value: Tensor, scores: dict[str, Any], gradients: Gradients, tile: Tile | None
) -> None:
    batch, objects, channels, tokens = value.shape
    tile = tile or tile_for("value_gradient", operands.key, value)
    value_gradient_kernel[blocks(tokens, tile.tokens), blocks(objects * channels, tile.rows), batch](
        **with_offsets(scores), value_grad=gradients[5], **tile.options()
    )
