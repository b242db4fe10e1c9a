"""Which backend serves a call, and which one where that one fails.

"auto" goes through the backends, the fastest first. It passes over those that refuse the call or cannot run, and over
one whose kernel fails to compile or to launch: the next one serves, and the one that failed is not tried again in this
process for the same operation on the same device and dtypes. The user is warned, once for each device, backend and
operation, of a backend that failed, and of whatever keeps fused kernels from tensors that they could read, where the
reference serves instead. If no backend serves, the first failure is raised: an error that is not of one backend, such
as a GPU that no longer responds after an illegal access, reaches the caller as it is.
"""

import warnings
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

import torch

from stm_fast.errors import BackendUnavailableError
from stm_fast.ops import preference
from stm_fast.ops.backends import registry
from stm_fast.ops.backends.registry import Call
from stm_fast.ops.failures import in_a_line, is_kernel_failure
from stm_fast.ops.free_places import with_free_places, without_free_places


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

    def told(self, operation: str) -> str:
        """What a warning says of it."""
        if self.kind == "failed":
            again = f"it is not tried again in this process; backend={self.backend!r} raises the whole error"
            return f"{self.backend!r} failed in {operation} with {self.reason} ({again})"
        cannot = "be used" if self.kind == "unavailable" else f"serve {operation}"
        return f"{self.backend!r} cannot {cannot}: {self.reason}"


_failed: dict[tuple[torch.device, str, str], str] = {}
"""What was wrong, by device, backend and `preference.key_of` the call."""
_told: set[tuple[torch.device, str, str | None]] = set()
"""Of which obstacles users know, by device, backend and operation; None for all operations."""


def serve(name: str, call: Call) -> Any:
    """Do what a call asks for.

    Args:
        name: a backend's name, or "auto" for the fastest that serves the call.
        call: what is to be done.

    Returns:
        The outputs of the op.

    Raises:
        ValueError: there is no backend of that name.
        BackendUnavailableError: the named backend refuses the call, or for "auto" all of them do.
    """
    real = without_free_places(call)
    if name == "auto":
        return with_free_places(call, _serve_by_any(real))
    return with_free_places(call, _run(choose(name, real), real))


def choose(name: str, call: Call) -> str:
    """The name of the backend that a call goes to.

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
    """All backends, the fastest first: what was measured on the call's GPU goes before the order of the registry."""
    device = call.operands.query.device
    if device.type != "cuda":
        return list(registry.BACKENDS)
    first = preference.preferred(device).get(preference.key_of(call.operation, call.operands, call.arguments[0]))
    return sorted(registry.BACKENDS, key=lambda name: name != first)


def _run(name: str, call: Call) -> Any:
    return getattr(registry.load(name), call.operation)(call.operands, *call.arguments)


def _serve_by_any(call: Call) -> Any:
    obstacles: list[Obstacle] = []
    failures: list[Exception] = []
    try:
        for name in _usable(call, obstacles):
            try:
                outputs = _run(name, call)
            except Exception as error:
                if not is_kernel_failure(error):
                    raise
                failures.append(error)
                obstacles.append(Obstacle(name, "failed", in_a_line(error)))
                continue
            # Only now it is known to have been the backends' failure, not that of the call or the device.
            for obstacle in obstacles:
                if obstacle.kind == "failed":
                    _failed[_kind_of(obstacle.backend, call)] = obstacle.reason
            _tell(call, name, obstacles)
            return outputs
        if failures:
            raise failures[0]
        raise _unserved(call, obstacles)
    finally:
        failures.clear()  # their tracebacks hold this frame, and outputs half done


def _usable(call: Call, obstacles: list[Obstacle]) -> Iterator[str]:
    """Backends that can be asked to serve a call, the fastest first; what is in the way of others goes to a list."""
    for name in in_order(call):
        obstacle = _refusal(name, call)
        if obstacle is None and _failed and (reason := _failed.get(_kind_of(name, call))):
            obstacle = Obstacle(name, "failed", reason)
        if obstacle is None:
            yield name
        else:
            obstacles.append(obstacle)


def _refusal(name: str, call: Call) -> Obstacle | None:
    """Why a backend does not serve a call, or None."""
    if reason := registry.import_failure(name):
        return Obstacle(name, "unavailable", reason)
    backend = registry.load(name)
    kind = backend.device_type()
    if kind and (reason := registry.unreadable(call, kind)):
        return Obstacle(name, "unreadable", reason)
    if reason := backend.supports(call):
        return Obstacle(name, "refused", reason)
    # Whether a backend is available may take a build to find out: that is asked last.
    if reason := backend.unavailable(call.operands.query.device):
        return Obstacle(name, "unavailable", reason)
    return None


def _kind_of(name: str, call: Call) -> tuple[torch.device, str, str]:
    key = preference.key_of(call.operation, call.operands, call.arguments[0])
    return call.operands.query.device, name, key


def _unserved(call: Call, obstacles: list[Obstacle]) -> BackendUnavailableError:
    return BackendUnavailableError(
        "; ".join(f"backend {name!r} cannot serve {call.operation}: {reason}" for name, _, reason in obstacles)
    )


def _tell(call: Call, serving: str, obstacles: list[Obstacle]) -> None:
    """Warn of the obstacles that a user would want to know of, unless all of them are known."""
    wanted = ("failed", "refused", "unavailable") if serving == "reference" else ("failed",)
    device = call.operands.query.device
    kept = [obstacle for obstacle in obstacles if obstacle.kind in wanted]
    seen = {(device, obstacle.backend, None if obstacle.kind == "unavailable" else call.operation) for obstacle in kept}
    if seen <= _told:
        return
    _told.update(seen)
    slower = "slower " if serving == "reference" else ""
    reasons = "; ".join(obstacle.told(call.operation) for obstacle in kept)
    warnings.warn(
        f"reads on {device} take the {slower}{serving!r} backend, because {reasons}", RuntimeWarning, stacklevel=4
    )
