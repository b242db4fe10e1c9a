"""The dense read: a softmax over all memory tokens, split over programs, and the exact merge of the splits."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from stm_fast.kernels.launch import (
    Operands,
    all_have_descriptors,
    blocks,
    key_of,
    on_device_of,
    precision,
    processors,
    score_arguments,
    score_tensors,
    value_arguments,
    with_distances,
)
from stm_fast.kernels.plans import Launch, Plan, plan_of
from stm_fast.kernels.primitives import LN_2, LOG2_E, affine, finite, load_rows, products, second_channels
from stm_fast.kernels.splits import MERGE_LAUNCH, Work, results_time, split_count, tile_time
from stm_fast.kernels.tiles import MERGE_TILE, Tile, rescales_lazily, tile_for

RESCALE_AT = tl.constexpr(8.0)
"""The running maximum of a lazy read follows the scores once they pass it by a factor of 2⁸: until then weights above
one are as exact as those below, and the readout need not be rescaled."""


@triton.jit(do_not_specialize=["queries", "tokens", "splits"])
def dense_kernel(
    query, query_descriptor, key, key_descriptor, value, value_descriptor, gain, offset, bias, out, lse,
    scale, queries, tokens, splits,
    query_batch, query_channel, query_item, key_batch, key_channel, key_item,
    value_batch, value_object, value_channel, value_item,
    CHANNELS: tl.constexpr, VALUE_CHANNELS: tl.constexpr, ROWS: tl.constexpr,
    QUERY_UNIT: tl.constexpr, KEY_UNIT: tl.constexpr, VALUE_UNIT: tl.constexpr,
    QUERY_BY_ITEM: tl.constexpr, KEY_BY_ITEM: tl.constexpr, VALUE_BY_ITEM: tl.constexpr,
    QUERIES_UNIT: tl.constexpr, TOKENS_UNIT: tl.constexpr, OFFSET: tl.constexpr, PRECISION: tl.constexpr,
    LAZY: tl.constexpr, SPECIALIZED: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_V: tl.constexpr,
):  # fmt: skip
    """One split of the memory read by one tile of queries, for some of the value's channels.

    Writes out `(B, splits, ROWS, queries)` and lse `(B, splits, queries)`.
    """
    queries, tokens = queries * QUERIES_UNIT, tokens * TOKENS_UNIT
    query_source = (query, query_descriptor, QUERY_BY_ITEM, query_batch, 0, query_channel, query_item)
    key_source = (key, key_descriptor, KEY_BY_ITEM, key_batch, 0, key_channel, key_item)
    value_source = (value, value_descriptor, VALUE_BY_ITEM, value_batch, value_object, value_channel, value_item)
    tile, split = tl.program_id(0) % tl.cdiv(queries, BLOCK_M), tl.program_id(0) // tl.cdiv(queries, BLOCK_M)
    batch = tl.program_id(2).to(tl.int64)
    first_row = tl.program_id(1) * BLOCK_V
    m = tile * BLOCK_M + tl.arange(0, BLOCK_M)  # [M]
    q = load_rows(
        query_source, batch, 0, tile * BLOCK_M, queries,
        CHANNELS, CHANNELS, QUERY_UNIT, OFFSET, BLOCK_C, BLOCK_M,
    )  # [C, M]  # fmt: skip
    second_q = second_channels(
        query_source, batch, tile * BLOCK_M, queries, q, CHANNELS, QUERY_UNIT, OFFSET, BLOCK_C, BLOCK_M
    )  # [C, M]

    length = tl.cdiv(tl.cdiv(tokens, BLOCK_N), splits) * BLOCK_N
    first = split * length
    running_max = tl.full([BLOCK_M], float("-inf"), tl.float32)
    running_sum = tl.zeros([BLOCK_M], tl.float32)
    readout = tl.zeros([BLOCK_M, BLOCK_V], tl.float32)
    for start in tl.range(first, tl.minimum(first + length, tokens), BLOCK_N, warp_specialize=SPECIALIZED):
        k = load_rows(
            key_source, batch, 0, start, tokens, CHANNELS, CHANNELS, KEY_UNIT, OFFSET, BLOCK_C, BLOCK_N
        )  # [C, N]
        product = products(
            q, second_q, k, query_source, key_source, batch, tile * BLOCK_M, start, queries, tokens,
            CHANNELS, QUERY_UNIT, KEY_UNIT, OFFSET, PRECISION, BLOCK_C, BLOCK_M, BLOCK_N,
        )  # [M, N]  # fmt: skip
        n = start + tl.arange(0, BLOCK_N)  # [N]
        score, _ = affine(product, gain, offset, bias, scale, batch, m[:, None], n[None, :], queries, tokens)  # [M, N]
        tile_max = tl.max(score, 1)
        if LAZY:
            risen = tile_max > running_max + RESCALE_AT
            new_max = tl.where(risen, tile_max, running_max)
            level = finite(new_max)
            if tl.max(risen.to(tl.int32), 0) > 0:
                decay = tl.exp2(running_max - level)
                running_sum *= decay
                readout *= decay[:, None]
        else:
            new_max = tl.maximum(running_max, tile_max)
            level = finite(new_max)
            decay = tl.exp2(running_max - level)
            running_sum *= decay
            readout *= decay[:, None]
        running_max = new_max
        weight = tl.exp2(score - level[:, None])  # [M, N]
        running_sum += tl.sum(weight, 1)
        v = load_rows(
            value_source, batch, first_row, start, tokens,
            ROWS, VALUE_CHANNELS, VALUE_UNIT, OFFSET, BLOCK_V, BLOCK_N,
        )  # [V, N]  # fmt: skip
        readout = tl.dot(weight.to(v.dtype), v.trans(), readout, input_precision=PRECISION)

    readout /= tl.where(running_sum == 0.0, 1.0, running_sum)[:, None]
    row = first_row + tl.arange(0, BLOCK_V)  # [V]
    place = batch * splits + split
    tl.store(
        out + place * ROWS * queries + (row.to(tl.int64) * queries)[None, :] + m[:, None],
        readout.to(out.dtype.element_ty),
        mask=(m < queries)[:, None] & (row < ROWS)[None, :],
    )
    if tl.program_id(1) == 0:
        tl.store(lse + place * queries + m, (finite(running_max) + tl.log2(running_sum)) * LN_2, mask=m < queries)


@triton.jit(do_not_specialize=["splits"])
def merge_kernel(
    split_out, split_lse, out, lse, queries, splits,
    ROWS: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_V: tl.constexpr,
):  # fmt: skip
    """Reads of disjoint splits of a memory `(B, splits, ROWS, queries)` become the read of the whole."""
    batch = tl.program_id(2).to(tl.int64)
    m = tl.cast(tl.program_id(0), tl.int64) * BLOCK_M + tl.arange(0, BLOCK_M)  # [M]
    row = tl.cast(tl.program_id(1), tl.int64) * BLOCK_V + tl.arange(0, BLOCK_V)  # [V]
    inside_m = m < queries
    inside = (row < ROWS)[:, None] & inside_m[None, :]
    split_lse += batch * splits * queries + m
    running_max = tl.full([BLOCK_M], float("-inf"), tl.float32)
    for split in range(splits):
        split_max = tl.load(split_lse + split * queries, mask=inside_m, other=0.0)
        running_max = tl.maximum(running_max, split_max, tl.PropagateNan.ALL)
    level = finite(running_max)
    total = tl.zeros([BLOCK_M], tl.float32)
    readout = tl.zeros([BLOCK_V, BLOCK_M], tl.float32)
    for split in range(splits):
        weight = tl.exp2((tl.load(split_lse + split * queries, mask=inside_m, other=0.0) - level) * LOG2_E)  # [M]
        place = (batch * splits + split) * ROWS + row[:, None]
        total += weight
        readout += weight[None, :] * tl.load(split_out + place * queries + m[None, :], mask=inside, other=0.0)
    readout /= tl.where(total == 0.0, 1.0, total)[None, :]
    place = batch * ROWS + row[:, None]
    tl.store(out + place * queries + m[None, :], readout.to(out.dtype.element_ty), mask=inside)
    if tl.program_id(1) == 0:
        tl.store(lse + batch * queries + m, level + tl.log2(total) * LN_2, mask=inside_m)


def read(
    operands: Operands, value: Tensor, out: Tensor, lse: Tensor, tile: Tile | None = None, splits: int | None = None
) -> None:
    """Softmax over all memory tokens.

    Args:
        operands: operands of the scores.
        value: `(B, O, Cv, Nk)`.
        out: room for the readout `(B, O, Cv, Nq)`, contiguous.
        lse: room for log Σ exp of the scores `(B, Nq)` float32, contiguous.
        tile: instead of the table's.
        splits: into how many splits the memory is split, instead of what fills the chip.
    """
    tensors = {**score_tensors(operands), "value": value, "out": out, "lse": lse}
    with on_device_of(value):
        key = key_of("read", tensors, operands.scale, tile, splits)
        plan = plan_of(key, lambda: _plan(operands, value, out, tile, splits))
        if plan.splits == 1:
            plan.launches["dense"](tensors)
            return
        batch, objects, channels, queries = out.shape
        split_out = out.new_empty(batch, plan.splits, objects * channels, queries, dtype=torch.float32)
        split_lse = lse.new_empty(batch, plan.splits, queries)
        plan.launches["dense"]({**tensors, "out": split_out, "lse": split_lse})
        plan.launches["merge"]({"split_out": split_out, "split_lse": split_lse, "out": out, "lse": lse})


def _plan(operands: Operands, value: Tensor, out: Tensor, tile: Tile | None, splits: int | None) -> Plan:
    batch, objects, channels, queries = out.shape
    rows, tokens = objects * channels, value.shape[3]
    tile = tile or tile_for("read", operands.key, value)
    work = Work(
        programs=blocks(queries, tile.queries) * blocks(rows, tile.value_channels) * batch,
        tiles=blocks(tokens, tile.tokens),
        tile=tile_time(tile, operands.query.shape[1], tile.value_channels, operands.query, value),
        results=results_time(batch * rows * queries, 4, value.device),
        merge=MERGE_LAUNCH,
    )
    splits = splits or split_count(work, processors(value.device))
    arguments = with_distances(score_arguments(operands, tile), value_arguments("value", value, tile, tile.tokens))
    dense = Launch(
        dense_kernel,
        (blocks(queries, tile.queries) * splits, blocks(rows, tile.value_channels), batch),
        {
            **arguments,
            "splits": splits,
            "LAZY": rescales_lazily(value.device),
            "SPECIALIZED": tile.specialized and all_have_descriptors(arguments),
            "PRECISION": precision(tile, operands.query, value),
            **tile.options(),
        },
    )
    if splits == 1:
        return Plan({"dense": dense})
    merge = Launch(
        merge_kernel,
        (blocks(queries, MERGE_TILE.queries), blocks(rows, MERGE_TILE.value_channels), batch),
        {
            "queries": queries,
            "splits": splits,
            "ROWS": rows,
            "BLOCK_M": MERGE_TILE.queries,
            "BLOCK_V": MERGE_TILE.value_channels,
            "num_warps": MERGE_TILE.warps,
            "num_stages": MERGE_TILE.stages,
        },
    )
    return Plan({"dense": dense, "merge": merge}, splits)
