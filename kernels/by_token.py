"""Sums over the queries that chose a memory token, for the gradients of tokens."""

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from stm_fast.kernels.launch import blocks, key_of, scattered, with_index_type
from stm_fast.kernels.plans import Launch, Plan, plan_of
from stm_fast.kernels.primitives import channel_offsets
from stm_fast.kernels.tiles import GATHER_TILE

SECTOR_BYTES = 32
"""Smallest write of a GPU to memory."""


@triton.jit(do_not_specialize=["items", "tokens"])
def by_token_kernel(
    source, factors, order, starts, sums, items, chosen, tokens,
    source_batch, source_object, source_channel, source_item,
    VALUE_CHANNELS: tl.constexpr, TOTAL_VALUE_CHANNELS: tl.constexpr, SOURCE_UNIT: tl.constexpr, INDEX: tl.constexpr,
    TOKENS: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_V: tl.constexpr,
):  # fmt: skip
    """Sum factor · source over the choices of each of TOKENS tokens, which are stored together.

    Args:
        source: `(B, O, VALUE_CHANNELS, queries)`.
        factors: `(B, queries · chosen)`.
        order: choices sorted by token `(B, queries · chosen)`.
        starts: start of each token's choices in `order`, `(B, tokens + 1)`.
        sums: output `(B, TOTAL_VALUE_CHANNELS, tokens)`.
        items: queries · chosen.
    """
    token = tl.cast(tl.program_id(0), tl.int64) * TOKENS
    batch = tl.program_id(2).to(tl.int64)
    channel = tl.program_id(1) * BLOCK_V + tl.arange(0, BLOCK_V)  # [V]
    inside_v = channel < TOTAL_VALUE_CHANNELS
    source += batch * source_batch * SOURCE_UNIT
    source_offsets = channel_offsets(
        channel, source_object, source_channel, TOTAL_VALUE_CHANNELS, VALUE_CHANNELS, SOURCE_UNIT, INDEX
    )  # [V]
    starts += batch * (tokens + 1) + token
    column = tl.arange(0, TOKENS)
    totals = tl.zeros([BLOCK_V, TOKENS], tl.float32)
    last = tl.load(starts)
    for one in range(tl.minimum(TOKENS, tokens - token)):
        first, last = last, tl.load(starts + one + 1)
        total = tl.zeros([BLOCK_V], tl.float32)
        for start in range(first, last, BLOCK_N):
            n = start + tl.arange(0, BLOCK_N)  # [N]
            inside_n = n < last
            choice = tl.load(order + batch * items + n, mask=inside_n, other=0)  # [N]
            factor = tl.load(factors + batch * items + choice, mask=inside_n, other=0.0)  # [N]
            query = (choice // chosen).to(INDEX)  # [N]
            s = tl.load(
                source + (source_offsets[None, :] + (query * source_item)[:, None]),
                mask=inside_n[:, None] & inside_v[None, :], other=0.0,
            )  # [N, V]  # fmt: skip
            total += tl.sum(tl.where((factor != 0.0)[:, None], factor[:, None] * s.to(tl.float32), 0.0), 0)
        totals = tl.where(column[None, :] == one, total[:, None], totals)
    tl.store(
        sums + (batch * TOTAL_VALUE_CHANNELS + channel[:, None]) * tokens + (token + column)[None, :],
        totals.to(sums.dtype.element_ty),
        mask=inside_v[:, None] & (token + column < tokens)[None, :],
    )


class Choices(NamedTuple):
    """The choices of all queries, sorted by token.

    Attributes:
        order: `(B, Nq · k)`, indices into the flattened `(Nq, k)`.
        starts: `(B, Nk + 1)`, start of each token's choices in `order`.
        per_query: k, the number of choices of a query.
    """

    order: Tensor
    starts: Tensor
    per_query: int

    @classmethod
    def sort(cls, indices: Tensor, tokens: int) -> "Choices":
        """Sort the choices `(B, Nq, k)` from a memory of `tokens` tokens."""
        chosen, order = indices.flatten(1).sort(dim=1, stable=True)
        bounds = torch.arange(tokens + 1, device=indices.device).expand(len(indices), -1).contiguous()
        return cls(order, torch.searchsorted(chosen, bounds), indices.shape[2])

    def sum_by_token(self, source: Tensor, factors: Tensor, sums: Tensor) -> None:
        """Sum factors `(B, Nq, k)` · source `(B, O, C, Nq)` over each token's choices into sums `(B, O·C, Nk)`."""
        tensors = {
            "source": source, "factors": factors, "order": self.order, "starts": self.starts, "sums": sums,
        }  # fmt: skip
        plan_of(key_of("sum_by_token", tensors), lambda: self._plan(source, sums)).launches["by_token"](tensors)

    def _plan(self, source: Tensor, sums: Tensor) -> Plan:
        batch, total_value_channels, tokens = sums.shape
        tokens_per_program = SECTOR_BYTES // sums.element_size()
        launch = Launch(
            by_token_kernel,
            (blocks(tokens, tokens_per_program), blocks(total_value_channels, GATHER_TILE.value_channels), batch),
            {
                **with_index_type(scattered("source", source)),
                "items": self.order.shape[1],
                "chosen": self.per_query,
                "tokens": tokens,
                "TOKENS": tokens_per_program,
                **GATHER_TILE.options(),
            },
        )
        return Plan({"by_token": launch})
