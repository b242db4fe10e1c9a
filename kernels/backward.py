"""Gradients of the dense read, with the scores computed again: one kernel a side.

Each program sums one tile of a gradient over everything it depends on, so nothing is added by two programs. The
gradient of scores is the same on both sides: P · (Σ over value channels of grad_out · value − delta), where
delta = Σ grad_out · out − grad_lse.
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
    aligned,
    blocks,
    key_of,
    on_device_of,
    precision,
    processors,
    score_arguments,
    score_tensors,
    value_arguments,
    with_distances,
)
from stm_fast.kernels.plans import Launch, Plan, plan_of
from stm_fast.kernels.primitives import (
    LN_2,
    affine,
    load_rows,
    products,
    second_channels,
    value_products,
    weights_from,
)
from stm_fast.kernels.splits import Work, results_time, split_count, tile_time
from stm_fast.kernels.tiles import Tile, tile_for


@triton.jit(do_not_specialize=["queries", "tokens", "splits"])
def query_gradient_kernel(
    query, query_descriptor, key, key_descriptor, value, value_descriptor, grad, grad_descriptor,
    gain, offset, bias, lse, delta, query_grad, offset_grad, scale, queries, tokens, splits,
    query_batch, query_channel, query_item, key_batch, key_channel, key_item,
    value_batch, value_object, value_channel, value_item, grad_batch, grad_object, grad_channel, grad_item,
    CHANNELS: tl.constexpr, VALUE_CHANNELS: tl.constexpr, ROWS: tl.constexpr,
    QUERY_UNIT: tl.constexpr, KEY_UNIT: tl.constexpr, VALUE_UNIT: tl.constexpr, GRAD_UNIT: tl.constexpr,
    QUERY_BY_ITEM: tl.constexpr, KEY_BY_ITEM: tl.constexpr, VALUE_BY_ITEM: tl.constexpr, GRAD_BY_ITEM: tl.constexpr,
    QUERIES_UNIT: tl.constexpr, TOKENS_UNIT: tl.constexpr, OFFSET: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_V: tl.constexpr,
):  # fmt: skip
    """Gradients of one tile of queries (some of their channels) and of their offsets, from one split of the memory.

    Writes query_grad `(B, splits, CHANNELS, queries)` over scale, and offset_grad `(B, splits, queries)`.
    """
    queries, tokens = queries * QUERIES_UNIT, tokens * TOKENS_UNIT
    query_source = (query, query_descriptor, QUERY_BY_ITEM, query_batch, 0, query_channel, query_item)
    key_source = (key, key_descriptor, KEY_BY_ITEM, key_batch, 0, key_channel, key_item)
    value_source = (value, value_descriptor, VALUE_BY_ITEM, value_batch, value_object, value_channel, value_item)
    grad_source = (grad, grad_descriptor, GRAD_BY_ITEM, grad_batch, grad_object, grad_channel, grad_item)
    tile, split = tl.program_id(0) % tl.cdiv(queries, BLOCK_M), tl.program_id(0) // tl.cdiv(queries, BLOCK_M)
    batch = tl.program_id(2).to(tl.int64)
    first_query = tile * BLOCK_M
    first_channel = tl.program_id(1) * BLOCK_C
    m = first_query + tl.arange(0, BLOCK_M)  # [M]
    q = load_rows(
        query_source, batch, 0, first_query, queries, CHANNELS, CHANNELS, QUERY_UNIT, OFFSET, BLOCK_C, BLOCK_M
    )  # [C, M]
    second_q = second_channels(
        query_source, batch, first_query, queries, q, CHANNELS, QUERY_UNIT, OFFSET, BLOCK_C, BLOCK_M
    )  # [C, M]
    g = load_rows(
        grad_source, batch, 0, first_query, queries, ROWS, VALUE_CHANNELS, GRAD_UNIT, OFFSET, BLOCK_V, BLOCK_M
    )  # [V, M]
    shift = tl.load(delta + batch * queries + m, mask=m < queries, other=0.0)  # [M]

    length = tl.cdiv(tl.cdiv(tokens, BLOCK_N), splits) * BLOCK_N
    first = split * length
    query_sum = tl.zeros([BLOCK_M, BLOCK_C], tl.float32)
    offset_sum = tl.zeros([BLOCK_M], tl.float32)
    for start in range(first, tl.minimum(first + length, tokens), BLOCK_N):
        n = start + tl.arange(0, BLOCK_N)  # [N]
        k = load_rows(
            key_source, batch, first_channel, start, tokens, CHANNELS, CHANNELS, KEY_UNIT, OFFSET, BLOCK_C, BLOCK_N
        )  # [C, N]
        first_k = k
        if CHANNELS > BLOCK_C:
            first_k = load_rows(
                key_source, batch, 0, start, tokens, CHANNELS, CHANNELS, KEY_UNIT, OFFSET, BLOCK_C, BLOCK_N
            )
        product = products(
            q, second_q, first_k, query_source, key_source, batch, first_query, start, queries, tokens,
            CHANNELS, QUERY_UNIT, KEY_UNIT, OFFSET, PRECISION, BLOCK_C, BLOCK_M, BLOCK_N,
        )  # [M, N]  # fmt: skip
        grad_weights = value_products(
            g, grad_source, value_source, batch, first_query, start, queries, tokens,
            ROWS, VALUE_CHANNELS, GRAD_UNIT, VALUE_UNIT, OFFSET, PRECISION, BLOCK_V, BLOCK_M, BLOCK_N,
        )  # [M, N]  # fmt: skip
        score, _ = affine(product, gain, offset, bias, scale, batch, m[:, None], n[None, :], queries, tokens)
        weight = weights_from(score, lse, batch, m[:, None], queries)  # [M, N]
        grad_scores = weight * (grad_weights - shift[:, None])  # [M, N]
        if gain is not None:
            grad_scores *= tl.load(gain + batch * tokens + n, mask=n < tokens, other=0.0)[None, :]
        if offset_grad is not None:
            offset_sum += tl.sum(grad_scores, 1)
        query_sum = tl.dot(grad_scores.to(k.dtype), k.trans(), query_sum, input_precision=PRECISION)

    place = batch * splits + split
    channel = first_channel + tl.arange(0, BLOCK_C)  # [C]
    tl.store(
        query_grad + (place * CHANNELS + channel[None, :]) * queries + m[:, None],
        query_sum,
        mask=(m < queries)[:, None] & (channel < CHANNELS)[None, :],
    )
    if offset_grad is not None:
        if tl.program_id(1) == 0:
            tl.store(offset_grad + place * queries + m, offset_sum, mask=m < queries)


@triton.jit(do_not_specialize=["queries", "tokens"])
def key_gradient_kernel(
    query, query_descriptor, key, key_descriptor, value, value_descriptor, grad, grad_descriptor,
    gain, offset, bias, lse, delta, key_grad, gain_grad, bias_grad, scale, queries, tokens, natural_scale,
    query_batch, query_channel, query_item, key_batch, key_channel, key_item,
    value_batch, value_object, value_channel, value_item, grad_batch, grad_object, grad_channel, grad_item,
    CHANNELS: tl.constexpr, VALUE_CHANNELS: tl.constexpr, ROWS: tl.constexpr,
    QUERY_UNIT: tl.constexpr, KEY_UNIT: tl.constexpr, VALUE_UNIT: tl.constexpr, GRAD_UNIT: tl.constexpr,
    QUERY_BY_ITEM: tl.constexpr, KEY_BY_ITEM: tl.constexpr, VALUE_BY_ITEM: tl.constexpr, GRAD_BY_ITEM: tl.constexpr,
    QUERIES_UNIT: tl.constexpr, TOKENS_UNIT: tl.constexpr, OFFSET: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_V: tl.constexpr,
):  # fmt: skip
    """Gradients of one tile of keys (some of their channels), of their gains and of their biases.

    Scores are transposed, so that gradients of theirs are the left operand of a product and stay in registers. Writes
    key_grad `(B, CHANNELS, tokens)`, gain_grad and bias_grad `(B, tokens)`.
    """
    queries, tokens = queries * QUERIES_UNIT, tokens * TOKENS_UNIT
    query_source = (query, query_descriptor, QUERY_BY_ITEM, query_batch, 0, query_channel, query_item)
    key_source = (key, key_descriptor, KEY_BY_ITEM, key_batch, 0, key_channel, key_item)
    value_source = (value, value_descriptor, VALUE_BY_ITEM, value_batch, value_object, value_channel, value_item)
    grad_source = (grad, grad_descriptor, GRAD_BY_ITEM, grad_batch, grad_object, grad_channel, grad_item)
    batch = tl.program_id(2).to(tl.int64)
    first_token = tl.program_id(0) * BLOCK_N
    first_channel = tl.program_id(1) * BLOCK_C
    n = first_token + tl.arange(0, BLOCK_N)  # [N]
    k = load_rows(
        key_source, batch, 0, first_token, tokens, CHANNELS, CHANNELS, KEY_UNIT, OFFSET, BLOCK_C, BLOCK_N
    )  # [C, N]
    second_k = second_channels(
        key_source, batch, first_token, tokens, k, CHANNELS, KEY_UNIT, OFFSET, BLOCK_C, BLOCK_N
    )  # [C, N]
    v = load_rows(
        value_source, batch, 0, first_token, tokens, ROWS, VALUE_CHANNELS, VALUE_UNIT, OFFSET, BLOCK_V, BLOCK_N
    )  # [V, N]

    key_sum = tl.zeros([BLOCK_N, BLOCK_C], tl.float32)
    gain_sum = tl.zeros([BLOCK_N], tl.float32)
    bias_sum = tl.zeros([BLOCK_N], tl.float32)
    for start in range(0, queries, BLOCK_M):
        m = start + tl.arange(0, BLOCK_M)  # [M]
        q = load_rows(
            query_source, batch, first_channel, start, queries,
            CHANNELS, CHANNELS, QUERY_UNIT, OFFSET, BLOCK_C, BLOCK_M,
        )  # [C, M]  # fmt: skip
        first_q = q
        if CHANNELS > BLOCK_C:
            first_q = load_rows(
                query_source, batch, 0, start, queries, CHANNELS, CHANNELS, QUERY_UNIT, OFFSET, BLOCK_C, BLOCK_M
            )
        product = products(
            k, second_k, first_q, key_source, query_source, batch, first_token, start, tokens, queries,
            CHANNELS, KEY_UNIT, QUERY_UNIT, OFFSET, PRECISION, BLOCK_C, BLOCK_N, BLOCK_M,
        )  # [N, M]  # fmt: skip
        grad_weights = value_products(
            v, value_source, grad_source, batch, first_token, start, tokens, queries,
            ROWS, VALUE_CHANNELS, VALUE_UNIT, GRAD_UNIT, OFFSET, PRECISION, BLOCK_V, BLOCK_N, BLOCK_M,
        )  # [N, M]  # fmt: skip
        score, raw = affine(product, gain, offset, bias, scale, batch, m[None, :], n[:, None], queries, tokens)
        weight = weights_from(score, lse, batch, m[None, :], queries)  # [N, M]
        shift = tl.load(delta + batch * queries + m, mask=m < queries, other=0.0)  # [M]
        grad_scores = weight * (grad_weights - shift[None, :])  # [N, M]
        if gain_grad is not None:
            gain_sum += tl.sum(grad_scores * raw, 1)
        if bias_grad is not None:
            bias_sum += tl.sum(grad_scores, 1)
        key_sum = tl.dot(grad_scores.to(q.dtype), q.trans(), key_sum, input_precision=PRECISION)

    key_sum *= natural_scale
    if gain is not None:
        key_sum *= tl.load(gain + batch * tokens + n, mask=n < tokens, other=0.0)[:, None]
    channel = first_channel + tl.arange(0, BLOCK_C)  # [C]
    tl.store(
        key_grad + (batch * CHANNELS + channel[None, :]) * tokens + n[:, None],
        key_sum.to(key_grad.dtype.element_ty),
        mask=(n < tokens)[:, None] & (channel < CHANNELS)[None, :],
    )
    if tl.program_id(1) == 0:
        if gain_grad is not None:
            tl.store(gain_grad + batch * tokens + n, gain_sum * LN_2, mask=n < tokens)
        if bias_grad is not None:
            tl.store(bias_grad + batch * tokens + n, bias_sum, mask=n < tokens)


@triton.jit(do_not_specialize=["queries", "tokens"])
def value_gradient_kernel(
    query, query_descriptor, key, key_descriptor, grad, grad_descriptor, gain, offset, bias, lse, value_grad,
    scale, queries, tokens,
    query_batch, query_channel, query_item, key_batch, key_channel, key_item,
    grad_batch, grad_object, grad_channel, grad_item,
    CHANNELS: tl.constexpr, VALUE_CHANNELS: tl.constexpr, ROWS: tl.constexpr,
    QUERY_UNIT: tl.constexpr, KEY_UNIT: tl.constexpr, GRAD_UNIT: tl.constexpr,
    QUERY_BY_ITEM: tl.constexpr, KEY_BY_ITEM: tl.constexpr, GRAD_BY_ITEM: tl.constexpr,
    QUERIES_UNIT: tl.constexpr, TOKENS_UNIT: tl.constexpr, OFFSET: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_V: tl.constexpr,
):  # fmt: skip
    """Gradients of some channels of one tile of values: value_grad `(B, ROWS, tokens)`. Scores are transposed."""
    queries, tokens = queries * QUERIES_UNIT, tokens * TOKENS_UNIT
    query_source = (query, query_descriptor, QUERY_BY_ITEM, query_batch, 0, query_channel, query_item)
    key_source = (key, key_descriptor, KEY_BY_ITEM, key_batch, 0, key_channel, key_item)
    grad_source = (grad, grad_descriptor, GRAD_BY_ITEM, grad_batch, grad_object, grad_channel, grad_item)
    batch = tl.program_id(2).to(tl.int64)
    first_token = tl.program_id(0) * BLOCK_N
    first_row = tl.program_id(1) * BLOCK_V
    n = first_token + tl.arange(0, BLOCK_N)  # [N]
    k = load_rows(
        key_source, batch, 0, first_token, tokens, CHANNELS, CHANNELS, KEY_UNIT, OFFSET, BLOCK_C, BLOCK_N
    )  # [C, N]
    second_k = second_channels(
        key_source, batch, first_token, tokens, k, CHANNELS, KEY_UNIT, OFFSET, BLOCK_C, BLOCK_N
    )  # [C, N]

    value_sum = tl.zeros([BLOCK_N, BLOCK_V], tl.float32)
    for start in range(0, queries, BLOCK_M):
        m = start + tl.arange(0, BLOCK_M)  # [M]
        q = load_rows(
            query_source, batch, 0, start, queries, CHANNELS, CHANNELS, QUERY_UNIT, OFFSET, BLOCK_C, BLOCK_M
        )  # [C, M]
        product = products(
            k, second_k, q, key_source, query_source, batch, first_token, start, tokens, queries,
            CHANNELS, KEY_UNIT, QUERY_UNIT, OFFSET, PRECISION, BLOCK_C, BLOCK_N, BLOCK_M,
        )  # [N, M]  # fmt: skip
        score, _ = affine(product, gain, offset, bias, scale, batch, m[None, :], n[:, None], queries, tokens)
        weight = weights_from(score, lse, batch, m[None, :], queries)  # [N, M]
        g = load_rows(
            grad_source, batch, first_row, start, queries, ROWS, VALUE_CHANNELS, GRAD_UNIT, OFFSET, BLOCK_V, BLOCK_M
        )  # [V, M]
        value_sum = tl.dot(weight.to(g.dtype), g.trans(), value_sum, input_precision=PRECISION)

    row = first_row + tl.arange(0, BLOCK_V)  # [V]
    tl.store(
        value_grad + (batch * ROWS + row[None, :]) * tokens + n[:, None],
        value_sum.to(value_grad.dtype.element_ty),
        mask=(n < tokens)[:, None] & (row < ROWS)[None, :],
    )


def read_backward(
    operands: Operands,
    value: Tensor,
    out: Tensor,
    lse: Tensor,
    grad_out: Tensor,
    grad_lse: Tensor,
    gradients: Gradients,
    tile: Tile | None = None,
    splits: int | None = None,
) -> None:
    """Gradients of `stm_fast.kernels.forward.read`.

    Args:
        operands: operands of the scores.
        value: `(B, O, Cv, Nk)`.
        out: what `read` made.
        lse: what `read` made.
        grad_out: gradient of out, of its dtype.
        grad_lse: gradient of lse.
        gradients: room for those of query, key, gain, offset, bias and value, contiguous; empty if not wanted.
        tile: instead of the table's, for all kernels.
        splits: into how many splits the memory is split for the queries' side, instead of what fills the chip.
    """
    query_grad, key_grad, gain_grad, offset_grad, bias_grad, value_grad = gradients
    wanted = Wanted(*(bool(gradient.numel()) for gradient in (query_grad, key_grad, value_grad)))
    tensors = score_tensors(operands) | {
        "value": value, "out": out, "lse": lse, "grad": grad_out, "grad_lse": grad_lse,
        "key_grad": key_grad, "value_grad": value_grad,
        "gain_grad": None if operands.gain is None else gain_grad,
        "bias_grad": None if operands.bias is None else bias_grad,
    }  # fmt: skip
    with on_device_of(value):
        key = key_of("read_backward", tensors, operands.scale, wanted, tile, splits)
        plan = plan_of(key, lambda: _plan(operands, tensors, wanted, tile, splits))
        if wanted.query or wanted.key:
            tensors["delta"] = torch.empty_like(lse)
            plan.launches["delta"](tensors)
        if wanted.query:
            batch, channels, queries = operands.query.shape
            tensors["query_grad"] = lse.new_empty(batch, plan.splits, channels, queries)
            tensors["offset_grad"] = None if operands.offset is None else lse.new_empty(batch, plan.splits, queries)
            plan.launches["query"](tensors)
            query_grad.copy_(tensors["query_grad"].sum(1).mul_(operands.scale))
            if operands.offset is not None:
                offset_grad.copy_(tensors["offset_grad"].sum(1))
        for name in plan.copied:
            tensors[name] = aligned(tensors[name])
        if wanted.key:
            plan.launches["key"](tensors)
        if wanted.value:
            plan.launches["value"](tensors)


class Wanted(NamedTuple):
    """Which gradients are wanted: of queries and their offsets; of keys, gains and biases; of values."""

    query: bool
    key: bool
    value: bool


def _plan(operands: Operands, tensors: dict[str, Any], wanted: Wanted, tile: Tile | None, splits: int | None) -> Plan:
    value, grad = tensors["value"], tensors["grad"]
    launches: dict[str, Launch] = {}
    count = 1
    if wanted.query or wanted.key:
        launches["delta"] = delta_launch(tensors)
    if wanted.query:
        launches["query"], count = _query_launch(operands, value, grad, tile, splits)
    copies = {"query": aligned(operands.query), "grad": aligned(grad)} if wanted.key or wanted.value else {}
    if wanted.key:
        launches["key"] = _key_launch(operands._replace(query=copies["query"]), value, copies["grad"], tensors, tile)
    if wanted.value:
        launches["value"] = _value_launch(operands._replace(query=copies["query"]), value, copies["grad"], tile)
    return Plan(launches, count, copied=tuple(name for name, copy in copies.items() if copy is not tensors[name]))


def _query_launch(
    operands: Operands, value: Tensor, grad: Tensor, tile: Tile | None, splits: int | None
) -> tuple[Launch, int]:
    """The launch for the queries' side, and into how many splits it splits the memory."""
    batch, channels, queries = operands.query.shape
    tile = tile or tile_for("query_gradient", operands.key, value)
    scores = score_arguments(operands, tile)
    tiles, slices = blocks(queries, tile.queries), blocks(channels, scores["BLOCK_C"])
    work = Work(
        programs=tiles * slices * batch,
        tiles=blocks(operands.key.shape[2], tile.tokens),
        tile=tile_time(tile, 2 * channels, value.shape[1:-1].numel(), operands.query, value),
        results=results_time(batch * channels * queries, 4, value.device),
    )
    splits = splits or split_count(work, processors(value.device))
    arguments = {
        **with_distances(
            scores,
            value_arguments("value", value, tile, tile.tokens),
            value_arguments("grad", grad, tile, tile.queries),
        ),
        **({"offset_grad": None} if operands.offset is None else {}),
        "splits": splits,
        "PRECISION": precision(tile, operands.query, value),
        **tile.options(),
    }
    return Launch(query_gradient_kernel, (tiles * splits, slices, batch), arguments), splits


