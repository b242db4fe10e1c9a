"""Which backends there are.

A backend is one module of this package. It has

- `device_type() -> str | None`: the type of device whose tensors it reads, "cpu" or "cuda"; None for every one;
- `supports(call: Call) -> str | None`: why it refuses this call, with the value it saw and its limit, or None; it is
  asked about tensors that are not `unreadable`, and only looks at the call;
- `unavailable(device: torch.device | None) -> str | None`: why it cannot run on this device (without one: on any of
  this machine), in one sentence, or None; it is asked before every call that it supports, so it must be cheap, with
  whatever takes time cached;
- a function for each op, with the arguments and outputs of those in `stm_fast.ops.backends.reference`; it makes its
  outputs itself, and changes nothing else, so that another backend can serve where it fails.

Adding one means writing the module and naming it in `BACKENDS`. One that cannot be imported is unavailable; the others
serve on. `stm_fast.ops.dispatch` chooses among them.
"""

from functools import cache
from importlib import import_module
from types import ModuleType
from typing import Any, NamedTuple

import torch

from stm_fast.errors import ArgumentError
from stm_fast.ops.operands import Operands

BACKENDS = {
    "cpu": "stm_fast.ops.backends.cpu",
    "triton": "stm_fast.ops.backends.triton",
    "cuda": "stm_fast.ops.backends.cuda",
    "reference": "stm_fast.ops.backends.reference",
}
"""Module of each backend, the fastest first."""


class Call(NamedTuple):
    """What a backend is asked to do; it may look at any property of the tensors but not at their numbers.

    Attributes:
        operation: name of the op and of the backend's function.
        operands: operands of the scores.
        arguments: the function's other arguments; the first is the value `(B, O, Cv, Nk)`, or lse for usage.
    """

    operation: str
    operands: Operands
    arguments: tuple[Any, ...]


DTYPES = (torch.float32, torch.bfloat16, torch.float16)
"""Of the tensors that fused kernels read; float64 is for the reference alone."""


def unreadable(call: Call, device_type: str) -> str | None:
    """Why fused kernels for a type of device cannot read a call's tensors, or None."""
    for tensor in (call.operands.query, call.arguments[0]):
        if tensor.device.type != device_type:
            return f"it reads tensors on {device_type}, not on {tensor.device}"
        if tensor.dtype not in DTYPES:
            return f"it reads float32, bfloat16 and float16, not {tensor.dtype}"
    for tensor in (call.operands.query, call.operands.key, call.arguments[0]):
        if tensor.numel() == 0:
            return f"it reads tensors with elements, not of shape {tuple(tensor.shape)}"
    return None


@cache
def load(name: str) -> ModuleType:
    """Import a backend's module, at its first use."""
    return import_module(BACKENDS[name])


@cache
def import_failure(name: str) -> str | None:
    """Why a backend's module cannot be imported, or None; a failed import is not tried again at every call."""
    try:
        load(name)
    except (ImportError, OSError) as error:
        return f"its module cannot be imported: {error}"
    return None


def check_name(name: str) -> None:
    """Raise `ArgumentError` unless `name` is "auto" or a backend's name."""
    if name != "auto" and name not in BACKENDS:
        raise ArgumentError("backend", f"is {name!r}; allowed are 'auto', {', '.join(map(repr, BACKENDS))}")


def availability() -> dict[str, str | None]:
    """For each backend, the reason why it cannot run on this machine, or None if it can."""
    return {name: unavailable(name) for name in BACKENDS}


def unavailable(name: str, device: torch.device | None = None) -> str | None:
    """The reason why a backend cannot run on a device, or None if it can; without one, on any of this machine."""
    reason: str | None = import_failure(name) or load(name).unavailable(device)
    return reason
