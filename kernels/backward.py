"""Gradients of the dense read, with the scores computed again: one kernel a side.

Each program sums one tile of a gradient over everything it depends on, so nothing is added by two programs. The
gradient of scores is the same on both sides: P · (Σ over value channels of grad_out · value − delta), where
delta = Σ grad_out · out − grad_lse.
"""

import triton
import triton.language as tl
from torch import Tensor

from stm_fast.kernels.launch import (
    Gradients,
    Operands,
    aligned,
    blocks,
    on_device_of,
    precision,
    processors,
    score_arguments,
    split_count,
    value_arguments,
    with_aligned_query,
    with_distances,
)
from stm_fast.kernels.primitives import LN_2, affine, load_rows, products, second_channels, weights_from
from stm_fast.kernels.tiles import Tile, tile_for


@triton.jit
def value_products(
    left, left_source, right_source, batch, first_left, first_right, lefts, rights,
    ROWS: tl.constexpr, VALUE_CHANNELS: tl.constexpr, LEFT_UNIT: tl.constexpr, RIGHT_UNIT: tl.constexpr,
    OFFSET: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_V: tl.constexpr, BLOCK_LEFT: tl.constexpr, BLOCK_RIGHT: tl.constexpr,
):  # fmt: skip
    """Products of grad_out and value over all value channels `[LEFT, RIGHT]`; arguments as of `products`.

    `left` is all rows of the side that the program owns `[V, LEFT]`; where they are more than BLOCK_V, both sides are
    loaded block by block.
    """
    if ROWS <= BLOCK_V:
        right = load_rows(
            right_source, batch, 0, first_right, rights, ROWS, VALUE_CHANNELS, RIGHT_UNIT, OFFSET, BLOCK_V, BLOCK_RIGHT
        )  # [V, RIGHT]
        total = tl.dot(left.trans(), right, input_precision=PRECISION)
    else:
        total = tl.zeros([BLOCK_LEFT, BLOCK_RIGHT], tl.float32)
        for row in range(0, ROWS, BLOCK_V):
            a = load_rows(
                left_source, batch, row, first_left, lefts, ROWS, VALUE_CHANNELS, LEFT_UNIT, OFFSET, BLOCK_V, BLOCK_LEFT
            )  # [V, LEFT]
            b = load_rows(
                right_source, batch, row, first_right, rights,
                ROWS, VALUE_CHANNELS, RIGHT_UNIT, OFFSET, BLOCK_V, BLOCK_RIGHT,
            )  # [V, RIGHT]  # fmt: skip
            total = tl.dot(a.trans(), b, total, input_precision=PRECISION)
    return total


