"""The ops under `memory_read`: schemas and fakes, registered when `stm_fast.ops` is imported, before any backend is.

Every op takes the six operands of `stm_fast.ops.operands` one by one, its own arguments, and the name of a backend. Its
one implementation, for every device, hands them to `stm_fast.ops.dispatch`. The number of outputs is fixed; one that
was not asked for is an empty tensor.
"""

from collections.abc import Callable
from typing import Any, NoReturn

import torch
from torch import Tensor, library

from stm_fast.ops import dispatch
from stm_fast.ops.autocast import autocast_enabled
from stm_fast.ops.backends.registry import Call
from stm_fast.ops.operands import Gradients, Operands, empty_gradients, empty_outputs, empty_top_k_outputs

LIBRARY = library.Library("stm_fast", "DEF")  # type: ignore[no-untyped-call]

_OPERANDS = "Tensor query, Tensor key, Tensor? gain, Tensor? offset, Tensor? bias, float scale"
_WANTED = "bool query_side, bool key_side, bool value_side"
_GRADIENTS = "(Tensor query, Tensor key, Tensor gain, Tensor offset, Tensor bias, Tensor value)"


def _define(operation: str, arguments: str, outputs: str, fake: Callable[..., Any]) -> None:
    """Register schema, implementation and fake of an op; `fake` takes the operands and the op's own arguments."""

    def run(*flat: Any) -> Any:
        call = Call(operation, Operands(*flat[:6]), flat[6:-1])
        device = call.operands.query.device.type
        if not autocast_enabled(device):
            return dispatch.serve(flat[-1], call)
        # The operands already have the dtypes that they are to be read in.
        with torch.autocast(device, enabled=False):
            return dispatch.serve(flat[-1], call)

    def run_fake(*flat: Any) -> Any:
        return fake(Operands(*flat[:6]), *flat[6:-1])

    LIBRARY.define(  # type: ignore[no-untyped-call]
        f"{operation}({_OPERANDS}, {arguments}, str backend) -> {outputs}"
    )
    LIBRARY.impl(operation, run, "CompositeExplicitAutograd")  # type: ignore[no-untyped-call]
    library.register_fake(f"stm_fast::{operation}", run_fake, lib=LIBRARY)


def _refuse_double_backward(*_: object) -> NoReturn:
    raise RuntimeError("memory_read was differentiated twice; it has first derivatives only")


def _fake_usage(operands: Operands, lse: Tensor) -> Tensor:
    return lse.new_empty(operands.key.shape[0], operands.key.shape[2])


def _fake_gradients(operands: Operands, value: Tensor, *arguments: Any) -> Gradients:
    return empty_gradients(operands, value, *arguments[-3:])


_define("read", "Tensor value", "(Tensor out, Tensor lse)", empty_outputs)
_define(
    "read_backward",
    f"Tensor value, Tensor out, Tensor lse, Tensor grad_out, Tensor grad_lse, {_WANTED}",
    _GRADIENTS,
    _fake_gradients,
)
_define("usage", "Tensor lse", "Tensor", _fake_usage)
_define(
    "top_k_read",
    "Tensor value, int top_k",
    "(Tensor out, Tensor lse, Tensor indices, Tensor weights)",
    empty_top_k_outputs,
)
_define(
    "top_k_read_backward",
    f"Tensor value, Tensor out, Tensor indices, Tensor weights, Tensor grad_out, Tensor grad_lse, {_WANTED}",
    _GRADIENTS,
    _fake_gradients,
)
for _backward in ("read_backward", "top_k_read_backward"):
    library.register_autograd(f"stm_fast::{_backward}", _refuse_double_backward, lib=LIBRARY)
