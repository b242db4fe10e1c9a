"""Gradients of the read of the best tokens, through the chosen ones only.

A query's gradients are sums over its choices. A token's are sums over the queries that chose it: choices are sorted by
token, and each token's own stretch of them is summed by one program, in the order of the queries.
"""

from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from stm_fast.kernels.delta import delta_launch
from stm_fast.kernels.launch import (
    Gradients,
    Operands,
    blocks,
    key_of,
    on_device_of,
    scattered,
    score_arguments,
    score_tensors,
    with_distances,
)
from stm_fast.kernels.plans import Launch, Plan, plan_of
from stm_fast.kernels.primitives import load_scattered, row_places
from stm_fast.kernels.tiles import GATHER_TILE

SECTOR = 32
"""Bytes that a GPU writes at once."""


@triton.jit(do_not_specialize=["queries"])
def chosen_gradient_kernel(
    value, grad, indices, weights, delta, score_grad, queries, chosen,
    value_batch, value_object, value_channel, value_item, grad_batch, grad_object, grad_channel, grad_item,
    CHANNELS_ADJACENT: tl.constexpr, VALUE_CHANNELS: tl.constexpr, ROWS: tl.constexpr,
    VALUE_UNIT: tl.constexpr, GRAD_UNIT: tl.constexpr, OFFSET: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_V: tl.constexpr,
):  # fmt: skip
    """Gradients of the chosen scores: score_grad `(B, queries, chosen)`."""
    column = tl.program_id(1)
    batch = tl.program_id(2).to(tl.int64)
    m = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)  # [M]
    inside_m = m < queries
    place = (batch * queries + m) * chosen + column
    weight = tl.load(weights + place, mask=inside_m, other=0.0)  # [M]
    token = tl.load(indices + place, mask=inside_m, other=0)  # [M]
    wanted = weight != 0.0
    value += batch * value_batch * VALUE_UNIT
    grad += batch * grad_batch * GRAD_UNIT
    total = tl.zeros([BLOCK_M], tl.float32)
    for first in range(0, ROWS, BLOCK_V):
        row = first + tl.arange(0, BLOCK_V)  # [V]
        mask = (row < ROWS)[:, None] & wanted[None, :]
        value_row = row_places(row, value_object, value_channel, ROWS, VALUE_CHANNELS, VALUE_UNIT, OFFSET)
        grad_row = row_places(row, grad_object, grad_channel, ROWS, VALUE_CHANNELS, GRAD_UNIT, OFFSET)
        places = value_row[:, None] + (token.to(OFFSET) * value_item)[None, :]
        v = load_scattered(value, places, mask, CHANNELS_ADJACENT)  # [V, M]
        g = tl.load(grad + (grad_row[:, None] + (m.to(OFFSET) * grad_item)[None, :]), mask=mask, other=0.0)  # [V, M]
        total += tl.sum(v.to(tl.float32) * g.to(tl.float32), 0)
    shift = tl.load(delta + batch * queries + m, mask=inside_m, other=0.0)  # [M]
    tl.store(score_grad + place, tl.where(wanted, weight * (total - shift), 0.0), mask=inside_m)


@triton.jit(do_not_specialize=["queries", "tokens"])
def chosen_query_kernel(
    key, gain, indices, score_grad, query_grad, offset_grad, natural_scale, queries, tokens, chosen,
    key_batch, key_channel, key_item,
    CHANNELS_ADJACENT: tl.constexpr, CHANNELS: tl.constexpr, KEY_UNIT: tl.constexpr,
    QUERIES_UNIT: tl.constexpr, TOKENS_UNIT: tl.constexpr, OFFSET: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """query_grad `(B, CHANNELS, queries)`, some of its channels, and offset_grad `(B, queries)`."""
    queries, tokens = queries * QUERIES_UNIT, tokens * TOKENS_UNIT
    batch = tl.program_id(2).to(tl.int64)
    m = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)  # [M]
    channel = (tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)).to(OFFSET)  # [C]
    inside_m, inside_c = m < queries, channel < CHANNELS
    key += batch * key_batch * KEY_UNIT
    key_row = channel * (tl.cast(key_channel, OFFSET) * KEY_UNIT)  # [C]
    query_sum = tl.zeros([BLOCK_C, BLOCK_M], tl.float32)
    offset_sum = tl.zeros([BLOCK_M], tl.float32)
    for column in range(chosen):
        place = (batch * queries + m) * chosen + column
        slope = tl.load(score_grad + place, mask=inside_m, other=0.0)  # [M]
        token = tl.load(indices + place, mask=inside_m, other=0)  # [M]
        if gain is not None:
            slope *= tl.load(gain + batch * tokens + token, mask=inside_m, other=0.0)
        offset_sum += slope
        wanted = inside_c[:, None] & (slope != 0.0)[None, :]
        places = key_row[:, None] + (token.to(OFFSET) * key_item)[None, :]
        k = load_scattered(key, places, wanted, CHANNELS_ADJACENT)  # [C, M]
        query_sum += slope[None, :] * k.to(tl.float32)
    tl.store(
        query_grad + (batch * CHANNELS + channel[:, None]) * queries + m[None, :],
        (query_sum * natural_scale).to(query_grad.dtype.element_ty),
        mask=inside_c[:, None] & inside_m[None, :],
    )
    if offset_grad is not None:
        if tl.program_id(1) == 0:
            tl.store(offset_grad + batch * queries + m, offset_sum, mask=inside_m)


