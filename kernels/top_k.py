"""The read of the best memory tokens of each query.

Each split of the memory finds its own candidates; see `stm_fast.kernels.candidates`. The candidates of all splits are
merged exactly, and the values of the chosen tokens are gathered.
"""

import triton
import triton.language as tl
from torch import Tensor

from stm_fast.kernels.candidates import LOWER_HALF, NOTHING, candidates_launch, merge_sorted, score_of, token_of
from stm_fast.kernels.launch import blocks, key_of, on_device_of, scattered, score_tensors, with_index_type
from stm_fast.kernels.operands import Operands
from stm_fast.kernels.plans import Launch, Plan, plan_of
from stm_fast.kernels.primitives import channel_offsets, load_scattered
from stm_fast.kernels.softmax import finite, lse_of, nonzero
from stm_fast.kernels.tiles import GATHER_TILE, Tile

NO_CHOICE = tl.constexpr(2**63 - 2**32)
"""A choice behind all others in the order of tokens, with weight 0."""
CHOOSE_QUERIES = 16
"""Queries of a program that merges candidates."""


@triton.jit(do_not_specialize=["queries", "splits"])
def choose_kernel(
    candidates, indices, weights, choices, lse, queries, splits, chosen,
    K: tl.constexpr, ROOM: tl.constexpr, BLOCK_M: tl.constexpr,
):  # fmt: skip
    """Choose the best of the candidates `(B, splits, queries, ROOM)`: indices and weights `(B, queries, chosen)`, lse.

    Also writes choices `(B, queries, K)` in the order of their tokens, with token and weight as the halves of a 64-bit
    number: neighbouring queries then read neighbouring values at about the same time.
    """
    batch = tl.program_id(1).to(tl.int64)
    m = tl.cast(tl.program_id(0), tl.int64) * BLOCK_M + tl.arange(0, BLOCK_M)  # [M]
    column = tl.arange(0, K)  # [K]
    inside_m = m < queries
    best = tl.full([BLOCK_M, K], NOTHING, tl.int64)
    for split in range(splits):
        lists = candidates + ((batch * splits + split) * queries + m) * ROOM  # [M]
        worst_first = lists[:, None] + (K - 1 - column)[None, :]
        best = merge_sorted(best, tl.load(worst_first, mask=inside_m[:, None], other=NOTHING))
    score = tl.where(column[None, :] < chosen, score_of(best), float("-inf"))  # [M, K]
    score_max = tl.max(score, 1)
    weight = tl.exp2(score - finite(score_max)[:, None])
    weight_sum = tl.sum(weight, 1)
    weight /= nonzero(weight_sum)[:, None]
    token = token_of(best)
    position = (batch * queries + m[:, None]) * chosen + column[None, :]
    inside = inside_m[:, None] & (column[None, :] < chosen)
    tl.store(indices + position, token, mask=inside)
    tl.store(weights + position, weight, mask=inside)
    choice = (token << 32) | (weight.to(tl.int32, bitcast=True).to(tl.int64) & LOWER_HALF)
    choice = tl.sort(tl.where(column[None, :] < chosen, choice, NO_CHOICE), 1)
    tl.store(choices + (batch * queries + m[:, None]) * K + column[None, :], choice, mask=inside_m[:, None])
    tl.store(lse + batch * queries + m, lse_of(score_max, weight_sum), mask=inside_m)


