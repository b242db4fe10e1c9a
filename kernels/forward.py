"""The dense read: a softmax over all memory tokens, which are split over programs."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from stm_fast.kernels.launch import (
    all_have_descriptors,
    blocks,
    key_of,
    on_device_of,
    precision,
    processors,
    score_arguments,
    score_tensors,
    value_arguments,
    with_index_type,
)
from stm_fast.kernels.merge import merge_launch
from stm_fast.kernels.operands import Operands
from stm_fast.kernels.plans import Launch, Plan, plan_of
from stm_fast.kernels.primitives import affine, load_tile, products, second_channels
from stm_fast.kernels.softmax import finite, lse_of, nonzero, rescale
from stm_fast.kernels.splits import MERGE_LAUNCH, Work, results_time, split_count, tile_time
from stm_fast.kernels.tiles import Tile, rescales_lazily, tile_for

RESCALE_AT = tl.constexpr(8.0)
"""A lazy read raises its running maximum only if scores exceed it by more than this, a factor of 2⁸ in weights. Until
then weights above one are as exact as those below, and the readout need not be rescaled."""


@triton.jit(do_not_specialize=["queries", "tokens", "splits"])
def dense_kernel(
    query, query_descriptor, key, key_descriptor, value, value_descriptor, gain, offset, bias, out, lse,
    scale, queries, tokens, splits,
    query_batch, query_channel, query_item, key_batch, key_channel, key_item,
    value_batch, value_object, value_channel, value_item,
    CHANNELS: tl.constexpr, VALUE_CHANNELS: tl.constexpr, TOTAL_VALUE_CHANNELS: tl.constexpr,
    QUERY_UNIT: tl.constexpr, KEY_UNIT: tl.constexpr, VALUE_UNIT: tl.constexpr,
    QUERY_BY_ITEM: tl.constexpr, KEY_BY_ITEM: tl.constexpr, VALUE_BY_ITEM: tl.constexpr,
    QUERIES_UNIT: tl.constexpr, TOKENS_UNIT: tl.constexpr, INDEX: tl.constexpr, PRECISION: tl.constexpr,
    LAZY: tl.constexpr, SPECIALIZED: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_V: tl.constexpr,
):  # fmt: skip
    """Read one split of the memory for one tile of queries and one block of value channels.

    Writes out `(B, splits, TOTAL_VALUE_CHANNELS, queries)` and lse `(B, splits, queries)`.
    """
    queries, tokens = queries * QUERIES_UNIT, tokens * TOKENS_UNIT
    query_source = (query, query_descriptor, QUERY_BY_ITEM, query_batch, 0, query_channel, query_item)
    key_source = (key, key_descriptor, KEY_BY_ITEM, key_batch, 0, key_channel, key_item)
    value_source = (value, value_descriptor, VALUE_BY_ITEM, value_batch, value_object, value_channel, value_item)
    tile, split = tl.program_id(0) % tl.cdiv(queries, BLOCK_M), tl.program_id(0) // tl.cdiv(queries, BLOCK_M)
    batch = tl.program_id(2).to(tl.int64)
    first_channel = tl.program_id(1) * BLOCK_V
    m = tile * BLOCK_M + tl.arange(0, BLOCK_M)  # [M]
    q = load_tile(
        query_source, batch, 0, tile * BLOCK_M, queries,
        CHANNELS, CHANNELS, QUERY_UNIT, INDEX, BLOCK_C, BLOCK_M,
    )  # [C, M]  # fmt: skip
    second_q = second_channels(
        query_source, batch, tile * BLOCK_M, queries, q, CHANNELS, QUERY_UNIT, INDEX, BLOCK_C, BLOCK_M
    )  # [C, M]

    length = tl.cdiv(tl.cdiv(tokens, BLOCK_N), splits) * BLOCK_N
    first = split * length
    running_max = tl.full([BLOCK_M], float("-inf"), tl.float32)
    running_sum = tl.zeros([BLOCK_M], tl.float32)
    readout = tl.zeros([BLOCK_M, BLOCK_V], tl.float32)
    for start in tl.range(first, tl.minimum(first + length, tokens), BLOCK_N, warp_specialize=SPECIALIZED):
        k = load_tile(
            key_source, batch, 0, start, tokens, CHANNELS, CHANNELS, KEY_UNIT, INDEX, BLOCK_C, BLOCK_N
        )  # [C, N]
        product = products(
            q, second_q, k, query_source, key_source, batch, tile * BLOCK_M, start, queries, tokens,
            CHANNELS, QUERY_UNIT, KEY_UNIT, INDEX, PRECISION, BLOCK_C, BLOCK_M, BLOCK_N,
        )  # [M, N]  # fmt: skip
        n = start + tl.arange(0, BLOCK_N)  # [N]
        score, _ = affine(product, gain, offset, bias, scale, batch, m[:, None], n[None, :], queries, tokens)  # [M, N]
        tile_max = tl.max(score, 1)
        if LAZY:
            risen = tile_max > running_max + RESCALE_AT
            new_max = tl.where(risen, tile_max, running_max)
            finite_max = finite(new_max)
            if tl.max(risen.to(tl.int32), 0) > 0:
                running_sum, readout = rescale(running_max, running_sum, readout, finite_max)
        else:
            new_max = tl.maximum(running_max, tile_max)
            finite_max = finite(new_max)
            running_sum, readout = rescale(running_max, running_sum, readout, finite_max)
        running_max = new_max
        weight = tl.exp2(score - finite_max[:, None])  # [M, N]
        running_sum += tl.sum(weight, 1)
        v = load_tile(
            value_source, batch, first_channel, start, tokens,
            TOTAL_VALUE_CHANNELS, VALUE_CHANNELS, VALUE_UNIT, INDEX, BLOCK_V, BLOCK_N,
        )  # [V, N]  # fmt: skip
        readout = tl.dot(weight.to(v.dtype), v.trans(), readout, input_precision=PRECISION)

    readout /= nonzero(running_sum)[:, None]
    channel = first_channel + tl.arange(0, BLOCK_V)  # [V]
    batch_and_split = batch * splits + split
    tl.store(
        out + batch_and_split * TOTAL_VALUE_CHANNELS * queries + (channel.to(tl.int64) * queries)[None, :] + m[:, None],
        readout.to(out.dtype.element_ty),
        mask=(m < queries)[:, None] & (channel < TOTAL_VALUE_CHANNELS)[None, :],
    )
    if tl.program_id(1) == 0:
        tl.store(lse + batch_and_split * queries + m, lse_of(running_max, running_sum), mask=m < queries)


def read(
    operands: Operands, value: Tensor, out: Tensor, lse: Tensor, tile: Tile | None = None, splits: int | None = None
) -> None:
    """Compute the softmax read over all memory tokens.

    Args:
        operands: operands of the scores.
        value: `(B, O, Cv, Nk)`.
        out: output for the readout `(B, O, Cv, Nq)`, contiguous.
        lse: output for log Σ exp of the scores `(B, Nq)` float32, contiguous.
        tile: tile to use instead of the table's.
        splits: number of splits of the memory, by default what fills the chip.
    """
    tensors = {**score_tensors(operands), "value": value, "out": out, "lse": lse}
    with on_device_of(value):
        key = key_of("read", tensors, operands.scale, tile, splits)
        plan = plan_of(key, lambda: _plan(operands, value, out, tile, splits))
        if plan.splits == 1:
            plan.launches["dense"](tensors)
            return
        batch, objects, value_channels, queries = out.shape
        split_out = out.new_empty(batch, plan.splits, objects * value_channels, queries, dtype=torch.float32)
        split_lse = lse.new_empty(batch, plan.splits, queries)
        plan.launches["dense"]({**tensors, "out": split_out, "lse": split_lse})
        plan.launches["merge"]({"split_out": split_out, "split_lse": split_lse, "out": out, "lse": lse})


def _plan(operands: Operands, value: Tensor, out: Tensor, tile: Tile | None, splits: int | None) -> Plan:
    batch, objects, value_channels, queries = out.shape
    total_value_channels, tokens = objects * value_channels, value.shape[3]
    tile = tile or tile_for("read", operands.key, value)
    query_tiles, slices = blocks(queries, tile.queries), blocks(total_value_channels, tile.value_channels)
    work = Work(
        programs=query_tiles * slices * batch,
        tiles=blocks(tokens, tile.tokens),
        tile=tile_time(tile, operands.query.shape[1], tile.value_channels, operands.query, value),
        results=results_time(batch * total_value_channels * queries, 4, value.device),
        merge=MERGE_LAUNCH,
    )
    splits = splits or split_count(work, processors(value.device))
    arguments = with_index_type(score_arguments(operands, tile), value_arguments("value", value, tile, tile.tokens))
    dense = Launch(
        dense_kernel,
        (query_tiles * splits, slices, batch),
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
    return Plan({"dense": dense, "merge": merge_launch(out, splits)}, splits)
