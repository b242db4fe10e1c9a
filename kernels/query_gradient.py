"""Gradients of queries and of their offsets. A program owns queries and loops over the memory tokens of one split."""

import triton
import triton.language as tl
from torch import Tensor

from stm_fast.kernels.launch import (
    blocks,
    precision,
    processors,
    score_arguments,
    value_arguments,
    with_index_type,
)
from stm_fast.kernels.operands import Operands
from stm_fast.kernels.plans import Launch
from stm_fast.kernels.primitives import affine, load_tile, products, second_channels, value_products, weights_from
from stm_fast.kernels.splits import Work, results_time, split_count, tile_time
from stm_fast.kernels.tiles import Tile, tile_for


@triton.jit(do_not_specialize=["queries", "tokens", "splits"])
def query_gradient_kernel(
    query, query_descriptor, key, key_descriptor, value, value_descriptor, grad_out, grad_out_descriptor,
    gain, offset, bias, lse, delta, grad_query, grad_offset, scale, queries, tokens, splits,
    query_batch, query_channel, query_item, key_batch, key_channel, key_item,
    value_batch, value_object, value_channel, value_item,
    grad_out_batch, grad_out_object, grad_out_channel, grad_out_item,
    CHANNELS: tl.constexpr, VALUE_CHANNELS: tl.constexpr, TOTAL_VALUE_CHANNELS: tl.constexpr,
    QUERY_UNIT: tl.constexpr, KEY_UNIT: tl.constexpr, VALUE_UNIT: tl.constexpr, GRAD_OUT_UNIT: tl.constexpr,
    QUERY_BY_ITEM: tl.constexpr, KEY_BY_ITEM: tl.constexpr,
    VALUE_BY_ITEM: tl.constexpr, GRAD_OUT_BY_ITEM: tl.constexpr,
    QUERIES_UNIT: tl.constexpr, TOKENS_UNIT: tl.constexpr, INDEX: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_V: tl.constexpr,
):  # fmt: skip
    """Compute gradients of one tile of queries (one block of their channels) and of their offsets, from one split.

    Writes grad_query `(B, splits, CHANNELS, queries)` divided by scale, and grad_offset `(B, splits, queries)`.
    """
    queries, tokens = queries * QUERIES_UNIT, tokens * TOKENS_UNIT
    query_source = (query, query_descriptor, QUERY_BY_ITEM, query_batch, 0, query_channel, query_item)
    key_source = (key, key_descriptor, KEY_BY_ITEM, key_batch, 0, key_channel, key_item)
    value_source = (value, value_descriptor, VALUE_BY_ITEM, value_batch, value_object, value_channel, value_item)
    grad_source = (
        grad_out, grad_out_descriptor, GRAD_OUT_BY_ITEM,
        grad_out_batch, grad_out_object, grad_out_channel, grad_out_item,
    )  # fmt: skip
    tile, split = tl.program_id(0) % tl.cdiv(queries, BLOCK_M), tl.program_id(0) // tl.cdiv(queries, BLOCK_M)
    batch = tl.program_id(2).to(tl.int64)
    first_query = tile * BLOCK_M
    first_channel = tl.program_id(1) * BLOCK_C
    m = first_query + tl.arange(0, BLOCK_M)  # [M]
    q = load_tile(
        query_source, batch, 0, first_query, queries, CHANNELS, CHANNELS, QUERY_UNIT, INDEX, BLOCK_C, BLOCK_M
    )  # [C, M]
    second_q = second_channels(
        query_source, batch, first_query, queries, q, CHANNELS, QUERY_UNIT, INDEX, BLOCK_C, BLOCK_M
    )  # [C, M]
    g = load_tile(
        grad_source, batch, 0, first_query, queries,
        TOTAL_VALUE_CHANNELS, VALUE_CHANNELS, GRAD_OUT_UNIT, INDEX, BLOCK_V, BLOCK_M,
    )  # [V, M]  # fmt: skip
    d = tl.load(delta + batch * queries + m, mask=m < queries, other=0.0)  # [M]

    length = tl.cdiv(tl.cdiv(tokens, BLOCK_N), splits) * BLOCK_N
    first = split * length
    query_sum = tl.zeros([BLOCK_M, BLOCK_C], tl.float32)
    offset_sum = tl.zeros([BLOCK_M], tl.float32)
    for start in range(first, tl.minimum(first + length, tokens), BLOCK_N):
        n = start + tl.arange(0, BLOCK_N)  # [N]
        k = load_tile(
            key_source, batch, first_channel, start, tokens, CHANNELS, CHANNELS, KEY_UNIT, INDEX, BLOCK_C, BLOCK_N
        )  # [C, N]
        first_k = k
        if CHANNELS > BLOCK_C:
            first_k = load_tile(
                key_source, batch, 0, start, tokens, CHANNELS, CHANNELS, KEY_UNIT, INDEX, BLOCK_C, BLOCK_N
            )
        product = products(
            q, second_q, first_k, query_source, key_source, batch, first_query, start, queries, tokens,
            CHANNELS, QUERY_UNIT, KEY_UNIT, INDEX, PRECISION, BLOCK_C, BLOCK_M, BLOCK_N,
        )  # [M, N]  # fmt: skip
        grad_weights = value_products(
            g, grad_source, value_source, batch, first_query, start, queries, tokens,
            TOTAL_VALUE_CHANNELS, VALUE_CHANNELS, GRAD_OUT_UNIT, VALUE_UNIT, INDEX, PRECISION,
            BLOCK_V, BLOCK_M, BLOCK_N,
        )  # [M, N]  # fmt: skip
        score, _ = affine(product, gain, offset, bias, scale, batch, m[:, None], n[None, :], queries, tokens)
        weight = weights_from(score, lse, batch, m[:, None], queries)  # [M, N]
        grad_scores = weight * (grad_weights - d[:, None])  # [M, N]
        if gain is not None:
            grad_scores *= tl.load(gain + batch * tokens + n, mask=n < tokens, other=0.0)[None, :]
        if grad_offset is not None:
            offset_sum += tl.sum(grad_scores, 1)
        query_sum = tl.dot(grad_scores.to(k.dtype), k.trans(), query_sum, input_precision=PRECISION)

    batch_and_split = batch * splits + split
    channel = first_channel + tl.arange(0, BLOCK_C)  # [C]
    tl.store(
        grad_query + (batch_and_split * CHANNELS + channel[None, :]) * queries + m[:, None],
        query_sum,
        mask=(m < queries)[:, None] & (channel < CHANNELS)[None, :],
    )
    if grad_offset is not None:
        if tl.program_id(1) == 0:
            tl.store(grad_offset + batch_and_split * queries + m, offset_sum, mask=m < queries)