@triton.jit(do_not_specialize=["queries", "tokens", "splits"])
def query_gradient_kernel(
    query, query_descriptor, key, key_descriptor, value, value_descriptor, grad, grad_descriptor,
    gain, offset, bias, lse, delta, query_grad, offset_grad, scale, queries, tokens, splits,
    query_batch, query_channel, query_item, key_batch, key_channel, key_item,
    value_batch, value_object, value_channel, value_item, grad_batch, grad_object, grad_channel, grad_item,
    CHANNELS: tl.constexpr, VALUE_CHANNELS: tl.constexpr, ROWS: tl.constexpr,
    QUERY_UNIT: tl.constexpr, KEY_UNIT: tl.constexpr, VALUE_UNIT: tl.constexpr, GRAD_UNIT: tl.constexpr,
    QUERY_BY_ITEM: tl.constexpr, KEY_BY_ITEM: tl.constexpr, VALUE_BY_ITEM: tl.constexpr, GRAD_BY_ITEM: tl.constexpr,
    QUERIES_UNIT: tl.constexpr, TOKENS_UNIT: tl.constexpr, OFFSET: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_V: tl.constexpr,
):  # fmt: skip
    """Gradients of one tile of queries (some of their channels) and of their offsets, from one split of the memory.

    Writes query_grad `(B, splits, CHANNELS, queries)` over scale, and offset_grad `(B, splits, queries)`.
    """
    queries, tokens = queries * QUERIES_UNIT, tokens * TOKENS_UNIT
    query_source = (query, query_descriptor, QUERY_BY_ITEM, query_batch, 0, query_channel, query_item)
    key_source = (key, key_descriptor, KEY_BY_ITEM, key_batch, 0, key_channel, key_item)
    value_source = (value, value_descriptor, VALUE_BY_ITEM, value_batch, value_object, value_channel, value_item)
    grad_source = (grad, grad_descriptor, GRAD_BY_ITEM, grad_batch, grad_object, grad_channel, grad_item)
    tile, split = tl.program_id(0) % tl.cdiv(queries, BLOCK_M), tl.program_id(0) // tl.cdiv(queries, BLOCK_M)
    batch = tl.program_id(2).to(tl.int64)
    first_query = tile * BLOCK_M
    first_channel = tl.program_id(1) * BLOCK_C
    m = first_query + tl.arange(0, BLOCK_M)  # [M]
    q = load_rows(
        query_source, batch, 0, first_query, queries, CHANNELS, CHANNELS, QUERY_UNIT, OFFSET, BLOCK_C, BLOCK_M
    )  # [C, M]
    second_q = second_channels(
        query_source, batch, first_query, queries, q, CHANNELS, QUERY_UNIT, OFFSET, BLOCK_C, BLOCK_M
    )  # [C, M]
    g = load_rows(
        grad_source, batch, 0, first_query, queries, ROWS, VALUE_CHANNELS, GRAD_UNIT, OFFSET, BLOCK_V, BLOCK_M
    )  # [V, M]
    shift = tl.load(delta + batch * queries + m, mask=m < queries, other=0.0)  # [M]

    length = tl.cdiv(tl.cdiv(tokens, BLOCK_N), splits) * BLOCK_N
    first = split * length
    query_sum = tl.zeros([BLOCK_M, BLOCK_C], tl.float32)
    offset_sum = tl.zeros([BLOCK_M], tl.float32)
    for start in range(first, tl.minimum(first + length, tokens), BLOCK_N):
        n = start + tl.arange(0, BLOCK_N)  # [N]
        k = load_rows(
            key_source, batch, first_channel, start, tokens, CHANNELS, CHANNELS, KEY_UNIT, OFFSET, BLOCK_C, BLOCK_N
        )  # [C, N]
        first_k = k
        if CHANNELS > BLOCK_C:
            first_k = load_rows(
                key_source, batch, 0, start, tokens, CHANNELS, CHANNELS, KEY_UNIT, OFFSET, BLOCK_C, BLOCK_N
            )
        product = products(
            q, second_q, first_k, query_source, key_source, batch, first_query, start, queries, tokens,
            CHANNELS, QUERY_UNIT, KEY_UNIT, OFFSET, PRECISION, BLOCK_C, BLOCK_M, BLOCK_N,
        )  # [M, N]  # fmt: skip
        grad_weights = value_products(
            g, grad_source, value_source, batch, first_query, start, queries, tokens,
            ROWS, VALUE_CHANNELS, GRAD_UNIT, VALUE_UNIT, OFFSET, PRECISION, BLOCK_V, BLOCK_M, BLOCK_N,
        )  # [M, N]  # fmt: skip
        score, _ = affine(product, gain, offset, bias, scale, batch, m[:, None], n[None, :], queries, tokens)
        weight = weights_from(score, lse, batch, m[:, None], queries)  # [M, N]
        grad_scores = weight * (grad_weights - shift[:, None])  # [M, N]
        if gain is not None:
            grad_scores *= tl.load(gain + batch * tokens + n, mask=n < tokens, other=0.0)[None, :]
        if offset_grad is not None:
            offset_sum += tl.sum(grad_scores, 1)
        query_sum = tl.dot(grad_scores.to(k.dtype), k.trans(), query_sum, input_precision=PRECISION)

    place = batch * splits + split
    channel = first_channel + tl.arange(0, BLOCK_C)  # [C]
    tl.store(
        query_grad + (place * CHANNELS + channel[None, :]) * queries + m[:, None],
        query_sum,
        mask=(m < queries)[:, None] & (channel < CHANNELS)[None, :],
    )
    if offset_grad is not None:
        if tl.program_id(1) == 0:
            tl.store(offset_grad + place * queries + m, offset_sum, mask=m < queries)


