"""Gradients of keys, of their gains and of their biases. A program owns memory tokens and loops over the queries."""

import triton
import triton.language as tl
from torch import Tensor

from stm_fast.kernels.launch import blocks, precision, score_arguments, value_arguments, with_index_type
from stm_fast.kernels.operands import Operands
from stm_fast.kernels.plans import Launch
from stm_fast.kernels.primitives import affine, load_tile, products, second_channels, value_products, weights_from
from stm_fast.kernels.softmax import LN_2
from stm_fast.kernels.tiles import Tile, tile_for


@triton.jit(do_not_specialize=["queries", "tokens"])
def key_gradient_kernel(
    query, query_descriptor, key, key_descriptor, value, value_descriptor, grad_out, grad_out_descriptor,
    gain, offset, bias, lse, delta, grad_key, grad_gain, grad_bias, scale, queries, tokens, natural_scale,
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
    """Compute gradients of one tile of keys (one block of their channels), of their gains and of their biases.

    Scores are transposed, so that their gradients are the left operand of a product and stay in registers. Writes
    grad_key `(B, CHANNELS, tokens)`, and grad_gain and grad_bias `(B, tokens)`.
    """
    queries, tokens = queries * QUERIES_UNIT, tokens * TOKENS_UNIT
    query_source = (query, query_descriptor, QUERY_BY_ITEM, query_batch, 0, query_channel, query_item)
    key_source = (key, key_descriptor, KEY_BY_ITEM, key_batch, 0, key_channel, key_item)
    value_source = (value, value_descriptor, VALUE_BY_ITEM, value_batch, value_object, value_channel, value_item)
    grad_source = (
        grad_out, grad_out_descriptor, GRAD_OUT_BY_ITEM,
        grad_out_batch, grad_out_object, grad_out_channel, grad_out_item,
    )  # fmt: skip
    batch = tl.program_id(2).to(tl.int64)
    first_token = tl.program_id(0) * BLOCK_N
    first_channel = tl.program_id(1) * BLOCK_C
    n = first_token + tl.arange(0, BLOCK_N)  # [N]
    k = load_tile(
        key_source, batch, 0, first_token, tokens, CHANNELS, CHANNELS, KEY_UNIT, INDEX, BLOCK_C, BLOCK_N
    )  # [C, N]
    second_k = second_channels(
        key_source, batch, first_token, tokens, k, CHANNELS, KEY_UNIT, INDEX, BLOCK_C, BLOCK_N
    )  # [C, N]
    v = load_tile(
        value_source, batch, 0, first_token, tokens,
        TOTAL_VALUE_CHANNELS, VALUE_CHANNELS, VALUE_UNIT, INDEX, BLOCK_V, BLOCK_N,
    )  # [V, N]  # fmt: skip

    key_sum = tl.zeros([BLOCK_N, BLOCK_C], tl.float32)
    gain_sum = tl.zeros([BLOCK_N], tl.float32)
    bias_sum = tl.zeros([BLOCK_N], tl.float32)
    for start in range(0, queries, BLOCK_M):
        m = start + tl.arange(0, BLOCK_M)  # [M]
        q = load_tile(
            query_source, batch, first_channel, start, queries, CHANNELS, CHANNELS, QUERY_UNIT, INDEX, BLOCK_C, BLOCK_M
        )  # [C, M]
        first_q = q
        if CHANNELS > BLOCK_C:
            first_q = load_tile(
                query_source, batch, 0, start, queries, CHANNELS, CHANNELS, QUERY_UNIT, INDEX, BLOCK_C, BLOCK_M
            )
        product = products(
            k, second_k, first_q, key_source, query_source, batch, first_token, start, tokens, queries,
            CHANNELS, KEY_UNIT, QUERY_UNIT, INDEX, PRECISION, BLOCK_C, BLOCK_N, BLOCK_M,
        )  # [N, M]  # fmt: skip
        grad_weights = value_products(
            v, value_source, grad_source, batch, first_token, start, tokens, queries,
            TOTAL_VALUE_CHANNELS, VALUE_CHANNELS, VALUE_UNIT, GRAD_OUT_UNIT, INDEX, PRECISION,
            BLOCK_V, BLOCK_N, BLOCK_M,
        )  # [N, M]  # fmt: skip
        score, raw = affine(product, gain, offset, bias, scale, batch, m[None, :], n[:, None], queries, tokens)
        weight = weights_from(score, lse, batch, m[None, :], queries)  # [N, M]
        d = tl.load(delta + batch * queries + m, mask=m < queries, other=0.0)  # [M]
        grad_scores = weight * (grad_weights - d[None, :])  # [N, M]
        if grad_gain is not None:
            gain_sum += tl.sum(grad_scores * raw, 1)
        if grad_bias is not None:
            bias_sum += tl.sum(grad_scores, 1)
        key_sum = tl.dot(grad_scores.to(q.dtype), q.trans(), key_sum, input_precision=PRECISION)

    key_sum *= natural_scale
    if gain is not None:
        key_sum *= tl.load(gain + batch * tokens + n, mask=n < tokens, other=0.0)[:, None]
    channel = first_channel + tl.arange(0, BLOCK_C)  # [C]
    tl.store(
        grad_key + (batch * CHANNELS + channel[None, :]) * tokens + n[:, None],
        key_sum.to(grad_key.dtype.element_ty),
        mask=(n < tokens)[:, None] & (channel < CHANNELS)[None, :],
    )
    if tl.program_id(1) == 0:
        if grad_gain is not None:
            tl.store(grad_gain + batch * tokens + n, gain_sum * LN_2, mask=n < tokens)
        if grad_bias is not None:
            tl.store(grad_bias + batch * tokens + n, bias_sum, mask=n < tokens)


def key_gradient_launch(
    operands: Operands,
    value: Tensor,
    grad_out: Tensor,
    grad_gain: Tensor | None,
    grad_bias: Tensor | None,
    tile: Tile | None,
) -> Launch:
    """Return the launch of the kernel. Arguments are as for `read_backward`."""
    batch, channels, tokens = operands.key.shape
    tile = tile or tile_for("key_gradient", operands.key, value)
    scores = score_arguments(operands, tile)
    arguments = {
        **with_index_type(
            scores,
            value_arguments("value", value, tile, tile.tokens),
            value_arguments("grad_out", grad_out, tile, tile.queries),
        ),
        "grad_gain": grad_gain,
        "grad_bias": grad_bias,
        "natural_scale": operands.scale,
        "PRECISION": precision(tile, operands.query, value),
        **tile.options(),
    }
    return Launch(
        key_gradient_kernel, (blocks(tokens, tile.tokens), blocks(channels, scores["BLOCK_C"]), batch), arguments
    )
