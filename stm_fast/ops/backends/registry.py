"""The backends, and what a backend is.

Adding one means writing a module of this package that has the functions of `Backend`, and naming it in `BACKENDS`. One
that cannot be imported is unavailable; the others serve. `stm_fast.ops.dispatch` chooses among them.
"""

from functools import cache
from importlib import import_module
from typing import Protocol, cast

import torch

from stm_fast.errors import ArgumentError
from stm_fast.ops.calls import Call, Outputs, chosen_of, inputs_of

BACKENDS = {
    "cpu": "stm_fast.ops.backends.cpu",
    "triton": "stm_fast.ops.backends.triton",
    "cuda": "stm_fast.ops.backends.cuda",
    "reference": "stm_fast.ops.backends.reference",
}
"""Module of each backend, the fastest first."""


class Backend(Protocol):
    """The functions of a backend's module."""

    def device_type(self) -> str | None:
        """Return the type of device whose tensors it reads, "cpu" or "cuda"; None for every one."""
        ...

    def unavailable(self, device: torch.device | None = None) -> str | None:
        """Return why it cannot run on a device, in one sentence, or None; without a device, on any of this machine.

        It is asked before every call that is not refused: whatever takes time is cached.
        """
        ...

    def refusal(self, call: Call) -> str | None:
        """Return why it refuses a call, with the value it saw and its limit, or None.

        It is not asked about tensors that are `unreadable`, and looks at their properties but not at their numbers.
        """
        ...

    def fill(self, call: Call, outputs: Outputs) -> None:
        """Compute a call into its outputs, all of them; see `stm_fast.ops.calls`.

        It changes nothing else, so that another backend can serve where it fails.
        """
        ...


DTYPES = (torch.float32, torch.bfloat16, torch.float16)
"""Of the tensors that fused kernels read; float64 is for the reference alone."""


def unreadable(call: Call, device_type: str) -> str | None:
    """Return why fused kernels for a type of device cannot read a call's tensors, or None."""
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


def beyond(call: Call, max_chosen: int, *sizes: tuple[str, int, int]) -> str | None:
    """Return which limit of a backend a call exceeds, or None.

    Args:
        call: what is asked.
        max_chosen: limit of the tokens that a top-k read chooses for a query.
        *sizes: names in the plural, sizes, and their limits.
    """
    for name, size, limit in sizes:
        if size > limit:
            return f"it reads at most {limit} {name}, not {size}"
    chosen = chosen_of(call)
    if chosen is not None and not 1 <= chosen <= max_chosen:
        return f"it reads the best 1 to {max_chosen} tokens, not {chosen}"
    return None


@cache
def load(name: str) -> Backend:
    """Import a backend's module, at its first use."""
    return cast(Backend, import_module(BACKENDS[name]))


@cache
def import_failure(name: str) -> str | None:
    """Return why a backend's module cannot be imported, or None; a failed import is not tried again at every call."""
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
    """Return, for each backend, why it cannot run on this machine, or None if it can."""
    return {name: unavailable(name) for name in BACKENDS}


def unavailable(name: str, device: torch.device | None = None) -> str | None:
    """Return why a backend cannot run on a device, or None if it can; without a device, on any of this machine."""
    reason: str | None = import_failure(name) or load(name).unavailable(device)
    return reason
