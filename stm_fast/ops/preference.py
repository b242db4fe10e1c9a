"""Which of several backends is the fastest on a GPU, as `stm-fast tune` measured it there."""

import json
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from stm_fast.ops.cache import cache_folder
from stm_fast.ops.operands import Operands

TOP_K = 30


def file_of(device: torch.device) -> Path:
    """Where the preferences for a GPU are kept."""
    name = re.sub(r"[^A-Za-z0-9]+", "-", torch.cuda.get_device_name(device))
    return cache_folder() / "backends" / f"{name}.json"


@cache
def fastest(device: torch.device, operation: str) -> str | None:
    """The backend that an operation was fastest with, or None where nothing was measured; read once a process."""
    try:
        known = json.loads(file_of(device).read_text())
    except (OSError, RuntimeError, ValueError):  # a machine without a home has no cache
        return None
    name = known.get(operation) if isinstance(known, dict) else None
    return name if isinstance(name, str) else None


def measure(
    operands: Operands, value: Tensor, backends: list[str], seconds_of: Callable[[Callable[[], object]], float]
) -> dict[str, dict[str, float]]:
    """Seconds of every operation with every backend.

    Args:
        operands: operands of the scores, at the shape that matters.
        value: `(B, O, Cv, Nk)`.
        backends: their names; all must serve these tensors.
        seconds_of: measures a call.
    """
    runs = {backend: calls(operands, value, backend) for backend in backends}
    operations = next(iter(runs.values()))
    return {
        operation: {backend: seconds_of(runs[backend][operation]) for backend in backends} for operation in operations
    }


def calls(operands: Operands, value: Tensor, backend: str) -> dict[str, Callable[[], object]]:
    """Every operation with a backend, by its name."""
    ops = torch.ops.stm_fast
    out, lse = ops.read(*operands, value, backend)
    best_out, _, *chosen = ops.top_k_read(*operands, value, TOP_K, backend)
    upstream = torch.ones_like(out), torch.ones_like(lse), True, True, True, backend
    return {
        "read": lambda: ops.read(*operands, value, backend),
        "read_backward": lambda: ops.read_backward(*operands, value, out, lse, *upstream),
        "usage": lambda: ops.usage(*operands, lse, backend),
        "top_k_read": lambda: ops.top_k_read(*operands, value, TOP_K, backend),
        "top_k_read_backward": lambda: ops.top_k_read_backward(*operands, value, best_out, *chosen, *upstream),
    }


def winners(seconds: dict[str, dict[str, float]]) -> dict[str, str]:
    """The fastest backend of each operation."""
    return {operation: min(times, key=times.__getitem__) for operation, times in seconds.items()}
