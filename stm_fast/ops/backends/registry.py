"""Which backends there are.

A backend is one module of this package. It has

- `device_type() -> str | None`: the type of device whose tensors it reads, "cpu" or "cuda"; None for every one;
- `refusal(call: Call) -> str | None`: why it refuses this call, with the value it saw and its limit, or None; it is
  asked about tensors that are not `unreadable`, may look at any property of them but not at their numbers;
- `unavailable(device: torch.device | None) -> str | None`: why it cannot run on this device (without one: on any of
  this machine), in one sentence, or None; it is asked before every call that it supports, so it must be cheap, with
  whatever takes time cached;
- `fill(call: Call, outputs: Outputs) -> None`: does what the call asks for, and writes all of its outputs (see
  `stm_fast.ops.calls`); it changes nothing else, so that another backend can serve where it fails.

Adding one means writing the module and naming it in `BACKENDS`. One that cannot be imported is unavailable; the others
serve on. `stm_fast.ops.dispatch` chooses among them.
"""

from functools import cache
from importlib import import_module
from types import ModuleType

import torch

from stm_fast.errors import ArgumentError
from stm_fast.ops.calls import Call, inputs_of

BACKENDS = {
    "cpu": "stm_fast.ops.backends.cpu",
    "triton": "stm_fast.ops.backends.triton",
    "cuda": "stm_fast.ops.backends.cuda",
    "reference": "stm_fast.ops.backends.reference",
}
"""Module of each backend, the fastest first."""


DTYPES = (torch.float32, torch.bfloat16, torch.float16)
"""Of the tensors that fused kernels read; float64 is for the reference alone."""


def unreadable(call: Call, device_type: str) -> str | None:
    """Why fused kernels for a type of device cannot read a call's tensors, or None."""
    query, key, value = inputs_of(call)
    for tensor in (query, value):
        if tensor.device.type != device_type:
            return f"it reads tensors on {device_type}, not on {tensor.device}"
        if tensor.dtype not in DTYPES:
            return f"it reads float32, bfloat16 and float16, not {tensor.dtype}"
    for tensor in (query, key, value):
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
