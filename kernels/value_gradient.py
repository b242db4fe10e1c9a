"""Gradients of values. A program owns memory tokens and loops over the queries."""

import triton
import triton.language as tl
from torch import Tensor

from stm_fast.kernels.launch import blocks, precision, score_arguments, value_arguments, with_index_type
from stm_fast.kernels.operands import Operands
from stm_fast.kernels.plans import Launch
from stm_fast.kernels.primitives import affine, load_tile, products, second_channels, weights_from
from stm_fast.kernels.tiles import Tile, tile_for


@triton.jit(do_not_specialize=["queries", "tokens"])
def value_gradient_kernel(
    query, query_descriptor, key, key_descriptor, grad_out, grad_out_descriptor, gain, offset, bias, lse, grad_value,
    scale, queries, tokens,
    query_batch, query_channel, query_item, key_batch, key_channel, key_item,
    grad_out_batch, grad_out_object, grad_out_channel, grad_out_item,
    CHANNELS: tl.constexpr, VALUE_CHANNELS: tl.constexpr, TOTAL_VALUE_CHANNELS: tl.constexpr,
    QUERY_UNIT: tl.constexpr, KEY_UNIT: tl.constexpr, GRAD_OUT_UNIT: tl.constexpr,
    QUERY_BY_ITEM: tl.constexpr, KEY_BY_ITEM: tl.constexpr, GRAD_OUT_BY_ITEM: tl.constexpr,
    QUERIES_UNIT: tl.constexpr, TOKENS_UNIT: tl.constexpr, INDEX: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_V: tl.constexpr,
):  # fmt: skip
    """Compute gradients of one tile of values and one block of their channels, with transposed scores.

    Writes grad_value `(B, TOTAL_VALUE_CHANNELS, tokens)`.
    """
    queries, tokens = queries * QUERIES_UNIT, tokens * TOKENS_UNIT
    query_source = (query, query_descriptor, QUERY_BY_ITEM, query_batch, 0, query_channel, query_item)
    key_source = (key, key_descriptor, KEY_BY_ITEM, key_batch, 0, key_channel, key_item)
    grad_source = (
        grad_out, grad_out_descriptor, GRAD_OUT_BY_ITEM,
        grad_out_batch, grad_out_object, grad_out_channel, grad_out_item,
    )  # fmt: skip
    batch = tl.program_id(2).to(tl.int64)
    first_token = tl.program_id(0) * BLOCK_N
    first_channel = tl.program_id(1) * BLOCK_V
    n = first_token + tl.arange(0, BLOCK_N)  # [N]
    k = load_tile(
        key_source, batch, 0, first_token, tokens, CHANNELS, CHANNELS, KEY_UNIT, INDEX, BLOCK_C, BLOCK_N
    )  # [C, N]
    second_k = second_channels(
        key_source, batch, first_token, tokens, k, CHANNELS, KEY_UNIT, INDEX, BLOCK_C, BLOCK_N
    )  # [C, N]

    value_sum = tl.zeros([BLOCK_N, BLOCK_V], tl.float32)
    for start in range(0, queries, BLOCK_M):
        m = start + tl.arange(0, BLOCK_M)  # [M]
        q = load_tile(
            query_source, batch, 0, start, queries, CHANNELS, CHANNELS, QUERY_UNIT, INDEX, BLOCK_C, BLOCK_M
        )  # [C, M]
        product = products(
            k, second_k, q, key_source, query_source, batch, first_token, start, tokens, queries,
            CHANNELS, KEY_UNIT, QUERY_UNIT, INDEX, PRECISION, BLOCK_C, BLOCK_N, BLOCK_M,
        )  # [N, M]  # fmt: skip
        score, _ = affine(product, gain, offset, bias, scale, batch, m[None, :], n[:, None], queries, tokens)
        weight = weights_from(score, lse, batch, m[None, :], queries)  # [N, M]
        g = load_tile(
            grad_source, batch, first_channel, start, queries,
            TOTAL_VALUE_CHANNELS, VALUE_CHANNELS, GRAD_OUT_UNIT, INDEX, BLOCK_V, BLOCK_M,
        )  # [V, M]  # fmt: skip
        value_sum = tl.dot(weight.to(g.dtype), g.trans(), value_sum, input_precision=PRECISION)

    channel = first_channel + tl.arange(0, BLOCK_V)  # [V]
    tl.store(
        grad_value + (batch * TOTAL_VALUE_CHANNELS + channel[None, :]) * tokens + n[:, None],
        value_sum.to(grad_value.dtype.element_ty),
        mask=(n < tokens)[:, None] & (channel < TOTAL_VALUE_CHANNELS)[None, :],
    )


def value_gradient_launch(operands: Operands, value: Tensor, grad_out: Tensor, tile: Tile | None) -> Launch:
    """Return the launch of the kernel. Arguments are as for `read_backward`."""
    batch, objects, value_channels, tokens = value.shape
    tile = tile or tile_for("value_gradient", operands.key, value)
    arguments = {
        **with_index_type(score_arguments(operands, tile), value_arguments("grad_out", grad_out, tile, tile.queries)),
        "PRECISION": precision(tile, operands.query, value),
        **tile.options(),
    }
    grid = blocks(tokens, tile.tokens), blocks(objects * value_channels, tile.value_channels), batch
    return Launch(value_gradient_kernel, grid, arguments)
