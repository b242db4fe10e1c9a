"""Runs an op: allocates its outputs, chooses a backend, and chooses the next one where a kernel fails.

"auto" goes through the backends, the fastest first. It skips those that refuse the call or cannot run, and those whose
kernel fails to compile or to launch: the next one serves, and the one that failed is not tried again in this process
for the same operation, device and dtypes. The user is warned, once per device, backend and operation, of a backend that
failed, and of what keeps the fused kernels from a call that the reference serves in their place. If no backend serves,
the first failure is raised: an error that is not one backend's own, such as a GPU that no longer responds after an
illegal access, reaches the caller unchanged.
"""

import sys
import warnings
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from stm_fast.errors import BackendUnavailableError
from stm_fast.ops import calls, preference
from stm_fast.ops.autocast import autocast_enabled
from stm_fast.ops.backends import registry
from stm_fast.ops.calls import Call, Outputs, prepared
from stm_fast.ops.failures import in_a_line, is_kernel_failure


class Obstacle(NamedTuple):
    """What keeps a backend from serving a call.

    Attributes:
        backend: its name.
        kind: "unreadable" for tensors that it is not for, "refused" for a call beyond its limits, "unavailable" if it
            cannot run here, "failed" if it tried.
        reason: a sentence.
    """

    backend: str
    kind: Literal["unreadable", "refused", "unavailable", "failed"]
    reason: str

    def described(self, operation: str) -> str:
        """Return what a warning says of it."""
        if self.kind == "failed":
            again = f"it is not tried again in this process; backend={self.backend!r} raises the whole error"
            return f"{self.backend!r} failed in {operation} with {self.reason} ({again})"
        cannot = "be used" if self.kind == "unavailable" else f"serve {operation}"
        return f"{self.backend!r} cannot {cannot}: {self.reason}"


_failed: dict[tuple[torch.device, str, str], str] = {}
"""What was wrong, by device, backend and `preference.key_of_call`."""
_warned: set[tuple[torch.device, str, str | None]] = set()
"""Obstacles that users were warned of, by device, backend and operation; None for all operations."""


def run_flat(kind: type[Call], *arguments: Any) -> tuple[Tensor, ...] | Tensor:
    """Do what an op is asked for: the implementation of every op, on every device.

    Args:
        kind: of the call.
        arguments: of the op, the last of which is the backend.
    """
    call = calls.of_flat(kind, arguments[:-1])
    device = call.operands.query.device.type
    # The operands already have the dtypes that they are to be read in.
    with torch.autocast(device, enabled=False) if autocast_enabled(device) else nullcontext():
        return calls.flattened(call, run_op(call, arguments[-1]))


def run_op(call: Call, backend: str = "auto") -> Outputs:
    """Do what a call asks for.

    Args:
        call: what is to be done.
        backend: a backend's name, or "auto" for the fastest that serves the call.

    Returns:
        The outputs of the op.

    Raises:
        ValueError: there is no backend of that name.
        BackendUnavailableError: the named backend refuses the call, or for "auto" all of them do.
    """
    call = prepared(call)
    if backend == "auto":
        return _run_any(call)
    name = choose(backend, call)
    outputs = call.allocate()
    registry.load(name).fill(call, outputs)
    return outputs


def choose(name: str, call: Call) -> str:
    """Return the name of the backend that a call goes to.

    Args:
        name: a backend's name, or "auto" for the fastest that supports the call and has not failed in its like.
        call: what is to be done.

    Raises:
        ValueError: there is no backend of that name.
        BackendUnavailableError: the named backend refuses the call, or for "auto" all of them do.
    """
    registry.check_name(name)
    obstacles: list[Obstacle] = []
    if name == "auto":
        for candidate in _usable(call, obstacles):
            return candidate
    elif obstacle := _refusal(name, call):
        obstacles.append(obstacle)
    else:
        return name
    raise _unserved(call, obstacles)


