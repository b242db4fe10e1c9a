"""The exact merge of reads of the splits of a memory."""

import triton
import triton.language as tl
from torch import Tensor

from stm_fast.kernels.launch import blocks
from stm_fast.kernels.plans import Launch
from stm_fast.kernels.softmax import LN_2, LOG2_E, finite, nonzero
from stm_fast.kernels.tiles import MERGE_TILE


@triton.jit(do_not_specialize=["splits"])
def merge_kernel(
    split_out, split_lse, out, lse, queries, splits,
    TOTAL_VALUE_CHANNELS: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_V: tl.constexpr,
):  # fmt: skip
    """Merge the reads of splits into out and lse.

    Reads split_out `(B, splits, TOTAL_VALUE_CHANNELS, queries)` and split_lse `(B, splits, queries)`.
    """
    batch = tl.program_id(2).to(tl.int64)
    m = tl.cast(tl.program_id(0), tl.int64) * BLOCK_M + tl.arange(0, BLOCK_M)  # [M]
    v = tl.cast(tl.program_id(1), tl.int64) * BLOCK_V + tl.arange(0, BLOCK_V)  # [V]
    inside_m = m < queries
    inside = (v < TOTAL_VALUE_CHANNELS)[:, None] & inside_m[None, :]
    split_lse += batch * splits * queries + m
    lse_max = tl.full([BLOCK_M], float("-inf"), tl.float32)
    for split in range(splits):
        one_lse = tl.load(split_lse + split * queries, mask=inside_m, other=0.0)  # [M]
        lse_max = tl.maximum(lse_max, one_lse, tl.PropagateNan.ALL)
    lse_max = finite(lse_max)
    running_sum = tl.zeros([BLOCK_M], tl.float32)
    readout = tl.zeros([BLOCK_V, BLOCK_M], tl.float32)
    for split in range(splits):
        one_lse = tl.load(split_lse + split * queries, mask=inside_m, other=0.0)  # [M]
        weight = tl.exp2((one_lse - lse_max) * LOG2_E)  # [M]
        first = (batch * splits + split) * TOTAL_VALUE_CHANNELS + v[:, None]
        running_sum += weight
        readout += weight[None, :] * tl.load(split_out + first * queries + m[None, :], mask=inside, other=0.0)
    readout /= nonzero(running_sum)[None, :]
    first = batch * TOTAL_VALUE_CHANNELS + v[:, None]
    tl.store(out + first * queries + m[None, :], readout.to(out.dtype.element_ty), mask=inside)
    if tl.program_id(1) == 0:
        tl.store(lse + batch * queries + m, lse_max + tl.log2(running_sum) * LN_2, mask=inside_m)


def merge_launch(out: Tensor, splits: int) -> Launch:
    """Return the launch that merges reads of splits into out `(B, O, Cv, Nq)` and its lse."""
    batch, objects, value_channels, queries = out.shape
    total_value_channels, tile = objects * value_channels, MERGE_TILE
    return Launch(
        merge_kernel,
        (blocks(queries, tile.queries), blocks(total_value_channels, tile.value_channels), batch),
        {
            "queries": queries,
            "splits": splits,
            "TOTAL_VALUE_CHANNELS": total_value_channels,
            "BLOCK_M": tile.queries,
            "BLOCK_V": tile.value_channels,
            "num_warps": tile.warps,
            "num_stages": tile.stages,
        },
    )
