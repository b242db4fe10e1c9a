"""What the gradients of scores of a query have in common: delta = Σ grad_out · out − grad_lse."""

from typing import Any

import triton
import triton.language as tl

from stm_fast.kernels.launch import blocks, count, scattered, with_distances
from stm_fast.kernels.plans import Launch
from stm_fast.kernels.primitives import row_places
from stm_fast.kernels.tiles import DELTA_TILE


@triton.jit(do_not_specialize=["queries"])
def delta_kernel(
    out, grad, grad_lse, delta, queries,
    out_batch, out_object, out_channel, out_item, grad_batch, grad_object, grad_channel, grad_item,
    grad_lse_batch, grad_lse_item,
    VALUE_CHANNELS: tl.constexpr, ROWS: tl.constexpr, OUT_UNIT: tl.constexpr, GRAD_UNIT: tl.constexpr,
    QUERIES_UNIT: tl.constexpr, OFFSET: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_V: tl.constexpr,
):  # fmt: skip
    """Delta of one tile of queries `(B, queries)`, summed over the channels of all objects."""
    queries *= QUERIES_UNIT
    batch = tl.program_id(1).to(tl.int64)
    m = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)  # [M]
    inside_m = m < queries
    out += batch * out_batch * OUT_UNIT
    grad += batch * grad_batch * GRAD_UNIT
    total = tl.zeros([BLOCK_V, BLOCK_M], tl.float32)
    for first in range(0, ROWS, BLOCK_V):
        row = first + tl.arange(0, BLOCK_V)  # [V]
        inside = (row < ROWS)[:, None] & inside_m[None, :]
        out_row = row_places(row, out_object, out_channel, ROWS, VALUE_CHANNELS, OUT_UNIT, OFFSET)
        grad_row = row_places(row, grad_object, grad_channel, ROWS, VALUE_CHANNELS, GRAD_UNIT, OFFSET)
        o = tl.load(out + (out_row[:, None] + (m.to(OFFSET) * out_item)[None, :]), mask=inside, other=0.0)  # [V, M]
        g = tl.load(grad + (grad_row[:, None] + (m.to(OFFSET) * grad_item)[None, :]), mask=inside, other=0.0)  # [V, M]
        total += o.to(tl.float32) * g.to(tl.float32)
    grad_lse += batch * grad_lse_batch
    upstream = tl.load(grad_lse + m.to(tl.int64) * grad_lse_item, mask=inside_m, other=0.0)  # [M]
    tl.store(delta + batch * queries + m, tl.sum(total, 0) - upstream, mask=inside_m)


def delta_launch(tensors: dict[str, Any]) -> Launch:
    """The launch for `out` and `grad` `(B, O, Cv, Nq)` and `grad_lse` `(B, Nq)`; it fills `delta` `(B, Nq)`."""
    out, grad, grad_lse = tensors["out"], tensors["grad"], tensors["grad_lse"]
    tile, (batch, queries) = DELTA_TILE, grad_lse.shape
    strides = {f"grad_lse_{name}": stride for name, stride in zip(("batch", "item"), grad_lse.stride(), strict=True)}
    distances = with_distances(scattered("out", out), scattered("grad", grad))
    return Launch(
        delta_kernel,
        (blocks(queries, tile.queries), batch),
        {**distances, "grad_lse": grad_lse, **strides, **count("queries", queries, grad), **tile.options()},
    )
