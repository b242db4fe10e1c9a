"""The read of the best memory tokens of each query.

A candidate is one 64-bit number: its score in the upper half, in an order of integers that is that of the scores, and
its token in the lower half, lower ones first. The largest numbers are then the best candidates, and equal scores are
told apart. Splits of the memory find their candidates on their own; those of all splits are merged exactly.

A split is read twice. Tokens at the same place of a tile are a group, and the K-th largest of the groups' maxima, a
few instructions a tile, is a level that at least K scores exceed, and rarely many more. These are then listed, in the
order of their tokens, and sorted once. A list that is full before is sorted early, and raises its level.
"""

import triton
import triton.language as tl
from torch import Tensor

from stm_fast.kernels.launch import (
    Operands,
    blocks,
    key_of,
    on_device_of,
    precision,
    processors,
    scattered,
    score_arguments,
    score_tensors,
    with_distances,
)
from stm_fast.kernels.plans import Launch, Plan, plan_of
from stm_fast.kernels.primitives import LN_2, affine, load_rows, load_scattered, products, row_places, second_channels
from stm_fast.kernels.splits import Work, results_time, split_count, tile_time
from stm_fast.kernels.tiles import GATHER_TILE, WIDE_TOP_K, Tile, tile_for

NOTHING = tl.constexpr(-(2**63))
LOWER_HALF = tl.constexpr(2**32 - 1)
NO_CHOICE = tl.constexpr(2**63 - 2**32)
STRETCH = tl.constexpr(32)
"""Tiles that are read before a full list is sorted: a loop without a way out is one that fetches ahead."""
CHOOSE_QUERIES = 16
"""Whose candidates a program merges."""


@triton.jit
def packed(score, token):
    """Candidates from scores `[M, N]` and their tokens `[N]`. NaN is better than anything."""
    bits = tl.where(score != score, 0x7FC00000, (score + 0.0).to(tl.int32, bitcast=True))
    ordered = bits ^ ((bits >> 31) & 0x7FFFFFFF)
    return (ordered.to(tl.int64) << 32) | (~token.to(tl.int64) & LOWER_HALF)[None, :]


@triton.jit
def unpacked_score(candidate):
    """Scores of candidates; −inf where there is none."""
    ordered = (candidate >> 32).to(tl.int32)
    bits = ordered ^ ((ordered >> 31) & 0x7FFFFFFF)
    return tl.where(candidate == NOTHING, float("-inf"), bits.to(tl.float32, bitcast=True))


@triton.jit
def better(first, second):
    """The K best of two sorted lists of candidates `[M, K]`, of which the second begins with its worst; best first."""
    return tl.bitonic_merge(tl.maximum(first, second), descending=True)


@triton.jit
def level_below(maxima, K: tl.constexpr):
    """A hair less than the K-th largest of the maxima of groups `[M, N]`: at least K scores of a query exceed it `[M]`.

    A maximum that is NaN does not count: its group's NaN is better than any level.
    """
    known = tl.where(maxima == maxima, maxima, float("-inf"))
    least = tl.min(tl.topk(known, K), 1)
    return least - tl.abs(least) * 1e-6 - 1e-30


@triton.jit
def sort_lists(lists, count, left, K: tl.constexpr, ROOM: tl.constexpr, BLOCK_M: tl.constexpr):
    """Put the K best candidates to the front of lists `(BLOCK_M, ROOM)` of `count` candidates each, best first.

    Lists are sorted a few at a time, and 2 · K candidates of each, which is all of most: more would not fit into
    registers. Threads find in memory what others have listed, and the counts in the last place of each list.
    """
    LISTS: tl.constexpr = 16 if K <= 32 else 4
    m = tl.arange(0, BLOCK_M)
    tl.store(lists + m * ROOM + ROOM - 1, count.to(tl.int64), mask=m < left)
    tl.debug_barrier()
    column = tl.arange(0, 2 * K)[None, :]
    front = tl.arange(0, K)[None, :]
    for first in range(0, BLOCK_M, LISTS):
        inside_some = first + tl.arange(0, LISTS) < left
        some = lists + (first + tl.arange(0, LISTS)) * ROOM  # [LISTS]
        size = tl.load(some + ROOM - 1, mask=inside_some, other=0).to(tl.int32)
        best = tl.topk(tl.load(some[:, None] + column, mask=column < size[:, None], other=NOTHING), K)
        for start in range(2 * K, tl.max(size, 0), 2 * K):
            more = start + column
            found = tl.load(some[:, None] + more, mask=more < size[:, None], other=NOTHING)
            best = better(best, tl.flip(tl.topk(found, K), 1))
        tl.debug_barrier()
        tl.store(some[:, None] + front, best, mask=inside_some[:, None])
    tl.debug_barrier()


