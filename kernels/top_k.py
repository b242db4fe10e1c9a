"""The read of the best memory tokens of each query.

A candidate is one 64-bit number: its score in the upper half, in an order of integers that is that of the scores, and
its token in the lower half, lower ones first. The largest numbers are then the best candidates, and equal scores are
told apart. Splits of the memory find their candidates on their own; those of all splits are merged exactly.
"""

import triton
import triton.language as tl
from torch import Tensor

from stm_fast.kernels.launch import (
    Operands,
    blocks,
    on_device_of,
    precision,
    processors,
    scattered,
    score_arguments,
    split_count,
    with_distances,
)
from stm_fast.kernels.primitives import LN_2, affine, load_rows, products, row_places, second_channels
from stm_fast.kernels.tiles import GATHER_TILE, TOP_K_RESIDENT, WIDE_TOP_K, Tile, tile_for

NOTHING = tl.constexpr(-(2**63))
LOWER_HALF = tl.constexpr(2**32 - 1)


@triton.jit
def packed(score, token):
    """Candidates from scores `[M, N]` and their tokens `[N]`. NaN is better than anything."""
    bits = tl.where(score != score, 0x7FC00000, (score + 0.0).to(tl.int32, bitcast=True))
    ordered = bits ^ ((bits >> 31) & 0x7FFFFFFF)
    return (ordered.to(tl.int64) << 32) | (~token & LOWER_HALF)[None, :]


@triton.jit
def unpacked_score(candidate):
    """Scores of candidates; −inf where there is none."""
    ordered = (candidate >> 32).to(tl.int32)
    bits = ordered ^ ((ordered >> 31) & 0x7FFFFFFF)
    return tl.where(candidate == NOTHING, float("-inf"), bits.to(tl.float32, bitcast=True))


@triton.jit
def better(first, second, K: tl.constexpr):
    """The K best of two times K candidates `[M, K]`, best first."""
    both = tl.reshape(tl.join(first, second), [first.shape[0], 2 * K])
    return tl.topk(both, K)


@triton.jit(do_not_specialize=["queries", "tokens", "splits"])
def candidates_kernel(
    query, query_descriptor, key, key_descriptor, gain, offset, bias, candidates, scale, queries, tokens, splits,
    query_batch, query_channel, query_item, key_batch, key_channel, key_item,
    K: tl.constexpr, CHANNELS: tl.constexpr, QUERY_UNIT: tl.constexpr, KEY_UNIT: tl.constexpr,
    QUERY_BY_ITEM: tl.constexpr, KEY_BY_ITEM: tl.constexpr,
    QUERIES_UNIT: tl.constexpr, TOKENS_UNIT: tl.constexpr, OFFSET: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_V: tl.constexpr,
):  # fmt: skip
    """The K best candidates of one tile of queries in one split of the memory: `(B, splits, queries, K)`."""
    queries, tokens = queries * QUERIES_UNIT, tokens * TOKENS_UNIT
    query_source = (query, query_descriptor, QUERY_BY_ITEM, query_batch, 0, query_channel, query_item)
    key_source = (key, key_descriptor, KEY_BY_ITEM, key_batch, 0, key_channel, key_item)
    tile, split = tl.program_id(0) % tl.cdiv(queries, BLOCK_M), tl.program_id(0) // tl.cdiv(queries, BLOCK_M)
    batch = tl.program_id(1).to(tl.int64)
    first_query = tile * BLOCK_M
    m = first_query + tl.arange(0, BLOCK_M)  # [M]
    inside_m = m < queries
    q = load_rows(
        query_source, batch, 0, first_query, queries, CHANNELS, CHANNELS, QUERY_UNIT, OFFSET, BLOCK_C, BLOCK_M
    )  # [C, M]
    second_q = second_channels(
        query_source, batch, first_query, queries, q, CHANNELS, QUERY_UNIT, OFFSET, BLOCK_C, BLOCK_M
    )  # [C, M]

    length = tl.cdiv(tl.cdiv(tokens, BLOCK_N), splits) * BLOCK_N
    first = split * length
    best = tl.full([BLOCK_M, K], NOTHING, tl.int64)
    for start in range(first, tl.minimum(first + length, tokens), BLOCK_N):
        n = start + tl.arange(0, BLOCK_N)  # [N]
        inside_n = n < tokens
        k = load_rows(
            key_source, batch, 0, start, tokens, CHANNELS, CHANNELS, KEY_UNIT, OFFSET, BLOCK_C, BLOCK_N
        )  # [C, N]
        product = products(
            q, second_q, k, query_source, key_source, batch, first_query, start, queries, tokens,
            CHANNELS, QUERY_UNIT, KEY_UNIT, OFFSET, PRECISION, BLOCK_C, BLOCK_M, BLOCK_N,
        )  # [M, N]  # fmt: skip
        score, _ = affine(product, gain, offset, bias, scale, batch, m[:, None], n[None, :], queries, tokens)
        found = tl.where(inside_n[None, :], packed(score, n.to(tl.int64)), NOTHING)  # [M, N]
        hopeful = found > tl.min(best, 1)[:, None]
        if tl.max(tl.max(hopeful.to(tl.int32), 1), 0) > 0:
            best = better(best, tl.topk(found, K), K)

    place = ((batch * splits + split) * queries + m[:, None]) * K + tl.arange(0, K)[None, :]
    tl.store(candidates + place, best, mask=inside_m[:, None])


