"""The candidates of a top-k read: the K best tokens of each query in one split of the memory.

A candidate is one 64-bit number. Its upper half is the score, as an integer that orders like the score; its lower half
is the inverted token index. Larger numbers are better candidates, and of equal scores the lower token is better.

A split is read twice. Tokens at the same position of a tile form a group. The first pass finds the maximum of each
group, at a cost of a few instructions per tile. The K-th largest of these maxima is a threshold that at least K scores
reach, and rarely many more. The second pass lists the tokens above the threshold in their order; the list is then
sorted once. A list that overflows is sorted early, which raises its threshold.
"""

import triton
import triton.language as tl
from torch import Tensor

from stm_fast.kernels.launch import (
    blocks,
    precision,
    processors,
    score_arguments,
    with_index_type,
)
from stm_fast.kernels.operands import Operands
from stm_fast.kernels.plans import Launch
from stm_fast.kernels.primitives import affine, load_tile, products, second_channels
from stm_fast.kernels.splits import Work, results_time, split_count, tile_time
from stm_fast.kernels.tiles import WIDE_TOP_K, Tile, tile_for

NOTHING = tl.constexpr(-(2**63))
"""The candidate that is worse than any token."""
LOWER_HALF = tl.constexpr(2**32 - 1)
STRETCH = tl.constexpr(32)
"""Tiles between two checks for overflowing lists. Loops without an early exit are pipelined."""


@triton.jit
def pack(score, token):
    """Return candidates from scores `[M, N]` and their tokens `[N]`. NaN is better than any number."""
    bits = tl.where(score != score, 0x7FC00000, (score + 0.0).to(tl.int32, bitcast=True))
    ordered = bits ^ ((bits >> 31) & 0x7FFFFFFF)
    return (ordered.to(tl.int64) << 32) | (~token.to(tl.int64) & LOWER_HALF)[None, :]


@triton.jit
def score_of(candidate):
    """Return the scores of candidates, −inf for `NOTHING`."""
    ordered = (candidate >> 32).to(tl.int32)
    bits = ordered ^ ((ordered >> 31) & 0x7FFFFFFF)
    return tl.where(candidate == NOTHING, float("-inf"), bits.to(tl.float32, bitcast=True))


@triton.jit
def token_of(candidate):
    """Return the tokens of candidates, 0 for `NOTHING`."""
    return tl.where(candidate == NOTHING, 0, ~candidate & LOWER_HALF)


@triton.jit
def merge_sorted(best_first, worst_first):
    """Return the K best of two sorted lists of candidates `[M, K]`, best first."""
    return tl.bitonic_merge(tl.maximum(best_first, worst_first), descending=True)


@triton.jit
def threshold_below(maxima, K: tl.constexpr):
    """Return a number just below the K-th largest of the maxima of groups `[M, N]`: at least K scores exceed it `[M]`.

    Maxima that are NaN do not count: NaN scores exceed any threshold.
    """
    numbers = tl.where(maxima == maxima, maxima, float("-inf"))
    smallest = tl.min(tl.topk(numbers, K), 1)
    return smallest - tl.abs(smallest) * 1e-6 - 1e-30


@triton.jit
def sort_lists(lists, count, left, K: tl.constexpr, ROOM: tl.constexpr, BLOCK_M: tl.constexpr):
    """Move the K best candidates to the front of lists `(BLOCK_M, ROOM)` of `count` candidates each, best first.

    Registers limit this to a few lists and 2 · K candidates at a time, which is all that most lists hold. Threads
    exchange candidates, and the counts in the last column of the lists, through memory.
    """
    LISTS: tl.constexpr = 16 if K <= 32 else 4
    m = tl.arange(0, BLOCK_M)
    tl.store(lists + m * ROOM + ROOM - 1, count.to(tl.int64), mask=m < left)
    tl.debug_barrier()
    column = tl.arange(0, 2 * K)[None, :]
    front = tl.arange(0, K)[None, :]
    for first in range(0, BLOCK_M, LISTS):
        inside = first + tl.arange(0, LISTS) < left
        group = lists + (first + tl.arange(0, LISTS)) * ROOM  # [LISTS]
        size = tl.load(group + ROOM - 1, mask=inside, other=0).to(tl.int32)
        best = tl.topk(tl.load(group[:, None] + column, mask=column < size[:, None], other=NOTHING), K)
        for start in range(2 * K, tl.max(size, 0), 2 * K):
            more = start + column
            found = tl.load(group[:, None] + more, mask=more < size[:, None], other=NOTHING)
            best = merge_sorted(best, tl.flip(tl.topk(found, K), 1))
        tl.debug_barrier()
        tl.store(group[:, None] + front, best, mask=inside[:, None])
    tl.debug_barrier()