def _key_launch(operands: Operands, value: Tensor, grad: Tensor, tensors: dict[str, Any], tile: Tile | None) -> Launch:
    batch, channels, tokens = operands.key.shape
    tile = tile or tile_for("key_gradient", operands.key, value)
    scores = score_arguments(operands, tile)
    arguments = {
        **with_distances(
            scores,
            value_arguments("value", value, tile, tile.tokens),
            value_arguments("grad", grad, tile, tile.queries),
        ),
        "gain_grad": tensors["gain_grad"],
        "bias_grad": tensors["bias_grad"],
        "natural_scale": operands.scale,
        "PRECISION": precision(tile, operands.query, value),
        **tile.options(),
    }
    return Launch(
        key_gradient_kernel, (blocks(tokens, tile.tokens), blocks(channels, scores["BLOCK_C"]), batch), arguments
    )


def _value_launch(operands: Operands, value: Tensor, grad: Tensor, tile: Tile | None) -> Launch:
    batch, objects, channels, tokens = value.shape
    tile = tile or tile_for("value_gradient", operands.key, value)
    arguments = {
        **with_distances(score_arguments(operands, tile), value_arguments("grad", grad, tile, tile.queries)),
        "PRECISION": precision(tile, operands.query, value),
        **tile.options(),
    }
    grid = blocks(tokens, tile.tokens), blocks(objects * channels, tile.value_channels), batch
    return Launch(value_gradient_kernel, grid, arguments)
