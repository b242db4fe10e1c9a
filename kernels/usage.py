"""How much each memory token is read, by a second pass over the scores."""

import triton
import triton.language as tl
from torch import Tensor

from stm_fast.kernels.launch import (
    aligned,
    blocks,
    key_of,
    on_device_of,
    precision,
    score_arguments,
    score_tensors,
    with_index_type,
)
from stm_fast.kernels.operands import Operands
from stm_fast.kernels.plans import Launch, Plan, plan_of
from stm_fast.kernels.primitives import affine, load_tile, products, second_channels, weights_from
from stm_fast.kernels.tiles import Tile, tile_for


@triton.jit(do_not_specialize=["queries", "tokens"])
def usage_kernel(
    query, query_descriptor, key, key_descriptor, gain, offset, bias, lse, usage, scale, queries, tokens,
    query_batch, query_channel, query_item, key_batch, key_channel, key_item,
    CHANNELS: tl.constexpr, QUERY_UNIT: tl.constexpr, KEY_UNIT: tl.constexpr,
    QUERY_BY_ITEM: tl.constexpr, KEY_BY_ITEM: tl.constexpr,
    QUERIES_UNIT: tl.constexpr, TOKENS_UNIT: tl.constexpr, INDEX: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_V: tl.constexpr,
):  # fmt: skip
    """Sum the softmax weights of one tile of tokens over all queries: usage `(B, tokens)`."""
    queries, tokens = queries * QUERIES_UNIT, tokens * TOKENS_UNIT
    query_source = (query, query_descriptor, QUERY_BY_ITEM, query_batch, 0, query_channel, query_item)
    key_source = (key, key_descriptor, KEY_BY_ITEM, key_batch, 0, key_channel, key_item)
    batch = tl.program_id(1).to(tl.int64)
    first_token = tl.program_id(0) * BLOCK_N
    n = first_token + tl.arange(0, BLOCK_N)  # [N]
    k = load_tile(
        key_source, batch, 0, first_token, tokens, CHANNELS, CHANNELS, KEY_UNIT, INDEX, BLOCK_C, BLOCK_N
    )  # [C, N]
    second_k = second_channels(
        key_source, batch, first_token, tokens, k, CHANNELS, KEY_UNIT, INDEX, BLOCK_C, BLOCK_N
    )  # [C, N]
    usage_sum = tl.zeros([BLOCK_N, BLOCK_M], tl.float32)
    for start in range(0, queries, BLOCK_M):
        m = start + tl.arange(0, BLOCK_M)  # [M]
        q = load_tile(
            query_source, batch, 0, start, queries, CHANNELS, CHANNELS, QUERY_UNIT, INDEX, BLOCK_C, BLOCK_M
        )  # [C, M]
        product = products(
            k, second_k, q, key_source, query_source, batch, first_token, start, tokens, queries,
            CHANNELS, KEY_UNIT, QUERY_UNIT, INDEX, PRECISION, BLOCK_C, BLOCK_N, BLOCK_M,
        )  # fmt: skip
        score, _ = affine(product, gain, offset, bias, scale, batch, m[None, :], n[:, None], queries, tokens)  # [N, M]
        usage_sum += weights_from(score, lse, batch, m[None, :], queries)
    tl.store(usage + batch * tokens + n, tl.sum(usage_sum, 1), mask=n < tokens)


def usage(operands: Operands, lse: Tensor, result: Tensor, tile: Tile | None = None) -> None:
    """Sum the softmax weight of each memory token over the queries.

    Args:
        operands: operands of the scores.
        lse: lse of the read `(B, Nq)` float32, contiguous.
        result: output for the sums `(B, Nk)` float32, contiguous.
        tile: tile to use instead of the table's. Its value channels are ignored.
    """
    tensors = {**score_tensors(operands), "lse": lse, "usage": result}
    with on_device_of(lse):
        plan = plan_of(key_of("usage", tensors, operands.scale, tile), lambda: _plan(operands, tile))
        for name in plan.copied:
            tensors[name] = aligned(tensors[name])
        plan.launches["usage"](tensors)


def _plan(operands: Operands, tile: Tile | None) -> Plan:
    batch, _, tokens = operands.key.shape
    tile = tile or tile_for("usage", operands.key, operands.key)
    query = aligned(operands.query)
    launch = Launch(
        usage_kernel,
        (blocks(tokens, tile.tokens), batch),
        {
            **with_index_type(score_arguments(operands._replace(query=query), tile)),
            "PRECISION": precision(tile, query),
            **tile.options(),
        },
    )
    return Plan({"usage": launch}, copied=() if query is operands.query else ("query",))