@triton.jit
def tile_scores(
    q, second_q, query_source, key_source, gain, offset, bias, scale, batch, first_query, start, queries, tokens,
    CHANNELS: tl.constexpr, QUERY_UNIT: tl.constexpr, KEY_UNIT: tl.constexpr, INDEX: tl.constexpr,
    PRECISION: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """Return scores of a tile of queries and the tile of tokens that begins at `start`, `[M, N]`."""
    k = load_tile(key_source, batch, 0, start, tokens, CHANNELS, CHANNELS, KEY_UNIT, INDEX, BLOCK_C, BLOCK_N)  # [C, N]
    product = products(
        q, second_q, k, query_source, key_source, batch, first_query, start, queries, tokens,
        CHANNELS, QUERY_UNIT, KEY_UNIT, INDEX, PRECISION, BLOCK_C, BLOCK_M, BLOCK_N,
    )  # [M, N]  # fmt: skip
    m, n = first_query + tl.arange(0, BLOCK_M), start + tl.arange(0, BLOCK_N)
    score, _ = affine(product, gain, offset, bias, scale, batch, m[:, None], n[None, :], queries, tokens)
    return score


@triton.jit(do_not_specialize=["queries", "tokens", "splits"])
def candidates_kernel(
    query, query_descriptor, key, key_descriptor, gain, offset, bias, candidates, scale, queries, tokens, splits,
    query_batch, query_channel, query_item, key_batch, key_channel, key_item,
    K: tl.constexpr, ROOM: tl.constexpr, CHANNELS: tl.constexpr, QUERY_UNIT: tl.constexpr, KEY_UNIT: tl.constexpr,
    QUERY_BY_ITEM: tl.constexpr, KEY_BY_ITEM: tl.constexpr, QUERIES_UNIT: tl.constexpr, TOKENS_UNIT: tl.constexpr,
    INDEX: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_V: tl.constexpr,
):  # fmt: skip
    """Find the K best candidates of one tile of queries in one split of the memory, best first.

    They are the first K of each list of candidates `(B, splits, queries, ROOM)`; the rest of a list is workspace.
    BLOCK_N is at least 2 · K, and ROOM is K + BLOCK_N + 1: a sorted list has room for a whole tile.
    """
    queries, tokens = queries * QUERIES_UNIT, tokens * TOKENS_UNIT
    query_source = (query, query_descriptor, QUERY_BY_ITEM, query_batch, 0, query_channel, query_item)
    key_source = (key, key_descriptor, KEY_BY_ITEM, key_batch, 0, key_channel, key_item)
    tile, split = tl.program_id(0) % tl.cdiv(queries, BLOCK_M), tl.program_id(0) // tl.cdiv(queries, BLOCK_M)
    batch = tl.program_id(1).to(tl.int64)
    first_query = tile * BLOCK_M
    inside_m = first_query + tl.arange(0, BLOCK_M) < queries  # [M]
    q = load_tile(
        query_source, batch, 0, first_query, queries, CHANNELS, CHANNELS, QUERY_UNIT, INDEX, BLOCK_C, BLOCK_M
    )  # [C, M]
    second_q = second_channels(
        query_source, batch, first_query, queries, q, CHANNELS, QUERY_UNIT, INDEX, BLOCK_C, BLOCK_M
    )  # [C, M]
    length = tl.cdiv(tl.cdiv(tokens, BLOCK_N), splits) * BLOCK_N
    first = split * length
    last = tl.minimum(first + length, tokens)

    maxima = tl.full([BLOCK_M, BLOCK_N], float("-inf"), tl.float32)
    for start in range(first, last, BLOCK_N):
        score = tile_scores(
            q, second_q, query_source, key_source, gain, offset, bias, scale, batch, first_query, start,
            queries, tokens, CHANNELS, QUERY_UNIT, KEY_UNIT, INDEX, PRECISION, BLOCK_M, BLOCK_N, BLOCK_C,
        )  # [M, N]  # fmt: skip
        maxima = tl.maximum(maxima, score)  # [M, N]
    threshold = threshold_below(maxima, K)  # [M]

    lists = candidates + ((batch * splits + split) * queries + first_query) * ROOM
    left = queries - first_query
    row = tl.arange(0, BLOCK_M)
    count = tl.zeros([BLOCK_M], tl.int32)
    reached, more = first, 1
    while more > 0:
        end = tl.minimum(reached + STRETCH * BLOCK_N, last)
        full_at = end
        for start in range(reached, end, BLOCK_N):
            score = tile_scores(
                q, second_q, query_source, key_source, gain, offset, bias, scale, batch, first_query, start,
                queries, tokens, CHANNELS, QUERY_UNIT, KEY_UNIT, INDEX, PRECISION, BLOCK_M, BLOCK_N, BLOCK_C,
            )  # [M, N]  # fmt: skip
            found = ~(score <= threshold[:, None]) & inside_m[:, None]  # [M, N]
            new = tl.sum(found.to(tl.int32), 1)  # [M]
            fullest = tl.max(tl.where(new > 0, count + new, 0), 0)
            full_at = tl.where(fullest > K + BLOCK_N, tl.minimum(full_at, start), full_at)
            if (fullest > 0) & (full_at == end):
                position = (row * ROOM - 1 + count)[:, None] + tl.cumsum(found.to(tl.int32), 1)  # [M, N]
                tl.store(lists + position, pack(score, start + tl.arange(0, BLOCK_N)), mask=found)
                count += new
        if (full_at < end) | (end >= last):
            sort_lists(lists, count, left, K, ROOM, BLOCK_M)
            worst = tl.load(lists + row * ROOM + K - 1, mask=inside_m, other=NOTHING)
            threshold = tl.where(count < K, threshold, score_of(worst))
            count = tl.minimum(count, K)
        reached = full_at
        more = (reached < last).to(tl.int32)


def candidates_launch(
    operands: Operands, value: Tensor, K: int, tile: Tile | None, splits: int | None
) -> tuple[Launch, int, int]:
    """Return the launch of the kernel, the number of splits of the memory and the length of a list of candidates.

    Args:
        operands: operands of the scores.
        value: `(B, O, Cv, Nk)`.
        K: number of candidates of a query and split, a power of two.
        tile: tile to use instead of the table's.
        splits: number of splits of the memory, by default what fills the chip.
    """
    batch, channels, queries = operands.query.shape
    tile = tile or tile_for("top_k" if K <= WIDE_TOP_K else "top_k_wide", operands.key, operands.key)
    tile = tile._replace(tokens=max(tile.tokens, 2 * K))
    query_tiles = blocks(queries, tile.queries)
    work = Work(
        programs=query_tiles * batch,
        tiles=blocks(operands.key.shape[2], tile.tokens),
        tile=tile_time(tile, 2 * channels, 0, operands.query, value),
        results=results_time(batch * queries * K, 8, value.device),
    )
    splits = splits or split_count(work, processors(value.device))
    room = K + tile.tokens + 1
    arguments = {
        **with_index_type(score_arguments(operands, tile)),
        "splits": splits,
        "K": K,
        "ROOM": room,
        "PRECISION": precision(tile, operands.query),
        **tile.options(),
    }
    return Launch(candidates_kernel, (query_tiles * splits, batch), arguments), splits, room