@triton.jit
def tile_scores(
    q, second_q, query_source, key_source, gain, offset, bias, scale, batch, first_query, start, queries, tokens,
    CHANNELS: tl.constexpr, QUERY_UNIT: tl.constexpr, KEY_UNIT: tl.constexpr, OFFSET: tl.constexpr,
    PRECISION: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """Scores of a tile of queries and the tile of tokens that begins at `start`, `[M, N]`."""
    k = load_rows(key_source, batch, 0, start, tokens, CHANNELS, CHANNELS, KEY_UNIT, OFFSET, BLOCK_C, BLOCK_N)  # [C, N]
    product = products(
        q, second_q, k, query_source, key_source, batch, first_query, start, queries, tokens,
        CHANNELS, QUERY_UNIT, KEY_UNIT, OFFSET, PRECISION, BLOCK_C, BLOCK_M, BLOCK_N,
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
    OFFSET: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_V: tl.constexpr,
):  # fmt: skip
    """The K best candidates of one tile of queries in one split of the memory, best first.

    They begin each of the lists `(B, splits, queries, ROOM)`; the rest is workspace. BLOCK_N is 2 · K or more, and
    ROOM is K + BLOCK_N + 1: a sorted list has room for all of the next tile.
    """
    queries, tokens = queries * QUERIES_UNIT, tokens * TOKENS_UNIT
    query_source = (query, query_descriptor, QUERY_BY_ITEM, query_batch, 0, query_channel, query_item)
    key_source = (key, key_descriptor, KEY_BY_ITEM, key_batch, 0, key_channel, key_item)
    tile, split = tl.program_id(0) % tl.cdiv(queries, BLOCK_M), tl.program_id(0) // tl.cdiv(queries, BLOCK_M)
    batch = tl.program_id(1).to(tl.int64)
    first_query = tile * BLOCK_M
    inside_m = first_query + tl.arange(0, BLOCK_M) < queries  # [M]
    q = load_rows(
        query_source, batch, 0, first_query, queries, CHANNELS, CHANNELS, QUERY_UNIT, OFFSET, BLOCK_C, BLOCK_M
    )  # [C, M]
    second_q = second_channels(
        query_source, batch, first_query, queries, q, CHANNELS, QUERY_UNIT, OFFSET, BLOCK_C, BLOCK_M
    )  # [C, M]
    length = tl.cdiv(tl.cdiv(tokens, BLOCK_N), splits) * BLOCK_N
    first = split * length
    last = tl.minimum(first + length, tokens)

    maxima = tl.full([BLOCK_M, BLOCK_N], float("-inf"), tl.float32)
    for start in range(first, last, BLOCK_N):
        score = tile_scores(
            q, second_q, query_source, key_source, gain, offset, bias, scale, batch, first_query, start,
            queries, tokens, CHANNELS, QUERY_UNIT, KEY_UNIT, OFFSET, PRECISION, BLOCK_M, BLOCK_N, BLOCK_C,
        )  # [M, N]  # fmt: skip
        maxima = tl.maximum(maxima, score)  # [M, N]
    level = level_below(maxima, K)  # [M]

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
                queries, tokens, CHANNELS, QUERY_UNIT, KEY_UNIT, OFFSET, PRECISION, BLOCK_M, BLOCK_N, BLOCK_C,
            )  # [M, N]  # fmt: skip
            found = ~(score <= level[:, None]) & inside_m[:, None]  # [M, N]
            new = tl.sum(found.to(tl.int32), 1)  # [M]
            fullest = tl.max(tl.where(new > 0, count + new, 0), 0)
            full_at = tl.where(fullest > K + BLOCK_N, tl.minimum(full_at, start), full_at)
            if (fullest > 0) & (full_at == end):
                place = (row * ROOM - 1 + count)[:, None] + tl.cumsum(found.to(tl.int32), 1)  # [M, N]
                tl.store(lists + place, packed(score, start + tl.arange(0, BLOCK_N)), mask=found)
                count += new
        if (full_at < end) | (end >= last):
            sort_lists(lists, count, left, K, ROOM, BLOCK_M)
            worst = tl.load(lists + row * ROOM + K - 1, mask=inside_m, other=NOTHING)
            level = tl.where(count < K, level, unpacked_score(worst))
            count = tl.minimum(count, K)
        reached = full_at
        more = (reached < last).to(tl.int32)


@triton.jit(do_not_specialize=["queries", "splits"])
def choose_kernel(
    candidates, indices, weights, choices, lse, queries, splits, chosen,
    K: tl.constexpr, ROOM: tl.constexpr, BLOCK_M: tl.constexpr,
):  # fmt: skip
    """From lists of candidates `(B, splits, queries, ROOM)` the best: indices, weights `(B, queries, chosen)`, lse.

    And choices `(B, queries, K)` in the order of their tokens, with token and weight as halves of a 64-bit number:
    neighbouring queries then read neighbouring values at about the same time.
    """
    batch = tl.program_id(1).to(tl.int64)
    m = tl.cast(tl.program_id(0), tl.int64) * BLOCK_M + tl.arange(0, BLOCK_M)  # [M]
    column = tl.arange(0, K)  # [K]
    inside_m = m < queries
    best = tl.full([BLOCK_M, K], NOTHING, tl.int64)
    for split in range(splits):
        lists = candidates + ((batch * splits + split) * queries + m) * ROOM  # [M]
        worst_first = lists[:, None] + (K - 1 - column)[None, :]
        best = better(best, tl.load(worst_first, mask=inside_m[:, None], other=NOTHING))
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
    choice = (token << 32) | (weight.to(tl.int32, bitcast=True).to(tl.int64) & LOWER_HALF)
    choice = tl.sort(tl.where(column[None, :] < chosen, choice, NO_CHOICE), 1)
    tl.store(choices + (batch * queries + m[:, None]) * K + column[None, :], choice, mask=inside_m[:, None])
    tl.store(lse + batch * queries + m, (level + tl.log2(total)) * LN_2, mask=inside_m)