def in_order(call: Call) -> list[str]:
    """Return all backends, the fastest first: what was measured on the call's GPU goes before the registry's order."""
    device = call.operands.query.device
    if device.type != "cuda":
        return list(registry.BACKENDS)
    first = preference.preferred(device).get(preference.key_of_call(call))
    return sorted(registry.BACKENDS, key=lambda name: name != first)


def _run_any(call: Call) -> Outputs:
    """Let the fastest backend fill the outputs; where its kernel fails, the next one fills them anew."""
    obstacles: list[Obstacle] = []
    failures: list[Exception] = []
    outputs: Outputs | None = None
    try:
        for name in _usable(call, obstacles):
            outputs = outputs or call.allocate()
            try:
                registry.load(name).fill(call, outputs)
            except Exception as error:
                if not is_kernel_failure(error):
                    raise
                failures.append(error)
                obstacles.append(Obstacle(name, "failed", in_a_line(error)))
                continue
            # Only now it is known to have been the backends' failure, not that of the call or the device.
            for obstacle in obstacles:
                if obstacle.kind == "failed":
                    _failed[_failure_key(obstacle.backend, call)] = obstacle.reason
            _warn(call, name, obstacles)
            return outputs
        if failures:
            raise failures[0]
        raise _unserved(call, obstacles)
    finally:
        failures.clear()  # their tracebacks hold this frame, and outputs half done


def _usable(call: Call, obstacles: list[Obstacle]) -> Iterator[str]:
    """Yield the backends that can serve a call, the fastest first; append what keeps the others from it to a list."""
    for name in in_order(call):
        obstacle = _refusal(name, call)
        if obstacle is None and _failed and (reason := _failed.get(_failure_key(name, call))):
            obstacle = Obstacle(name, "failed", reason)
        if obstacle is None:
            yield name
        else:
            obstacles.append(obstacle)


def _refusal(name: str, call: Call) -> Obstacle | None:
    """Return why a backend does not serve a call, or None."""
    if reason := registry.import_failure(name):
        return Obstacle(name, "unavailable", reason)
    backend = registry.load(name)
    kind = backend.device_type()
    if kind and (reason := registry.unreadable(call, kind)):
        return Obstacle(name, "unreadable", reason)
    if reason := backend.refusal(call):
        return Obstacle(name, "refused", reason)
    # Whether a backend is available may take a build to find out: that is asked last.
    if reason := backend.unavailable(call.operands.query.device):
        return Obstacle(name, "unavailable", reason)
    return None


def _failure_key(name: str, call: Call) -> tuple[torch.device, str, str]:
    return call.operands.query.device, name, preference.key_of_call(call)


def _unserved(call: Call, obstacles: list[Obstacle]) -> BackendUnavailableError:
    return BackendUnavailableError(
        "; ".join(f"backend {name!r} cannot serve {call.operation}: {reason}" for name, _, reason in obstacles)
    )


def _warn(call: Call, serving: str, obstacles: list[Obstacle]) -> None:
    """Warn of the obstacles that matter to a user, unless the user was warned of all of them before."""
    wanted = ("failed", "refused", "unavailable") if serving == "reference" else ("failed",)
    device = call.operands.query.device
    kept = [obstacle for obstacle in obstacles if obstacle.kind in wanted]
    seen = {(device, obstacle.backend, None if obstacle.kind == "unavailable" else call.operation) for obstacle in kept}
    if seen <= _warned:
        return
    _warned.update(seen)
    slower = "slower " if serving == "reference" else ""
    reasons = "; ".join(obstacle.described(call.operation) for obstacle in kept)
    message = f"reads on {device} take the {slower}{serving!r} backend, because {reasons}"
    warnings.warn(message, RuntimeWarning, stacklevel=_stack_level())


def _stack_level() -> int:
    """Return the stack level, for a warning of the caller, of the first frame outside this package and torch."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in ("stm_fast", "torch"):
        level, frame = level + 1, frame.f_back
    return level
