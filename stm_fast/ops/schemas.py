"""The ops under `memory_read`: schemas and fakes, registered when `stm_fast.ops` is imported, before any backend is.

Every op takes the six operands of a read one by one, its own arguments, and the name of a backend. Its one
implementation, for every device, hands them to `stm_fast.ops.dispatch`. The number of outputs is fixed: a gradient that
was not asked for is an empty tensor here, and None everywhere else.
"""

from collections.abc import Callable
from typing import Any, NoReturn

import torch
from torch import Tensor, library

from stm_fast.kernels.operands import Operands, Wanted
from stm_fast.ops import calls, dispatch
from stm_fast.ops.autocast import autocast_enabled
from stm_fast.ops.calls import Call, Outputs

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


def implementation(kind: type[Call]) -> Callable[..., Any]:
    """Return what an op does with its arguments."""

    def run(*flat: Any) -> Any:
        call, device = _call(kind, flat), flat[0].device.type
        if not autocast_enabled(device):
            return _flat(call, dispatch.run_op(call, flat[-1]))
        # The operands already have the dtypes that they are to be read in.
        with torch.autocast(device, enabled=False):
            return _flat(call, dispatch.run_op(call, flat[-1]))

    return run


def _define(kind: type[Call], arguments: str, outputs: str) -> None:
    """Register schema, implementation and fake of an op."""

    def fake(*flat: Any) -> Any:
        call = _call(kind, flat)
        return _flat(call, call.allocate())

    LIBRARY.define(  # type: ignore[no-untyped-call]
        f"{kind.operation}({_OPERANDS}, {arguments}, str backend) -> {outputs}"
    )
    LIBRARY.impl(kind.operation, implementation(kind), "CompositeExplicitAutograd")  # type: ignore[no-untyped-call]
    library.register_fake(f"stm_fast::{kind.operation}", fake, lib=LIBRARY)


def _call(kind: type[Call], flat: tuple[Any, ...]) -> Call:
    """Return the call of an op's arguments, the last of which is the backend."""
    arguments = list(flat[6:-1])
    if kind in (calls.ReadBackward, calls.TopKReadBackward):
        arguments[-1] = Wanted(*arguments[-1])
    return kind(Operands(*flat[:6]), *arguments)


def _flat(call: Call, outputs: Outputs) -> tuple[Tensor, ...] | Tensor:
    """Return outputs as the op's schema has them."""
    if isinstance(call, calls.Usage):
        return outputs[0]  # type: ignore[return-value]
    absent = call.value.new_empty
    return tuple(absent(0) if output is None else output for output in outputs)


def _refuse_double_backward(*_: object) -> NoReturn:
    raise RuntimeError("memory_read was differentiated twice; it has first derivatives only")


for _kind, _schema in _SCHEMAS.items():
    _define(_kind, *_schema)
for _backward in (calls.ReadBackward, calls.TopKReadBackward):
    library.register_autograd(f"stm_fast::{_backward.operation}", _refuse_double_backward, lib=LIBRARY)
