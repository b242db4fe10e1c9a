"""Gradients of the read of the best tokens, through the chosen tokens only.

Gradients of a query are sums over its choices. Gradients of a token are sums over the queries that chose it: choices
are sorted by token, and one program sums all choices of a token, in the order of the queries.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from stm_fast.kernels.by_token import Choices
from stm_fast.kernels.delta import delta_launch
from stm_fast.kernels.launch import (
    blocks,
    key_of,
    on_device_of,
    scattered,
    score_arguments,
    score_tensors,
    with_index_type,
)
from stm_fast.kernels.operands import Gradients, Operands
from stm_fast.kernels.plans import Launch, Plan, plan_of
from stm_fast.kernels.primitives import channel_offsets, load_scattered
from stm_fast.kernels.tiles import GATHER_TILE


@triton.jit(do_not_specialize=["queries"])
def chosen_gradient_kernel(
    value, grad_out, indices, weights, delta, grad_scores, queries, chosen,
    value_batch, value_object, value_channel, value_item,
    grad_out_batch, grad_out_object, grad_out_channel, grad_out_item,
    CHANNELS_ADJACENT: tl.constexpr, VALUE_CHANNELS: tl.constexpr, TOTAL_VALUE_CHANNELS: tl.constexpr,
    VALUE_UNIT: tl.constexpr, GRAD_OUT_UNIT: tl.constexpr, INDEX: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_V: tl.constexpr,
):  # fmt: skip
    """Compute gradients of the chosen scores: grad_scores `(B, queries, chosen)`."""
    column = tl.program_id(1)
    batch = tl.program_id(2).to(tl.int64)
    m = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)  # [M]
    inside_m = m < queries
    position = (batch * queries + m) * chosen + column
    weight = tl.load(weights + position, mask=inside_m, other=0.0)  # [M]
    token = tl.load(indices + position, mask=inside_m, other=0)  # [M]
    counts = weight != 0.0
    value += batch * value_batch * VALUE_UNIT
    grad_out += batch * grad_out_batch * GRAD_OUT_UNIT
    total = tl.zeros([BLOCK_M], tl.float32)
    for first in range(0, TOTAL_VALUE_CHANNELS, BLOCK_V):
        channel = first + tl.arange(0, BLOCK_V)  # [V]
        mask = (channel < TOTAL_VALUE_CHANNELS)[:, None] & counts[None, :]
        value_offsets = channel_offsets(
            channel, value_object, value_channel, TOTAL_VALUE_CHANNELS, VALUE_CHANNELS, VALUE_UNIT, INDEX
        )
        grad_offsets = channel_offsets(
            channel, grad_out_object, grad_out_channel, TOTAL_VALUE_CHANNELS, VALUE_CHANNELS, GRAD_OUT_UNIT, INDEX
        )
        offsets = value_offsets[:, None] + (token.to(INDEX) * value_item)[None, :]
        v = load_scattered(value, offsets, mask, CHANNELS_ADJACENT)  # [V, M]
        g = tl.load(
            grad_out + (grad_offsets[:, None] + (m.to(INDEX) * grad_out_item)[None, :]), mask=mask, other=0.0
        )  # [V, M]
        total += tl.sum(v.to(tl.float32) * g.to(tl.float32), 0)
    d = tl.load(delta + batch * queries + m, mask=inside_m, other=0.0)  # [M]
    tl.store(grad_scores + position, tl.where(counts, weight * (total - d), 0.0), mask=inside_m)


@triton.jit(do_not_specialize=["queries", "tokens"])
def chosen_query_kernel(
    key, gain, indices, grad_scores, grad_query, grad_offset, natural_scale, queries, tokens, chosen,
    key_batch, key_channel, key_item,
    CHANNELS_ADJACENT: tl.constexpr, CHANNELS: tl.constexpr, KEY_UNIT: tl.constexpr,
    QUERIES_UNIT: tl.constexpr, TOKENS_UNIT: tl.constexpr, INDEX: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """Compute grad_query `(B, CHANNELS, queries)`, one block of its channels, and grad_offset `(B, queries)`."""
    queries, tokens = queries * QUERIES_UNIT, tokens * TOKENS_UNIT
    batch = tl.program_id(2).to(tl.int64)
    m = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)  # [M]
    channel = (tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)).to(INDEX)  # [C]
    inside_m, inside_c = m < queries, channel < CHANNELS
    key += batch * key_batch * KEY_UNIT
    key_offsets = channel * (tl.cast(key_channel, INDEX) * KEY_UNIT)  # [C]
    query_sum = tl.zeros([BLOCK_C, BLOCK_M], tl.float32)
    offset_sum = tl.zeros([BLOCK_M], tl.float32)
    for column in range(chosen):
        position = (batch * queries + m) * chosen + column
        grad_score = tl.load(grad_scores + position, mask=inside_m, other=0.0)  # [M]
        token = tl.load(indices + position, mask=inside_m, other=0)  # [M]
        if gain is not None:
            grad_score *= tl.load(gain + batch * tokens + token, mask=inside_m, other=0.0)
        offset_sum += grad_score
        mask = inside_c[:, None] & (grad_score != 0.0)[None, :]
        offsets = key_offsets[:, None] + (token.to(INDEX) * key_item)[None, :]
        k = load_scattered(key, offsets, mask, CHANNELS_ADJACENT)  # [C, M]
        query_sum += grad_score[None, :] * k.to(tl.float32)
    tl.store(
        grad_query + (batch * CHANNELS + channel[:, None]) * queries + m[None, :],
        (query_sum * natural_scale).to(grad_query.dtype.element_ty),
        mask=inside_c[:, None] & inside_m[None, :],
    )
    if grad_offset is not None:
        if tl.program_id(1) == 0:
            tl.store(grad_offset + batch * queries + m, offset_sum, mask=inside_m)


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
    """Compute gradients of `stm_fast.kernels.top_k.top_k_read` through the chosen tokens.

    Args:
        operands: operands of the scores.
        value: `(B, O, Cv, Nk)`.
        out: readout of `top_k_read`.
        indices: chosen tokens of `top_k_read` `(B, Nq, k)`, contiguous.
        weights: their weights `(B, Nq, k)`, contiguous.
        grad_out: gradient of out, of its dtype.
        grad_lse: gradient of lse.
        gradients: outputs for those that are wanted.
    """
    grad_query, grad_key, grad_gain, grad_offset, grad_bias, grad_value = gradients
    wanted = gradients.wanted
    with on_device_of(value):
        if wanted.query or wanted.key:
            grad_scores = _grad_scores(value, out, indices, weights, grad_out, grad_lse)
        if grad_query is not None:
            _query_gradients(operands, indices, grad_scores, grad_query, grad_offset)
        if wanted.key or wanted.value:
            choices = Choices.sort(indices, operands.key.shape[2])
        if grad_key is not None:
            _key_gradients(operands, choices, grad_scores, grad_key, grad_gain, grad_bias)
        if grad_value is not None:
            choices.sum_by_token(grad_out, weights, grad_value.flatten(1, 2))


def _grad_scores(
    value: Tensor, out: Tensor, indices: Tensor, weights: Tensor, grad_out: Tensor, grad_lse: Tensor
) -> Tensor:
    """Return the gradients of the chosen scores `(B, Nq, k)` float32."""
    grad_scores = torch.empty_like(weights)
    tensors = {
        "value": value, "out": out, "indices": indices, "weights": weights, "grad_out": grad_out,
        "grad_lse": grad_lse, "grad_scores": grad_scores,
    }  # fmt: skip

    def make() -> Plan:
        batch, queries, chosen = indices.shape
        launch = Launch(
            chosen_gradient_kernel,
            (blocks(queries, GATHER_TILE.queries), chosen, batch),
            {
                **with_index_type(scattered("value", value), scattered("grad_out", grad_out)),
                "queries": queries,
                "chosen": chosen,
                "CHANNELS_ADJACENT": value.stride(2) == 1,
                **GATHER_TILE.options(),
            },
        )
        return Plan({"delta": delta_launch(out, grad_out, grad_lse), "chosen": launch})

    plan = plan_of(key_of("chosen_gradient", tensors), make)
    tensors["delta"] = weights.new_empty(grad_lse.shape)
    plan.launches["delta"](tensors)
    plan.launches["chosen"](tensors)
    return grad_scores


def _query_gradients(
    operands: Operands, indices: Tensor, grad_scores: Tensor, grad_query: Tensor, grad_offset: Tensor | None
) -> None:
    """Compute the gradients of queries and offsets."""
    tensors = score_tensors(operands) | {
        "indices": indices, "grad_scores": grad_scores, "grad_query": grad_query,
        "grad_offset": grad_offset,
    }  # fmt: skip
    key = key_of("chosen_query", tensors, operands.scale)
    plan_of(key, lambda: _query_plan(operands, indices)).launches["query"](tensors)


def _query_plan(operands: Operands, indices: Tensor) -> Plan:
    batch, queries, chosen = indices.shape
    names = (
        "key", "key_batch", "key_channel", "key_item", "KEY_UNIT", "gain", "CHANNELS",
        "queries", "QUERIES_UNIT", "tokens", "TOKENS_UNIT",
    )  # fmt: skip
    tile = GATHER_TILE
    arguments = score_arguments(operands, tile)
    launch = Launch(
        chosen_query_kernel,
        (blocks(queries, tile.queries), blocks(operands.query.shape[1], tile.value_channels), batch),
        {
            **with_index_type({name: arguments[name] for name in names}),
            **({"grad_offset": None} if operands.offset is None else {}),
            "natural_scale": operands.scale,
            "chosen": chosen,
            "CHANNELS_ADJACENT": operands.key.stride(1) == 1,
            "BLOCK_M": tile.queries,
            "BLOCK_C": tile.value_channels,
            "num_warps": tile.warps,
        },
    )
    return Plan({"query": launch})


def _key_gradients(
    operands: Operands,
    choices: Choices,
    grad_scores: Tensor,
    grad_key: Tensor,
    grad_gain: Tensor | None,
    grad_bias: Tensor | None,
) -> None:
    """Compute the gradients of keys, gains and biases.

    With s = scale · Σ dS · query of a token, the gradient of its key is gain · s, and that of its gain is
    <key, s> + Σ dS · offset.
    """
    sums = grad_key.new_empty(grad_key.shape, dtype=torch.float32)
    choices.sum_by_token(operands.query[:, None], grad_scores, sums)
    sums *= operands.scale
    if grad_bias is not None:
        ones = grad_scores.new_ones(()).expand(grad_scores.shape[0], 1, 1, grad_scores.shape[1])
        choices.sum_by_token(ones, grad_scores, grad_bias[:, None])
    if operands.gain is None or grad_gain is None:
        grad_key.copy_(sums)
        return
    if operands.offset is None:
        grad_gain.zero_()
    else:
        choices.sum_by_token(operands.offset[:, None, None], grad_scores, grad_gain[:, None])
    grad_gain += (sums * operands.key).sum(1)
    grad_key.copy_(sums * operands.gain[:, None])
