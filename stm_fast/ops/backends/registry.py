"""Which backends there are and which one serves a call.

A backend is one module of this package. It has

- `supports(call: Call) -> str | None`: why it refuses this call, with the value it saw and its limit, or None;
- `unavailable() -> str | None`: why it cannot run on this machine at all, in one sentence, or None; it is asked before
  every call that it supports, so it must be cheap, with whatever takes time cached;
- a function for each op, with the arguments and outputs of those in `stm_fast.ops.backends.reference`.

Adding one means writing the module and naming it in `BACKENDS`. One that cannot be imported is unavailable; the others
serve on.
"""

import warnings
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import Any, NamedTuple

import torch

from stm_fast.errors import BackendUnavailableError
from stm_fast.ops import preference
from stm_fast.ops.operands import Operands

BACKENDS = {
    "cpu": "stm_fast.ops.backends.cpu",
    "triton": "stm_fast.ops.backends.triton",
    "cuda": "stm_fast.ops.backends.cuda",
    "reference": "stm_fast.ops.backends.reference",
}
"""Module of each backend, the fastest first. "auto" takes the first that supports a call; see `_in_order`."""


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


def unreadable(call: Call, device: str) -> str | None:
    """Why fused kernels for a type of device cannot read a call's tensors, or None."""
    for tensor in (call.operands.query, call.arguments[0]):
        if tensor.device.type != device:
            return f"it reads tensors on {device}, not on {tensor.device}"
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


def check_name(name: str) -> None:
    """Raise `ValueError` unless `name` is "auto" or a backend's name."""
    if name != "auto" and name not in BACKENDS:
        raise ValueError(f"backend is {name!r}; allowed are 'auto', {', '.join(map(repr, BACKENDS))}")


def choose(name: str, call: Call) -> ModuleType:
    """The backend that serves a call. "auto" warns if that is the reference for want of a backend that cannot run here.

    Args:
        name: a backend's name, or "auto" for the fastest that supports the call.
        call: what is to be done.

    Raises:
        ValueError: there is no backend of that name.
        BackendUnavailableError: the named backend refuses the call, or for "auto" all of them do.
    """
    check_name(name)
    reasons: list[str] = []
    missing: list[str] = []
    for candidate in _in_order(call) if name == "auto" else [name]:
        refusal = _import_failure(candidate) or load(candidate).supports(call)
        # Whether a backend is available may take a build to find out: that is asked last.
        reason = refusal or load(candidate).unavailable()
        if reason is None:
            if candidate == "reference" and missing:
                _warn_once(call.operands.query.device.type, missing)
            return load(candidate)
        reasons.append(f"backend {candidate!r} cannot serve {call.operation}: {reason}")
        if refusal is None:
            missing.append(f"{candidate!r} cannot be used: {reason}")
    raise BackendUnavailableError("; ".join(reasons))


_warned: set[str] = set()
"""Types of devices whose users know that the reference serves them."""


def _warn_once(device: str, missing: list[str]) -> None:
    if device in _warned:
        return
    _warned.add(device)
    warnings.warn(
        f"reads on {device} take the slower 'reference' backend, because {'; '.join(missing)}",
        RuntimeWarning,
        stacklevel=3,
    )


def _in_order(call: Call) -> list[str]:
    """All backends, the fastest first: what was measured on the call's GPU goes before the order of `BACKENDS`."""
    device = call.operands.query.device
    if device.type != "cuda":
        return list(BACKENDS)
    first = preference.preferred(device).get(preference.key_of(call.operation, call.operands, call.arguments[0]))
    return sorted(BACKENDS, key=lambda name: name != first)


def availability() -> dict[str, str | None]:
    """For each backend, the reason why it cannot run on this machine, or None if it can."""
    return {name: unavailable(name) for name in BACKENDS}


def unavailable(name: str) -> str | None:
    """The reason why a backend cannot run on this machine, or None if it can."""
    reason: str | None = _import_failure(name) or load(name).unavailable()
    return reason


@cache
def _import_failure(name: str) -> str | None:
    """Why a backend's module cannot be imported, or None; a failed import is not tried again at every call."""
    try:
        load(name)
    except (ImportError, OSError) as error:
        return f"its module cannot be imported: {error}"
    return None
