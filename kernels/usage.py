"""How much each memory token is read, from a second pass over the scores."""

import triton
import triton.language as tl
from torch import Tensor

from stm_fast.kernels.launch import Operands, blocks, on_device_of, precision, score_arguments, with_offsets
from stm_fast.kernels.primitives import affine, begin, first_queries, normalised, products, strided
from stm_fast.kernels.tiles import Tile, tile_for


@triton.jit(do_not_specialize=["queries", "tokens"])
def usage_kernel(
    query, key, gain, offset, bias, lse, usage, scale, queries, tokens,
    query_batch, query_channel, query_item, key_batch, key_channel, key_item,
    CHANNELS: tl.constexpr, UNIT: tl.constexpr, QUERY_UNIT: tl.constexpr, TOKEN_UNIT: tl.constexpr,
    OFFSET: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_V: tl.constexpr,
):  # fmt: skip
    """Softmax weights of one tile of tokens, summed over all queries: usage `(B, tokens)`."""
    queries, tokens = queries * QUERY_UNIT, tokens * TOKEN_UNIT
    batch = tl.program_id(1).to(tl.int64)
    n = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)  # [N]
    inside_n = n < tokens
    query_channel, key_channel = strided(query_channel, UNIT, OFFSET), strided(key_channel, UNIT, OFFSET)
    key = begin(key, batch, key_batch, tl.program_id(0) * BLOCK_N, key_item, UNIT)
    query_place = tl.arange(0, BLOCK_M).to(OFFSET) * query_item  # [M]
    key_place = tl.arange(0, BLOCK_N).to(OFFSET) * key_item  # [N]
    total = tl.zeros([BLOCK_N], tl.float32)
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
        total += tl.sum(tl.where(inside_m[:, None], normalised(score, level), 0.0), 0)
    tl.store(usage + batch * tokens + n, total, mask=inside_n)


def usage(operands: Operands, lse: Tensor, result: Tensor, tile: Tile | None = None) -> None:
    """Softmax weight of each memory token, summed over the queries.

    Args:
        operands: operands of the scores.
        lse: of the read, `(B, Nq)` float32, contiguous.
        result: room for the sums `(B, Nk)` float32, contiguous.
        tile: instead of the table's; its rows are not used.
    """
    batch, _, tokens = operands.key.shape
    tile = tile or tile_for("usage", operands.key, operands.key)
    with on_device_of(lse):
        usage_kernel[blocks(tokens, tile.tokens), batch](
            **with_offsets(score_arguments(operands)),
            lse=lse,
            usage=result,
            PRECISION=precision(operands.query),
            **tile.options(),
        )