@triton.jit(do_not_specialize=["queries", "tokens"])
def key_gradient_kernel(
    query, query_descriptor, key, key_descriptor, value, value_descriptor, grad, grad_descriptor,
    gain, offset, bias, lse, delta, key_grad, gain_grad, bias_grad, scale, queries, tokens, natural_scale,
    query_batch, query_channel, query_item, key_batch, key_channel, key_item,
    value_batch, value_object, value_channel, value_item, grad_batch, grad_object, grad_channel, grad_item,
    CHANNELS: tl.constexpr, VALUE_CHANNELS: tl.constexpr, ROWS: tl.constexpr,
    QUERY_UNIT: tl.constexpr, KEY_UNIT: tl.constexpr, VALUE_UNIT: tl.constexpr, GRAD_UNIT: tl.constexpr,
    QUERY_BY_ITEM: tl.constexpr, KEY_BY_ITEM: tl.constexpr, VALUE_BY_ITEM: tl.constexpr, GRAD_BY_ITEM: tl.constexpr,
    QUERIES_UNIT: tl.constexpr, TOKENS_UNIT: tl.constexpr, OFFSET: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_V: tl.constexpr,
):  # fmt: skip
    """Gradients of one tile of keys (some of their channels), of their gains and of their biases.

    Scores are transposed, so that gradients of theirs are the left operand of a product and stay in registers. Writes
    key_grad `(B, CHANNELS, tokens)`, gain_grad and bias_grad `(B, tokens)`.
    """
    queries, tokens = queries * QUERIES_UNIT, tokens * TOKENS_UNIT
    query_source = (query, query_descriptor, QUERY_BY_ITEM, query_batch, 0, query_channel, query_item)
    key_source = (key, key_descriptor, KEY_BY_ITEM, key_batch, 0, key_channel, key_item)
    value_source = (value, value_descriptor, VALUE_BY_ITEM, value_batch, value_object, value_channel, value_item)
    grad_source = (grad, grad_descriptor, GRAD_BY_ITEM, grad_batch, grad_object, grad_channel, grad_item)
    batch = tl.program_id(2).to(tl.int64)
    first_token = tl.program_id(0) * BLOCK_N
    first_channel = tl.program_id(1) * BLOCK_C
    n = first_token + tl.arange(0, BLOCK_N)  # [N]
    k = load_rows(
        key_source, batch, 0, first_token, tokens, CHANNELS, CHANNELS, KEY_UNIT, OFFSET, BLOCK_C, BLOCK_N
    )  # [C, N]
    second_k = second_channels(
        key_source, batch, first_token, tokens, k, CHANNELS, KEY_UNIT, OFFSET, BLOCK_C, BLOCK_N
    )  # [C, N]
    v = load_rows(
        value_source, batch, 0, first_token, tokens, ROWS, VALUE_CHANNELS, VALUE_UNIT, OFFSET, BLOCK_V, BLOCK_N
    )  # [V, N]

    key_sum = tl.zeros([BLOCK_N, BLOCK_C], tl.float32)
    gain_sum = tl.zeros([BLOCK_N], tl.float32)
    bias_sum = tl.zeros([BLOCK_N], tl.float32)
    for start in range(0, queries, BLOCK_M):
        m = start + tl.arange(0, BLOCK_M)  # [M]
        q = load_rows(
            query_source, batch, first_channel, start, queries,
            CHANNELS, CHANNELS, QUERY_UNIT, OFFSET, BLOCK_C, BLOCK_M,
        )  # [C, M]  # fmt: skip
        first_q = q
        if CHANNELS > BLOCK_C:
            first_q = load_rows(
                query_source, batch, 0, start, queries, CHANNELS, CHANNELS, QUERY_UNIT, OFFSET, BLOCK_C, BLOCK_M
            )
        product = products(
            k, second_k, first_q, key_source, query_source, batch, first_token, start, tokens, queries,
            CHANNELS, KEY_UNIT, QUERY_UNIT, OFFSET, PRECISION, BLOCK_C, BLOCK_N, BLOCK_M,
        )  # [N, M]  # fmt: skip
        grad_weights = value_products(
            v, value_source, grad_source, batch, first_token, start, tokens, queries,
            ROWS, VALUE_CHANNELS, VALUE_UNIT, GRAD_UNIT, OFFSET, PRECISION, BLOCK_V, BLOCK_N, BLOCK_M,
        )  # [N, M]  # fmt: skip
        score, raw = affine(product, gain, offset, bias, scale, batch, m[None, :], n[:, None], queries, tokens)
        weight = weights_from(score, lse, batch, m[None, :], queries)  # [N, M]
        shift = tl.load(delta + batch * queries + m, mask=m < queries, other=0.0)  # [M]
        grad_scores = weight * (grad_weights - shift[None, :])  # [N, M]
        if gain_grad is not None:
            gain_sum += tl.sum(grad_scores * raw, 1)
        if bias_grad is not None:
            bias_sum += tl.sum(grad_scores, 1)
        key_sum = tl.dot(grad_scores.to(q.dtype), q.trans(), key_sum, input_precision=PRECISION)

    key_sum *= natural_scale
    if gain is not None:
        key_sum *= tl.load(gain + batch * tokens + n, mask=n < tokens, other=0.0)[:, None]
    channel = first_channel + tl.arange(0, BLOCK_C)  # [C]
    tl.store(
        key_grad + (batch * CHANNELS + channel[None, :]) * tokens + n[:, None],
        key_sum.to(key_grad.dtype.element_ty),
        mask=(n < tokens)[:, None] & (channel < CHANNELS)[None, :],
    )
    if tl.program_id(1) == 0:
        if gain_grad is not None:
            tl.store(gain_grad + batch * tokens + n, gain_sum * LN_2, mask=n < tokens)
        if bias_grad is not None:
            tl.store(bias_grad + batch * tokens + n, bias_sum, mask=n < tokens)