@triton.jit(do_not_specialize=["queries"])
def gather_kernel(
    value, choices, out, queries, chosen,
    value_batch, value_object, value_channel, value_item,
    K: tl.constexpr, CHANNELS_ADJACENT: tl.constexpr, VALUE_CHANNELS: tl.constexpr, TOTAL_VALUE_CHANNELS: tl.constexpr,
    VALUE_UNIT: tl.constexpr, INDEX: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_V: tl.constexpr,
):  # fmt: skip
    """Sum the weighted values of the chosen tokens: out `(B, TOTAL_VALUE_CHANNELS, queries)`."""
    batch = tl.program_id(2).to(tl.int64)
    m = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)  # [M]
    channel = tl.program_id(1) * BLOCK_V + tl.arange(0, BLOCK_V)  # [V]
    inside_m, inside_v = m < queries, channel < TOTAL_VALUE_CHANNELS
    value += batch * value_batch * VALUE_UNIT
    value_offsets = channel_offsets(
        channel, value_object, value_channel, TOTAL_VALUE_CHANNELS, VALUE_CHANNELS, VALUE_UNIT, INDEX
    )  # [V]
    position = (batch * queries + m) * K
    readout = tl.zeros([BLOCK_V, BLOCK_M], tl.float32)
    for column in range(chosen):
        choice = tl.load(choices + position + column, mask=inside_m, other=0)  # [M]
        weight, token = choice.to(tl.int32).to(tl.float32, bitcast=True), choice >> 32
        mask = inside_v[:, None] & (weight != 0.0)[None, :]
        offsets = value_offsets[:, None] + (token.to(INDEX) * value_item)[None, :]
        v = load_scattered(value, offsets, mask, CHANNELS_ADJACENT)  # [V, M]
        readout += weight[None, :] * v.to(tl.float32)
    tl.store(
        out + (batch * TOTAL_VALUE_CHANNELS + channel[:, None]) * queries + m[None, :],
        readout.to(out.dtype.element_ty),
        mask=inside_v[:, None] & inside_m[None, :],
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
    """Compute the softmax read over the best memory tokens of each query. Of equal tokens the lower index is better.

    Args:
        operands: operands of the scores.
        value: `(B, O, Cv, Nk)`.
        out: output for the readout `(B, O, Cv, Nq)`, contiguous.
        lse: output for log Σ exp of the chosen scores `(B, Nq)` float32, contiguous.
        indices: output for the chosen tokens, best first, `(B, Nq, k)` int64, contiguous. If the memory has fewer
            tokens than k, the unused places get 0.
        weights: output for their weights `(B, Nq, k)` float32, contiguous; 0 in unused places.
        tile: tile to use instead of the table's. Its value channels are ignored.
        splits: number of splits of the memory, by default what fills the chip.
    """
    tensors = score_tensors(operands) | {
        "value": value, "out": out, "lse": lse, "indices": indices, "weights": weights,
    }  # fmt: skip
    batch, queries, top_k = indices.shape
    K = max(2, triton.next_power_of_2(top_k))
    with on_device_of(value):
        key = key_of("top_k", tensors, operands.scale, tile, splits)
        plan = plan_of(key, lambda: _plan(operands, value, top_k, K, tile, splits))
        tensors["candidates"] = indices.new_empty(batch, plan.splits, queries, plan.room)
        tensors["choices"] = indices.new_empty(batch, queries, K)
        for launch in plan.launches.values():
            launch(tensors)


def _plan(operands: Operands, value: Tensor, top_k: int, K: int, tile: Tile | None, splits: int | None) -> Plan:
    batch, objects, value_channels, _ = value.shape
    queries = operands.query.shape[2]
    candidates, splits, room = candidates_launch(operands, value, K, tile, splits)
    choose = Launch(
        choose_kernel,
        (blocks(queries, CHOOSE_QUERIES), batch),
        {
            "queries": queries,
            "splits": splits,
            "chosen": top_k,
            "K": K,
            "ROOM": room,
            "BLOCK_M": CHOOSE_QUERIES,
            "num_warps": 4,
        },
    )
    gather = Launch(
        gather_kernel,
        (blocks(queries, GATHER_TILE.queries), blocks(objects * value_channels, GATHER_TILE.value_channels), batch),
        {
            **with_index_type(scattered("value", value)),
            "queries": queries,
            "chosen": top_k,
            "K": K,
            "CHANNELS_ADJACENT": value.stride(2) == 1,
            **GATHER_TILE.options(),
        },
    )
    return Plan({"candidates": candidates, "choose": choose, "gather": gather}, splits, room)