def query_gradient_launch(
    operands: Operands, value: Tensor, grad_out: Tensor, tile: Tile | None, splits: int | None
) -> tuple[Launch, int]:
    """Return the launch of the kernel and the number of splits of the memory. Arguments are as for `read_backward`."""
    batch, channels, queries = operands.query.shape
    tile = tile or tile_for("query_gradient", operands.key, value)
    scores = score_arguments(operands, tile)
    query_tiles, slices = blocks(queries, tile.queries), blocks(channels, scores["BLOCK_C"])
    work = Work(
        programs=query_tiles * slices * batch,
        tiles=blocks(operands.key.shape[2], tile.tokens),
        tile=tile_time(tile, 2 * channels, value.shape[1:-1].numel(), operands.query, value),
        results=results_time(batch * channels * queries, 4, value.device),
    )
    splits = splits or split_count(work, processors(value.device))
    arguments = {
        **with_index_type(
            scores,
            value_arguments("value", value, tile, tile.tokens),
            value_arguments("grad_out", grad_out, tile, tile.queries),
        ),
        **({"grad_offset": None} if operands.offset is None else {}),
        "splits": splits,
        "PRECISION": precision(tile, operands.query, value),
        **tile.options(),
    }
    return Launch(query_gradient_kernel, (query_tiles * splits, slices, batch), arguments), splits
