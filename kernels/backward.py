"""Gradients of the dense read, by kernels that compute the scores again: one each for queries, keys and values.

Each program sums one tile of a gradient over everything that it depends on, so no two programs add to the same number.
The gradient of scores is P · (Σ over value channels of grad_out · value − delta); see `stm_fast.kernels.delta`.
"""

from typing import Any

import torch
from torch import Tensor

from stm_fast.kernels.delta import delta_launch
from stm_fast.kernels.key_gradient import key_gradient_launch
from stm_fast.kernels.launch import aligned, key_of, on_device_of, score_tensors
from stm_fast.kernels.operands import Gradients, Operands, Wanted
from stm_fast.kernels.plans import Launch, Plan, plan_of
from stm_fast.kernels.query_gradient import query_gradient_launch
from stm_fast.kernels.tiles import Tile
from stm_fast.kernels.value_gradient import value_gradient_launch


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
    """Compute gradients of `stm_fast.kernels.forward.read`.

    Args:
        operands: operands of the scores.
        value: `(B, O, Cv, Nk)`.
        out: readout of `read`.
        lse: lse of `read`.
        grad_out: gradient of out, of its dtype.
        grad_lse: gradient of lse.
        gradients: outputs for those that are wanted.
        tile: tile of all kernels to use instead of the table's.
        splits: number of splits of the memory for the gradients of queries, by default what fills the chip.
    """
    wanted = gradients.wanted
    tensors = score_tensors(operands) | {
        "value": value, "out": out, "lse": lse, "grad_out": grad_out, "grad_lse": grad_lse,
        "grad_key": gradients.key, "grad_gain": gradients.gain, "grad_bias": gradients.bias,
        "grad_value": gradients.value,
    }  # fmt: skip
    with on_device_of(value):
        key = key_of("read_backward", tensors, operands.scale, wanted, tile, splits)
        plan = plan_of(key, lambda: _plan(operands, tensors, wanted, tile, splits))
        if wanted.query or wanted.key:
            tensors["delta"] = torch.empty_like(lse)
            plan.launches["delta"](tensors)
        if gradients.query is not None:
            batch, channels, queries = operands.query.shape
            tensors["grad_query"] = lse.new_empty(batch, plan.splits, channels, queries)
            tensors["grad_offset"] = None if operands.offset is None else lse.new_empty(batch, plan.splits, queries)
            plan.launches["query"](tensors)
            gradients.query.copy_(tensors["grad_query"].sum(1).mul_(operands.scale))
            if gradients.offset is not None:
                gradients.offset.copy_(tensors["grad_offset"].sum(1))
        for name in plan.copied:
            tensors[name] = aligned(tensors[name])
        if wanted.key:
            plan.launches["key"](tensors)
        if wanted.value:
            plan.launches["value"](tensors)


def _plan(operands: Operands, tensors: dict[str, Any], wanted: Wanted, tile: Tile | None, splits: int | None) -> Plan:
    value, grad_out = tensors["value"], tensors["grad_out"]
    launches: dict[str, Launch] = {}
    split_count = 1
    if wanted.query or wanted.key:
        launches["delta"] = delta_launch(tensors["out"], grad_out, tensors["grad_lse"])
    if wanted.query:
        launches["query"], split_count = query_gradient_launch(operands, value, grad_out, tile, splits)
    if not wanted.key and not wanted.value:
        return Plan(launches, split_count)
    copies = {"query": aligned(operands.query), "grad_out": aligned(grad_out)}
    operands, grad_out = operands._replace(query=copies["query"]), copies["grad_out"]
    if wanted.key:
        launches["key"] = key_gradient_launch(
            operands, value, grad_out, tensors["grad_gain"], tensors["grad_bias"], tile
        )
    if wanted.value:
        launches["value"] = value_gradient_launch(operands, value, grad_out, tile)
    copied = tuple(name for name, copy in copies.items() if copy is not tensors[name])
    return Plan(launches, split_count, copied=copied)