@triton.jit(do_not_specialize=["items", "tokens"])
def by_token_kernel(
    source, factors, order, starts, sums, items, chosen, tokens,
    source_batch, source_object, source_channel, source_item,
    VALUE_CHANNELS: tl.constexpr, ROWS: tl.constexpr, SOURCE_UNIT: tl.constexpr, OFFSET: tl.constexpr,
    TOKENS: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_V: tl.constexpr,
):  # fmt: skip
    """For each token, Σ over the choices of it of factor · source of the query that chose; TOKENS are stored at once.

    Args:
        source: `(B, O, VALUE_CHANNELS, queries)`.
        factors: `(B, queries · chosen)`.
        order: the choices sorted by token `(B, queries · chosen)`.
        starts: where each token's choices begin in `order`, `(B, tokens + 1)`.
        sums: `(B, ROWS, tokens)`.
        items: queries · chosen.
    """
    token = tl.cast(tl.program_id(0), tl.int64) * TOKENS
    batch = tl.program_id(2).to(tl.int64)
    row = tl.program_id(1) * BLOCK_V + tl.arange(0, BLOCK_V)  # [V]
    inside_row = row < ROWS
    source += batch * source_batch * SOURCE_UNIT
    source_row = row_places(row, source_object, source_channel, ROWS, VALUE_CHANNELS, SOURCE_UNIT, OFFSET)  # [V]
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
            query = (choice // chosen).to(OFFSET)  # [N]
            s = tl.load(
                source + (source_row[None, :] + (query * source_item)[:, None]),
                mask=inside_n[:, None] & inside_row[None, :], other=0.0,
            )  # [N, V]  # fmt: skip
            total += tl.sum(tl.where((factor != 0.0)[:, None], factor[:, None] * s.to(tl.float32), 0.0), 0)
        totals = tl.where(column[None, :] == one, total[:, None], totals)
    tl.store(
        sums + (batch * ROWS + row[:, None]) * tokens + (token + column)[None, :],
        totals.to(sums.dtype.element_ty),
        mask=inside_row[:, None] & (token + column < tokens)[None, :],
    )


class Choices(NamedTuple):
    """The choices of all queries, sorted by token.

    Attributes:
        order: `(B, Nq · k)`, places in the flattened `(Nq, k)`.
        starts: `(B, Nk + 1)`, where each token's choices begin in `order`.
        each: k.
    """

    order: Tensor
    starts: Tensor
    each: int

    @classmethod
    def sort(cls, indices: Tensor, tokens: int) -> "Choices":
        """From indices `(B, Nq, k)` into a memory of `tokens` tokens."""
        chosen, order = indices.flatten(1).sort(dim=1, stable=True)
        bounds = torch.arange(tokens + 1, device=indices.device).expand(len(indices), -1).contiguous()
        return cls(order, torch.searchsorted(chosen, bounds), indices.shape[2])

    def sum_by_token(self, source: Tensor, factors: Tensor, sums: Tensor) -> None:
        """Into sums `(B, O·C, Nk)`: Σ over a token's choices of factors `(B, Nq, k)` · source `(B, O, C, Nq)`."""
        tensors = {
            "source": source, "factors": factors, "order": self.order, "starts": self.starts, "sums": sums,
        }  # fmt: skip
        plan_of(key_of("sum_by_token", tensors), lambda: self._plan(source, sums)).launches["by_token"](tensors)

    def _plan(self, source: Tensor, sums: Tensor) -> Plan:
        batch, rows, tokens = sums.shape
        together = SECTOR // sums.element_size()
        launch = Launch(
            by_token_kernel,
            (blocks(tokens, together), blocks(rows, GATHER_TILE.value_channels), batch),
            {
                **with_distances(scattered("source", source)),
                "items": self.order.shape[1],
                "chosen": self.each,
                "tokens": tokens,
                "TOKENS": together,
                **GATHER_TILE.options(),
            },
        )
        return Plan({"by_token": launch})


def top_k_read_backward(
    operands: Operands,
    value: Tensor,
    out: Tensor,
    indices: Tensor,
    weights: Tensor,
    grad_out: Tensor,
    grad_lse: Tensor,
    gradients: Gradients,
) -> None:
    """Gradients of `stm_fast.kernels.top_k.top_k_read` through the chosen tokens.

    Args:
        operands: operands of the scores.
        value: `(B, O, Cv, Nk)`.
        out: what `top_k_read` made.
        indices: of its choices `(B, Nq, k)`, contiguous.
        weights: of its choices `(B, Nq, k)`, contiguous.
        grad_out: gradient of out, of its dtype.
        grad_lse: gradient of lse.
        gradients: room for those of query, key, gain, offset, bias and value, contiguous; empty if not wanted.
    """
    query_side, key_side, value_side = (bool(gradients[place].numel()) for place in (0, 1, 5))
    with on_device_of(value):
        if query_side or key_side:
            score_grad = _score_gradients(value, out, indices, weights, grad_out, grad_lse)
        if query_side:
            _query_side(operands, indices, score_grad, gradients)
        if key_side or value_side:
            choices = Choices.sort(indices, operands.key.shape[2])
        if key_side:
            _key_side(operands, choices, score_grad, gradients)
        if value_side:
            choices.sum_by_token(grad_out, weights, gradients[5].flatten(1, 2))


def _score_gradients(
    value: Tensor, out: Tensor, indices: Tensor, weights: Tensor, grad_out: Tensor, grad_lse: Tensor
) -> Tensor:
    """Gradients of the chosen scores `(B, Nq, k)` float32."""
    score_grad = torch.empty_like(weights)
    tensors = {
        "value": value, "out": out, "indices": indices, "weights": weights, "grad": grad_out, "grad_lse": grad_lse,
        "score_grad": score_grad,
    }  # fmt: skip
    plan = plan_of(key_of("chosen_gradient", tensors), lambda: _score_plan(tensors))
    tensors["delta"] = weights.new_empty(grad_lse.shape)
    plan.launches["delta"](tensors)
    plan.launches["chosen"](tensors)
    return score_grad


def _score_plan(tensors: dict[str, Any]) -> Plan:
    value, (batch, queries, chosen) = tensors["value"], tensors["indices"].shape
    launch = Launch(
        chosen_gradient_kernel,
        (blocks(queries, GATHER_TILE.queries), chosen, batch),
        {
            **with_distances(scattered("value", value), scattered("grad", tensors["grad"])),
            "queries": queries,
            "chosen": chosen,
            "CHANNELS_ADJACENT": value.stride(2) == 1,
            **GATHER_TILE.options(),
        },
    )
    return Plan({"delta": delta_launch(tensors), "chosen": launch})


def _query_side(operands: Operands, indices: Tensor, score_grad: Tensor, gradients: Gradients) -> None:
    tensors = score_tensors(operands) | {
        "indices": indices, "score_grad": score_grad, "query_grad": gradients[0],
        "offset_grad": None if operands.offset is None else gradients[3],
    }  # fmt: skip
    key = key_of("chosen_query", tensors, operands.scale)
    plan_of(key, lambda: _query_plan(operands, tensors)).launches["query"](tensors)


def _query_plan(operands: Operands, tensors: dict[str, Any]) -> Plan:
    batch, queries, chosen = tensors["indices"].shape
    names = ("key", "key_batch", "key_channel", "key_item", "KEY_UNIT", "gain", "CHANNELS")
    counts = ("queries", "QUERIES_UNIT", "tokens", "TOKENS_UNIT")
    tile = GATHER_TILE
    arguments = score_arguments(operands, tile)
    launch = Launch(
        chosen_query_kernel,
        (blocks(queries, tile.queries), blocks(operands.query.shape[1], tile.value_channels), batch),
        {
            **with_distances({name: arguments[name] for name in (*names, *counts)}),
            "offset_grad": tensors["offset_grad"],
            "natural_scale": operands.scale,
            "chosen": chosen,
            "CHANNELS_ADJACENT": operands.key.stride(1) == 1,
            "BLOCK_M": tile.queries,
            "BLOCK_C": tile.value_channels,
            "num_warps": tile.warps,
        },
    )
    return Plan({"query": launch})


def _key_side(operands: Operands, choices: Choices, score_grad: Tensor, gradients: Gradients) -> None:
    """With s = scale · Σ dS · query of a token: gain · s is its key's gradient, <key, s> + Σ dS · offset its gain's."""
    _, key_grad, gain_grad, _, bias_grad, _ = gradients
    sums = key_grad.new_empty(key_grad.shape, dtype=torch.float32)
    choices.sum_by_token(operands.query[:, None], score_grad, sums)
    sums *= operands.scale
    if operands.bias is not None:
        ones = score_grad.new_ones(()).expand(score_grad.shape[0], 1, 1, score_grad.shape[1])
        choices.sum_by_token(ones, score_grad, bias_grad[:, None])
    if operands.gain is None:
        key_grad.copy_(sums)
        return
    if operands.offset is None:
        gain_grad.zero_()
    else:
        choices.sum_by_token(operands.offset[:, None, None], score_grad, gain_grad[:, None])
    gain_grad += (sums * operands.key).sum(1)
    key_grad.copy_(sums * operands.gain[:, None])