@triton.jit(do_not_specialize=["queries"])
def gather_kernel(
    value, choices, out, queries, chosen,
    value_batch, value_object, value_channel, value_item,
    K: tl.constexpr, CHANNELS_ADJACENT: tl.constexpr, VALUE_CHANNELS: tl.constexpr, ROWS: tl.constexpr,
    VALUE_UNIT: tl.constexpr, OFFSET: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_V: tl.constexpr,
):  # fmt: skip
    """The weighted sum of the chosen values: out `(B, ROWS, queries)`."""
    batch = tl.program_id(2).to(tl.int64)
    m = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)  # [M]
    row = tl.program_id(1) * BLOCK_V + tl.arange(0, BLOCK_V)  # [V]
    inside_m, inside_row = m < queries, row < ROWS
    value += batch * value_batch * VALUE_UNIT
    value_place = row_places(row, value_object, value_channel, ROWS, VALUE_CHANNELS, VALUE_UNIT, OFFSET)  # [V]
    place = (batch * queries + m) * K
    readout = tl.zeros([BLOCK_V, BLOCK_M], tl.float32)
    for column in range(chosen):
        choice = tl.load(choices + place + column, mask=inside_m, other=0)  # [M]
        weight, token = choice.to(tl.int32).to(tl.float32, bitcast=True), choice >> 32
        wanted = inside_row[:, None] & (weight != 0.0)[None, :]
        places = value_place[:, None] + (token.to(OFFSET) * value_item)[None, :]
        v = load_scattered(value, places, wanted, CHANNELS_ADJACENT)  # [V, M]
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
        tile: instead of the table's; its value channels are not used.
        splits: into how many splits the memory is cut, instead of what fills the chip.
    """
    tensors = score_tensors(operands) | {
        "value": value, "out": out, "lse": lse, "indices": indices, "weights": weights,
    }  # fmt: skip
    batch, queries, top_k = indices.shape
    padded = max(2, triton.next_power_of_2(top_k))
    with on_device_of(value):
        key = key_of("top_k", tensors, operands.scale, tile, splits)
        plan = plan_of(key, lambda: _plan(operands, value, top_k, padded, tile, splits))
        tensors["candidates"] = indices.new_empty(batch, plan.splits, queries, plan.room)
        tensors["choices"] = indices.new_empty(batch, queries, padded)
        for launch in plan.launches.values():
            launch(tensors)


def _plan(operands: Operands, value: Tensor, top_k: int, padded: int, tile: Tile | None, splits: int | None) -> Plan:
    batch, objects, channels, tokens = value.shape
    queries, rows = operands.query.shape[2], objects * channels
    tile = tile or tile_for("top_k" if padded <= WIDE_TOP_K else "top_k_wide", operands.key, operands.key)
    tile = tile._replace(tokens=max(tile.tokens, 2 * padded))
    work = Work(
        programs=blocks(queries, tile.queries) * batch,
        tiles=blocks(tokens, tile.tokens),
        tile=tile_time(tile, 2 * operands.query.shape[1], 0, operands.query, value),
        results=results_time(batch * queries * padded, 8, value.device),
    )
    splits = splits or split_count(work, processors(value.device))
    sizes = {"splits": splits, "K": padded, "ROOM": padded + tile.tokens + 1}
    candidates = Launch(
        candidates_kernel,
        (blocks(queries, tile.queries) * splits, batch),
        {
            **with_distances(score_arguments(operands, tile)),
            **sizes,
            "PRECISION": precision(tile, operands.query),
            **tile.options(),
        },
    )
    choose = Launch(
        choose_kernel,
        (blocks(queries, CHOOSE_QUERIES), batch),
        {**sizes, "queries": queries, "chosen": top_k, "BLOCK_M": CHOOSE_QUERIES, "num_warps": 4},
    )
    gather = Launch(
        gather_kernel,
        (blocks(queries, GATHER_TILE.queries), blocks(rows, GATHER_TILE.value_channels), batch),
        {
            **with_distances(scattered("value", value)),
            "queries": queries,
            "chosen": top_k,
            "K": padded,
            "CHANNELS_ADJACENT": value.stride(2) == 1,
            **GATHER_TILE.options(),
        },
    )
    return Plan({"candidates": candidates, "choose": choose, "gather": gather}, splits, sizes["ROOM"])
