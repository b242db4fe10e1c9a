"""The dense read: a softmax over all memory tokens, split over programs, and the exact merge of the parts."""

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
    split,
    value_arguments,
    with_offsets,
)
from stm_fast.kernels.scores import LN_2, LOG2_E, affine, begin, held_queries, of_batch, products, row_place, strided
from stm_fast.kernels.tiles import MERGE_TILE, Tile, rescales_lazily, tile_for

RESCALE_AT = tl.constexpr(8.0)
"""The running maximum follows the scores once they pass it by a factor of 2⁸: until then weights above one are as
exact as those below, and the readout need not be rescaled."""


@triton.jit(do_not_specialize=["queries", "tokens", "parts"])
def dense_kernel(
    query, key, gain, offset, bias, value, out, lse, scale, queries, tokens, parts,
    query_batch, query_channel, query_item, key_batch, key_channel, key_item,
    value_batch, value_object, value_channel, value_item,
    CHANNELS: tl.constexpr, VALUE_CHANNELS: tl.constexpr, ROWS: tl.constexpr, UNIT: tl.constexpr,
    QUERY_UNIT: tl.constexpr, TOKEN_UNIT: tl.constexpr, OFFSET: tl.constexpr, PRECISION: tl.constexpr,
    LAZY: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_V: tl.constexpr,
):  # fmt: skip
    """One part of the memory read by one tile of queries, for some of the value's channels.

    Writes out `(B, parts, ROWS, queries)` and lse `(B, parts, queries)`.
    """
    queries, tokens = queries * QUERY_UNIT, tokens * TOKEN_UNIT
    tile, part = tl.program_id(0) % tl.cdiv(queries, BLOCK_M), tl.program_id(0) // tl.cdiv(queries, BLOCK_M)
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
    q = held_queries(query, query_place, query_channel, inside_m, CHANNELS, BLOCK_C, OFFSET)
    gain, offset, bias = of_batch(gain, batch, tokens), of_batch(offset, batch, queries), of_batch(bias, batch, tokens)

    length = tl.cdiv(tl.cdiv(tokens, BLOCK_N), parts) * BLOCK_N
    first = part * length
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
        score, _ = affine(product, gain, offset, bias, scale, m, n, queries, tokens)  # [M, N]
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
    place = batch * parts + part
    tl.store(
        out + place * ROWS * queries + (row.to(tl.int64) * queries)[None, :] + m[:, None],
        readout.to(out.dtype.element_ty),
        mask=inside_m[:, None] & inside_row[None, :],
    )
    if tl.program_id(1) == 0:
        level = tl.where(top == float("-inf"), 0.0, top)
        tl.store(lse + place * queries + m, (level + tl.log2(total)) * LN_2, mask=inside_m)


@triton.jit(do_not_specialize=["parts"])
def merge_kernel(
    part_out, part_lse, out, lse, queries, parts,
    ROWS: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_V: tl.constexpr,
):  # fmt: skip
    """Reads of disjoint parts of a memory `(B, parts, ROWS, queries)` become the read of the whole."""
    batch = tl.program_id(2).to(tl.int64)
    m = tl.cast(tl.program_id(0), tl.int64) * BLOCK_M + tl.arange(0, BLOCK_M)  # [M]
    row = tl.cast(tl.program_id(1), tl.int64) * BLOCK_V + tl.arange(0, BLOCK_V)  # [V]
    inside_m = m < queries
    inside = (row < ROWS)[:, None] & inside_m[None, :]
    part_lse += batch * parts * queries + m
    top = tl.full([BLOCK_M], float("-inf"), tl.float32)
    for part in range(parts):
        top = tl.maximum(top, tl.load(part_lse + part * queries, mask=inside_m, other=0.0), tl.PropagateNan.ALL)
    level = tl.where(top == float("-inf"), 0.0, top)
    total = tl.zeros([BLOCK_M], tl.float32)
    readout = tl.zeros([BLOCK_V, BLOCK_M], tl.float32)
    for part in range(parts):
        weight = tl.exp2((tl.load(part_lse + part * queries, mask=inside_m, other=0.0) - level) * LOG2_E)  # [M]
        place = (batch * parts + part) * ROWS + row[:, None]
        total += weight
        readout += weight[None, :] * tl.load(part_out + place * queries + m[None, :], mask=inside, other=0.0)
    readout /= tl.where(total == 0.0, 1.0, total)[None, :]
    place = batch * ROWS + row[:, None]
    tl.store(out + place * queries + m[None, :], readout.to(out.dtype.element_ty), mask=inside)
    if tl.program_id(1) == 0:
        tl.store(lse + batch * queries + m, level + tl.log2(total) * LN_2, mask=inside_m)


def read(
    operands: Operands, value: Tensor, out: Tensor, lse: Tensor, tile: Tile | None = None, parts: int | None = None
) -> None:
    """Softmax over all memory tokens.

    Args:
        operands: operands of the scores.
        value: `(B, O, Cv, Nk)`.
        out: room for the readout `(B, O, Cv, Nq)`, contiguous.
        lse: room for log Σ exp of the scores `(B, Nq)` float32, contiguous.
        tile: instead of the table's.
        parts: into how many parts the memory is split, instead of what fills the chip.
    """
    batch, objects, channels, queries = out.shape
    rows, tokens = objects * channels, value.shape[3]
    tile = tile or tile_for("read", operands.key, value)
    programs = blocks(queries, tile.queries) * blocks(rows, tile.rows) * batch
    parts = parts or split(programs, blocks(tokens, tile.tokens), processors(value.device))
    part_out, part_lse = out, lse
    if parts > 1:
        part_out = out.new_empty(batch, parts, rows, queries, dtype=torch.float32)
        part_lse = lse.new_empty(batch, parts, queries)
    with on_device_of(value):
        dense_kernel[blocks(queries, tile.queries) * parts, blocks(rows, tile.rows), batch](
            **with_offsets(score_arguments(operands), value_arguments("value", value)),
            out=part_out,
            lse=part_lse,
            parts=parts,
            LAZY=rescales_lazily(value.device),
            PRECISION=precision(operands.query, value),
            **tile.options(),
        )
        if parts > 1:
            merge(part_out, part_lse, out, lse)


def merge(part_out: Tensor, part_lse: Tensor, out: Tensor, lse: Tensor) -> None:
    """Merge reads of parts `(B, parts, O·Cv, Nq)` with their lse `(B, parts, Nq)` into `out` and `lse`."""
    batch, parts, rows, queries = part_out.shape
    tile = MERGE_TILE
    merge_kernel[blocks(queries, tile.queries), blocks(rows, tile.rows), batch](
        part_out,
        part_lse,
        out,
        lse,
        queries,
        parts,
        ROWS=rows,
        BLOCK_M=tile.queries,
        BLOCK_V=tile.rows,
        num_warps=tile.warps,
        num_stages=tile.stages,
    )