@triton.jit(do_not_specialize=["queries", "splits"])
def choose_kernel(
    candidates, indices, weights, lse, queries, splits, chosen,
    K: tl.constexpr, BLOCK_M: tl.constexpr,
):  # fmt: skip
    """From candidates `(B, splits, queries, K)` the best: indices and weights `(B, queries, chosen)`, and lse."""
    batch = tl.program_id(1).to(tl.int64)
    m = tl.cast(tl.program_id(0), tl.int64) * BLOCK_M + tl.arange(0, BLOCK_M)  # [M]
    column = tl.arange(0, K)  # [K]
    inside_m = m < queries
    best = tl.full([BLOCK_M, K], NOTHING, tl.int64)
    for split in range(splits):
        place = ((batch * splits + split) * queries + m[:, None]) * K + column[None, :]
        best = better(best, tl.load(candidates + place, mask=inside_m[:, None], other=NOTHING), K)
    score = tl.where(column[None, :] < chosen, unpacked_score(best), float("-inf"))  # [M, K]
    top = tl.max(score, 1)
    level = tl.where(top == float("-inf"), 0.0, top)
    weight = tl.exp2(score - level[:, None])
    total = tl.sum(weight, 1)
    weight /= tl.where(total == 0.0, 1.0, total)[:, None]
    token = tl.where(best == NOTHING, 0, ~best & LOWER_HALF)
    place = (batch * queries + m[:, None]) * chosen + column[None, :]
    inside = inside_m[:, None] & (column[None, :] < chosen)
    tl.store(indices + place, token, mask=inside)
    tl.store(weights + place, weight, mask=inside)
    tl.store(lse + batch * queries + m, (level + tl.log2(total)) * LN_2, mask=inside_m)


@triton.jit(do_not_specialize=["queries"])
def gather_kernel(
    value, indices, weights, out, queries, chosen,
    value_batch, value_object, value_channel, value_item,
    VALUE_CHANNELS: tl.constexpr, ROWS: tl.constexpr, VALUE_UNIT: tl.constexpr, OFFSET: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_V: tl.constexpr,
):  # fmt: skip
    """The weighted sum of the chosen values: out `(B, ROWS, queries)`."""
    batch = tl.program_id(2).to(tl.int64)
    m = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)  # [M]
    row = tl.program_id(1) * BLOCK_V + tl.arange(0, BLOCK_V)  # [V]
    inside_m, inside_row = m < queries, row < ROWS
    value += batch * value_batch * VALUE_UNIT
    value_place = row_places(row, value_object, value_channel, ROWS, VALUE_CHANNELS, VALUE_UNIT, OFFSET)  # [V]
    place = (batch * queries + m) * chosen
    readout = tl.zeros([BLOCK_V, BLOCK_M], tl.float32)
    for column in range(chosen):
        weight = tl.load(weights + place + column, mask=inside_m, other=0.0)  # [M]
        token = tl.load(indices + place + column, mask=inside_m, other=0)  # [M]
        wanted = inside_row[:, None] & (weight != 0.0)[None, :]
        v = tl.load(
            value + (value_place[:, None] + (token.to(OFFSET) * value_item)[None, :]), mask=wanted, other=0.0
        )  # [V, M]
        readout += weight[None, :] * v.to(tl.float32)
    tl.store(
        out + (batch * ROWS + row[:, None]) * queries + m[None, :],
        readout.to(out.dtype.element_ty),
        mask=inside_row[:, None] & inside_m[None, :],
    )


def top_k_read(
    operands: Operands,
    value: Tensor,
    out: Tensor,
    lse: Tensor,
    indices: Tensor,
    weights: Tensor,
    tile: Tile | None = None,
    splits: int | None = None,
) -> None:
    """Softmax over the best memory tokens of each query; of equal ones the lower index is better.

    Args:
        operands: operands of the scores.
        value: `(B, O, Cv, Nk)`.
        out: room for the readout `(B, O, Cv, Nq)`, contiguous.
        lse: room for log Σ exp of the chosen scores `(B, Nq)` float32, contiguous.
        indices: room for the chosen tokens, best first, `(B, Nq, k)` int64, contiguous. Places that a small memory
            leaves free get 0.
        weights: room for their weights `(B, Nq, k)` float32, contiguous; 0 in free places.
        tile: instead of the table's; its rows are not used.
        splits: into how many splits the memory is split, instead of what fills the chip.
    """
    batch, objects, channels, queries = out.shape
    tokens, top_k = value.shape[3], indices.shape[2]
    padded = max(2, triton.next_power_of_2(top_k))
    tile = tile or tile_for("top_k" if padded <= WIDE_TOP_K else "top_k_wide", operands.key, operands.key)
    tile = tile._replace(tokens=max(tile.tokens, padded))
    programs = blocks(queries, tile.queries) * batch
    room = TOP_K_RESIDENT * processors(value.device)
    splits = splits or split_count(programs, blocks(tokens, tile.tokens), room)
    candidates = indices.new_empty(batch, splits, queries, padded)
    with on_device_of(value):
        candidates_kernel[blocks(queries, tile.queries) * splits, batch](
            **with_distances(score_arguments(operands, tile)),
            candidates=candidates,
            splits=splits,
            K=padded,
            PRECISION=precision(tile, operands.query),
            **tile.options(),
        )
        choose_kernel[blocks(queries, tile.queries), batch](
            candidates, indices, weights, lse, queries, splits, top_k,
            K=padded, BLOCK_M=tile.queries, num_warps=tile.warps,
        )  # fmt: skip
        gather_kernel[
            blocks(queries, GATHER_TILE.queries), blocks(objects * channels, GATHER_TILE.value_channels), batch
        ](
            **with_distances(scattered("value", value)),
            indices=indices,
            weights=weights,
            out=out,
            queries=queries,
            chosen=top_k,
            **GATHER_TILE.options(),
        )
