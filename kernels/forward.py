"""The dense read: a softmax over all memory tokens, split over programs, and the exact merge of the splits."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from stm_fast.kernels.launch import (
    Operands,
    blocks,
    on_device_of,
    precision,
    processors,
    score_arguments,
    split_count,
    value_arguments,
    with_offsets,
)
from stm_fast.kernels.primitives import LN_2, LOG2_E, affine, begin, first_queries, products, row_place, strided
from stm_fast.kernels.tiles import MERGE_TILE, Tile, rescales_lazily, tile_for

RESCALE_AT = tl.constexpr(8.0)
"""The running maximum follows the scores once they pass it by a factor of 2⁸: until then weights above one are as
exact as those below, and the readout need not be rescaled."""


@triton.jit(do_not_specialize=["queries", "tokens", "splits"])
def dense_kernel(
    query, key, gain, offset, bias, value, out, lse, scale, queries, tokens, splits,
    query_batch, query_channel, query_item, key_batch, key_channel, key_item,
    value_batch, value_object, value_channel, value_item,
    CHANNELS: tl.constexpr, VALUE_CHANNELS: tl.constexpr, ROWS: tl.constexpr, UNIT: tl.constexpr,
    QUERY_UNIT: tl.constexpr, TOKEN_UNIT: tl.constexpr, OFFSET: tl.constexpr, PRECISION: tl.constexpr,
    LAZY: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_V: tl.constexpr,
):  # fmt: skip
    """One split of the memory read by one tile of queries, for some of the value's channels.

    Writes out `(B, splits, ROWS, queries)` and lse `(B, splits, queries)`.
    """
    queries, tokens = queries * QUERY_UNIT, tokens * TOKEN_UNIT
    tile, split = tl.program_id(0) % tl.cdiv(queries, BLOCK_M), tl.program_id(0) // tl.cdiv(queries, BLOCK_M)
    batch = tl.program_id(2).to(tl.int64)
    m = tile * BLOCK_M + tl.arange(0, BLOCK_M)  # [M]
    row = tl.program_id(1) * BLOCK_V + tl.arange(0, BLOCK_V)  # [V]
    inside_m, inside_row = m < queries, row < ROWS
    query_channel, key_channel = strided(query_channel, UNIT, OFFSET), strided(key_channel, UNIT, OFFSET)
    value_object, value_channel = strided(value_object, UNIT, OFFSET), strided(value_channel, UNIT, OFFSET)
    query = begin(query, batch, query_batch, tile * BLOCK_M, query_item, UNIT)
    query_place = tl.arange(0, BLOCK_M).to(OFFSET) * query_item  # [M]
    key_place = tl.arange(0, BLOCK_N).to(OFFSET) * key_item  # [N]
    value_place = row_place(row.to(OFFSET), value_object, value_channel, VALUE_CHANNELS)[None, :]
    value_place += (tl.arange(0, BLOCK_N).to(OFFSET) * value_item)[:, None]  # [N, V]
    q = first_queries(query, query_place, query_channel, inside_m, CHANNELS, BLOCK_C, OFFSET)

    length = tl.cdiv(tl.cdiv(tokens, BLOCK_N), splits) * BLOCK_N
    first = split * length
    top = tl.full([BLOCK_M], float("-inf"), tl.float32)
    total = tl.zeros([BLOCK_M], tl.float32)
    readout = tl.zeros([BLOCK_M, BLOCK_V], tl.float32)
    for start in range(first, tl.minimum(first + length, tokens), BLOCK_N):
        n = start + tl.arange(0, BLOCK_N)  # [N]
        inside_n = n < tokens
        product = products(
            q, query, begin(key, batch, key_batch, start, key_item, UNIT), query_place, key_place,
            query_channel, key_channel, inside_m, inside_n, CHANNELS, BLOCK_C, OFFSET, PRECISION,
        )  # fmt: skip
        score, _ = affine(product, gain, offset, bias, scale, batch, m, n, queries, tokens)  # [M, N]
        best = tl.max(score, 1)
        risen = best > top + RESCALE_AT
        new_top = tl.where(risen, best, top)
        level = tl.where(new_top == float("-inf"), 0.0, new_top)
        if not LAZY:
            decay = tl.exp2(top - level)
            total *= decay
            readout *= decay[:, None]
        elif tl.max(risen.to(tl.int32), 0) > 0:
            decay = tl.exp2(top - level)
            total *= decay
            readout *= decay[:, None]
        top = new_top
        weight = tl.exp2(score - level[:, None])  # [M, N]
        total += tl.sum(weight, 1)
        v = tl.load(
            begin(value, batch, value_batch, start, value_item, UNIT) + value_place,
            mask=inside_n[:, None] & inside_row[None, :],
            other=0.0,
        )  # [N, V]
        readout = tl.dot(weight.to(v.dtype), v, readout, input_precision=PRECISION)

    readout /= tl.where(total == 0.0, 1.0, total)[:, None]
    place = batch * splits + split
    tl.store(
        out + place * ROWS * queries + (row.to(tl.int64) * queries)[None, :] + m[:, None],
        readout.to(out.dtype.element_ty),
        mask=inside_m[:, None] & inside_row[None, :],
    )
    if tl.program_id(1) == 0:
        level = tl.where(top == float("-inf"), 0.0, top)
        tl.store(lse + place * queries + m, (level + tl.log2(total)) * LN_2, mask=inside_m)


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
    top = tl.full([BLOCK_M], float("-inf"), tl.float32)
    for split in range(splits):
        top = tl.maximum(top, tl.load(split_lse + split * queries, mask=inside_m, other=0.0), tl.PropagateNan.ALL)
    level = tl.where(top == float("-inf"), 0.0, top)
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
    batch, objects, channels, queries = out.shape
    rows, tokens = objects * channels, value.shape[3]
    tile = tile or tile_for("read", operands.key, value)
    programs = blocks(queries, tile.queries) * blocks(rows, tile.rows) * batch
    splits = splits or split_count(programs, blocks(tokens, tile.tokens), processors(value.device))
    split_out, split_lse = out, lse
    if splits > 1:
        split_out = out.new_empty(batch, splits, rows, queries, dtype=torch.float32)
        split_lse = lse.new_empty(batch, splits, queries)
    with on_device_of(value):
        dense_kernel[blocks(queries, tile.queries) * splits, blocks(rows, tile.rows), batch](
            **with_offsets(score_arguments(operands), value_arguments("value", value)),
            out=split_out,
            lse=split_lse,
            splits=splits,
            LAZY=rescales_lazily(value.device),
            PRECISION=precision(operands.query, value),
            **tile.options(),
        )
        if splits > 1:
            merge(split_out, split_lse, out, lse)


def merge(split_out: Tensor, split_lse: Tensor, out: Tensor, lse: Tensor) -> None:
    """Merge reads of splits `(B, splits, O·Cv, Nq)` with their lse `(B, splits, Nq)` into `out` and `lse`."""
    batch, splits, rows, queries = split_out.shape
    tile = MERGE_TILE
    merge_kernel[blocks(queries, tile.queries), blocks(rows, tile.rows), batch](
        split_out,
        split_lse,
        out,
        lse,
        queries,
        splits,
        ROWS=rows,
        BLOCK_M=tile.queries,
        BLOCK_V=tile.rows,
        num_warps=tile.warps,
        num_stages=tile.stages,
    )