@triton.jit(do_not_specialize=["queries", "tokens"])
def value_gradient_kernel(
    query, query_descriptor, key, key_descriptor, grad, grad_descriptor, gain, offset, bias, lse, value_grad,
    scale, queries, tokens,
    query_batch, query_channel, query_item, key_batch, key_channel, key_item,
    grad_batch, grad_object, grad_channel, grad_item,
    CHANNELS: tl.constexpr, VALUE_CHANNELS: tl.constexpr, ROWS: tl.constexpr,
    QUERY_UNIT: tl.constexpr, KEY_UNIT: tl.constexpr, GRAD_UNIT: tl.constexpr,
    QUERY_BY_ITEM: tl.constexpr, KEY_BY_ITEM: tl.constexpr, GRAD_BY_ITEM: tl.constexpr,
    QUERIES_UNIT: tl.constexpr, TOKENS_UNIT: tl.constexpr, OFFSET: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_V: tl.constexpr,
):  # fmt: skip
    """Gradients of some channels of one tile of values: value_grad `(B, ROWS, tokens)`. Scores are transposed."""
    queries, tokens = queries * QUERIES_UNIT, tokens * TOKENS_UNIT
    query_source = (query, query_descriptor, QUERY_BY_ITEM, query_batch, 0, query_channel, query_item)
    key_source = (key, key_descriptor, KEY_BY_ITEM, key_batch, 0, key_channel, key_item)
    grad_source = (grad, grad_descriptor, GRAD_BY_ITEM, grad_batch, grad_object, grad_channel, grad_item)
    batch = tl.program_id(2).to(tl.int64)
    first_token = tl.program_id(0) * BLOCK_N
    first_row = tl.program_id(1) * BLOCK_V
    n = first_token + tl.arange(0, BLOCK_N)  # [N]
    k = load_rows(
        key_source, batch, 0, first_token, tokens, CHANNELS, CHANNELS, KEY_UNIT, OFFSET, BLOCK_C, BLOCK_N
    )  # [C, N]
    second_k = second_channels(
        key_source, batch, first_token, tokens, k, CHANNELS, KEY_UNIT, OFFSET, BLOCK_C, BLOCK_N
    )  # [C, N]

    value_sum = tl.zeros([BLOCK_N, BLOCK_V], tl.float32)
    for start in range(0, queries, BLOCK_M):
        m = start + tl.arange(0, BLOCK_M)  # [M]
        q = load_rows(
            query_source, batch, 0, start, queries, CHANNELS, CHANNELS, QUERY_UNIT, OFFSET, BLOCK_C, BLOCK_M
        )  # [C, M]
        product = products(
            k, second_k, q, key_source, query_source, batch, first_token, start, tokens, queries,
            CHANNELS, KEY_UNIT, QUERY_UNIT, OFFSET, PRECISION, BLOCK_C, BLOCK_N, BLOCK_M,
        )  # [N, M]  # fmt: skip
        score, _ = affine(product, gain, offset, bias, scale, batch, m[None, :], n[:, None], queries, tokens)
        weight = weights_from(score, lse, batch, m[None, :], queries)  # [N, M]
        g = load_rows(
            grad_source, batch, first_row, start, queries, ROWS, VALUE_CHANNELS, GRAD_UNIT, OFFSET, BLOCK_V, BLOCK_M
        )  # [V, M]
        value_sum = tl.dot(weight.to(g.dtype), g.trans(), value_sum, input_precision=PRECISION)

    row = first_row + tl.arange(0, BLOCK_V)  # [V]
    tl.store(
        value_grad + (batch * ROWS + row[None, :]) * tokens + n[:, None],
        value_sum.to(value_grad.dtype.element_ty),
        mask=(n < tokens)[:, None] & (row < ROWS)[None, :],
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
    with on_device_of(value):
        if gradients[0].numel() or gradients[1].numel():
            delta = (grad_out.float() * out.float()).sum((1, 2)).sub_(grad_lse)
        if gradients[0].numel():
            _query_side(operands, value, grad_out, lse, delta, gradients, tile, splits)
        if gradients[1].numel():
            _key_side(operands, value, grad_out, lse, delta, gradients, tile)
        if gradients[5].numel():
            _value_side(operands, value, grad_out, lse, gradients, tile)


def _query_side(
    operands: Operands,
    value: Tensor,
    grad_out: Tensor,
    lse: Tensor,
    delta: Tensor,
    gradients: Gradients,
    tile: Tile | None,
    splits: int | None,
) -> None:
    query_grad, offset_grad = gradients[0], gradients[3]
    batch, channels, queries = operands.query.shape
    tile = tile or tile_for("query_gradient", operands.key, value)
    scores = score_arguments(operands, tile)
    tiles, slices = blocks(queries, tile.queries), blocks(channels, scores["BLOCK_C"])
    memory_tiles = blocks(operands.key.shape[2], tile.tokens)
    splits = splits or split_count(tiles * slices * batch, memory_tiles, processors(value.device))
    query_sums = delta.new_empty(batch, splits, channels, queries)
    offset_sums = None if operands.offset is None else delta.new_empty(batch, splits, queries)
    query_gradient_kernel[tiles * splits, slices, batch](
        **with_distances(
            scores,
            value_arguments("value", value, tile, tile.tokens),
            value_arguments("grad", grad_out, tile, tile.queries),
        ),
        lse=lse,
        delta=delta,
        query_grad=query_sums,
        offset_grad=offset_sums,
        splits=splits,
        PRECISION=precision(tile, operands.query, value),
        **tile.options(),
    )
    query_grad.copy_(query_sums.sum(1).mul_(operands.scale))
    if offset_sums is not None:
        offset_grad.copy_(offset_sums.sum(1))


def _key_side(
    operands: Operands,
    value: Tensor,
    grad_out: Tensor,
    lse: Tensor,
    delta: Tensor,
    gradients: Gradients,
    tile: Tile | None,
) -> None:
    _, key_grad, gain_grad, _, bias_grad, _ = gradients
    batch, channels, tokens = operands.key.shape
    tile = tile or tile_for("key_gradient", operands.key, value)
    scores = score_arguments(with_aligned_query(operands), tile)
    key_gradient_kernel[blocks(tokens, tile.tokens), blocks(channels, scores["BLOCK_C"]), batch](
        **with_distances(
            scores,
            value_arguments("value", value, tile, tile.tokens),
            value_arguments("grad", aligned(grad_out), tile, tile.queries),
        ),
        lse=lse,
        delta=delta,
        key_grad=key_grad,
        gain_grad=None if operands.gain is None else gain_grad,
        bias_grad=None if operands.bias is None else bias_grad,
        natural_scale=operands.scale,
        PRECISION=precision(tile, operands.query, value),
        **tile.options(),
    )


def _value_side(
    operands: Operands, value: Tensor, grad_out: Tensor, lse: Tensor, gradients: Gradients, tile: Tile | None
) -> None:
    batch, objects, channels, tokens = value.shape
    tile = tile or tile_for("value_gradient", operands.key, value)
    value_gradient_kernel[blocks(tokens, tile.tokens), blocks(objects * channels, tile.value_channels), batch](
        **with_distances(
            score_arguments(with_aligned_query(operands), tile),
            value_arguments("grad", aligned(grad_out), tile, tile.queries),
        ),
        lse=lse,
        value_grad=gradients[5],
        PRECISION=precision(tile, operands.query, value),
        **tile.options(),
    )
