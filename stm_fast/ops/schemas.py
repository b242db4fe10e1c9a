"""The ops under `memory_read`: schemas and fakes, registered when `stm_fast.ops` is imported, before any backend is.

Every op takes the six operands of a read one by one, its own arguments, and the name of a backend. Its one
implementation, for every device, hands them to `stm_fast.ops.dispatch`. The number of outputs is fixed: a gradient that
was not asked for is an empty tensor here, and None everywhere else.

Fakes return what `allocate` of the call makes: `stm_fast.ops.calls`.
"""

from functools import partial
from typing import Any, NoReturn

import torch
from torch import Tensor, library

from stm_fast.ops import calls, dispatch
from stm_fast.ops.calls import Call

LIBRARY = library.Library("stm_fast", "DEF")  # type: ignore[no-untyped-call]

_OPERANDS = "Tensor query, Tensor key, Tensor? gain, Tensor? offset, Tensor? bias, float scale"
_UPSTREAM = "Tensor grad_out, Tensor grad_lse, bool[3] wanted"
_GRADIENTS = "(Tensor query, Tensor key, Tensor gain, Tensor offset, Tensor bias, Tensor value)"
_SCHEMAS = {
    calls.Read: ("Tensor value", "(Tensor out, Tensor lse)"),
    calls.ReadBackward: (f"Tensor value, Tensor out, Tensor lse, {_UPSTREAM}", _GRADIENTS),
    calls.Usage: ("Tensor lse", "Tensor"),
    calls.TopKRead: ("Tensor value, int top_k", "(Tensor out, Tensor lse, Tensor indices, Tensor weights)"),
    calls.TopKReadBackward: (f"Tensor value, Tensor out, Tensor indices, Tensor weights, {_UPSTREAM}", _GRADIENTS),
}


def _define(kind: type[Call], arguments: str, outputs: str) -> None:
    """Register schema, implementation and fake of an op."""

    def fake(*flat: Any) -> Any:
        call = calls.of_flat(kind, flat[:-1])
        return calls.flattened(call, call.allocate())

    LIBRARY.define(  # type: ignore[no-untyped-call]
        f"{kind.operation}({_OPERANDS}, {arguments}, str backend) -> {outputs}"
    )
    LIBRARY.impl(kind.operation, partial(dispatch.run_flat, kind), "CompositeExplicitAutograd")  # type: ignore[no-untyped-call]
    library.register_fake(f"stm_fast::{kind.operation}", fake, lib=LIBRARY)


def _refuse_double_backward(*_: object) -> NoReturn:
    raise RuntimeError("memory_read was differentiated twice; it has first derivatives only")


def top_k_usage(indices: Tensor, weights: Tensor, tokens: int) -> Tensor:
    """Sum weights `(B, Nq, k)` of chosen tokens by token, `(B, tokens)`; the same bits every time."""
    usage = weights.new_zeros(len(weights), tokens)
    if usage.device.type == "cpu":
        return usage.scatter_add_(1, indices.flatten(1), weights.flatten(1))
    # On a GPU `scatter_add_` adds in any order; this sorts first.
    first = tokens * torch.arange(len(weights), device=indices.device)[:, None, None]
    return usage.view(-1).index_put_(((indices + first).flatten(),), weights.flatten(), accumulate=True).view_as(usage)


# An op of its own, so that a compiler does not replace the sum by another.
LIBRARY.define("top_k_usage(Tensor indices, Tensor weights, SymInt tokens) -> Tensor")  # type: ignore[no-untyped-call]
LIBRARY.impl("top_k_usage", top_k_usage, "CompositeExplicitAutograd")  # type: ignore[no-untyped-call]
library.register_fake(
    "stm_fast::top_k_usage", lambda indices, weights, tokens: weights.new_empty(len(weights), tokens), lib=LIBRARY
)
for _kind, _schema in _SCHEMAS.items():
    _define(_kind, *_schema)
for _backward in (calls.ReadBackward, calls.TopKReadBackward):
    library.register_autograd(f"stm_fast::{_backward.operation}", _refuse_double_backward, lib=LIBRARY)
