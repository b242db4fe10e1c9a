"""The term that all gradients of the scores of a query share: delta = Σ grad_out · out − grad_lse."""

import triton
import triton.language as tl
from torch import Tensor

from stm_fast.kernels.launch import blocks, count, scattered, with_index_type
from stm_fast.kernels.plans import Launch
from stm_fast.kernels.primitives import channel_offsets
from stm_fast.kernels.tiles import DELTA_TILE


@triton.jit(do_not_specialize=["queries"])
def delta_kernel(
    out, grad_out, grad_lse, delta, queries,
    out_batch, out_object, out_channel, out_item,
    grad_out_batch, grad_out_object, grad_out_channel, grad_out_item, grad_lse_batch, grad_lse_item,
    VALUE_CHANNELS: tl.constexpr, TOTAL_VALUE_CHANNELS: tl.constexpr,
    OUT_UNIT: tl.constexpr, GRAD_OUT_UNIT: tl.constexpr, QUERIES_UNIT: tl.constexpr, INDEX: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_V: tl.constexpr,
):  # fmt: skip
    """Compute delta `(B, queries)` of one tile of queries, summed over the channels of all objects."""
    queries *= QUERIES_UNIT
    batch = tl.program_id(1).to(tl.int64)
    m = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)  # [M]
    inside_m = m < queries
    out += batch * out_batch * OUT_UNIT
    grad_out += batch * grad_out_batch * GRAD_OUT_UNIT
    total = tl.zeros([BLOCK_V, BLOCK_M], tl.float32)
    for first in range(0, TOTAL_VALUE_CHANNELS, BLOCK_V):
        channel = first + tl.arange(0, BLOCK_V)  # [V]
        inside = (channel < TOTAL_VALUE_CHANNELS)[:, None] & inside_m[None, :]
        out_offsets = channel_offsets(
            channel, out_object, out_channel, TOTAL_VALUE_CHANNELS, VALUE_CHANNELS, OUT_UNIT, INDEX
        )
        grad_offsets = channel_offsets(
            channel, grad_out_object, grad_out_channel, TOTAL_VALUE_CHANNELS, VALUE_CHANNELS, GRAD_OUT_UNIT, INDEX
        )
        o = tl.load(out + (out_offsets[:, None] + (m.to(INDEX) * out_item)[None, :]), mask=inside, other=0.0)  # [V, M]
        g = tl.load(
            grad_out + (grad_offsets[:, None] + (m.to(INDEX) * grad_out_item)[None, :]), mask=inside, other=0.0
        )  # [V, M]
        total += o.to(tl.float32) * g.to(tl.float32)
    grad_lse += batch * grad_lse_batch
    from_lse = tl.load(grad_lse + m.to(tl.int64) * grad_lse_item, mask=inside_m, other=0.0)  # [M]
    tl.store(delta + batch * queries + m, tl.sum(total, 0) - from_lse, mask=inside_m)


def delta_launch(out: Tensor, grad_out: Tensor, grad_lse: Tensor) -> Launch:
    """Return the launch that fills delta `(B, Nq)` from out and grad_out `(B, O, Cv, Nq)` and grad_lse `(B, Nq)`."""
    tile, (batch, queries) = DELTA_TILE, grad_lse.shape
    strides = {f"grad_lse_{name}": stride for name, stride in zip(("batch", "item"), grad_lse.stride(), strict=True)}
    return Launch(
        delta_kernel,
        (blocks(queries, tile.queries), batch),
        {
            **with_index_type(scattered("out", out), scattered("grad_out", grad_out)),
            "grad_lse": grad_lse,
            **strides,
            **count("queries", queries, grad_out),
            **tile.options(),
        },
    )
