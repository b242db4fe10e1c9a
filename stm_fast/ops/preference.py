"""Which of several backends is the fastest on a GPU, as `stm-fast tune` measured it there."""

import json
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from stm_fast import __version__
from stm_fast.ops.cache import cache_folder
from stm_fast.ops.operands import Operands

TOP_K = 30
WORTH = 0.95
"""A backend goes before the first if it takes less than this part of its time."""


def file_of(device: torch.device) -> Path:
    """Where the preferences for a GPU are kept."""
    name = re.sub(r"[^A-Za-z0-9]+", "-", torch.cuda.get_device_name(device))
    return cache_folder() / "backends" / f"{name}-{__version__}.json"


def key_of(operation: str, operands: Operands, value: Tensor) -> str:
    """What a preference is for: an operation on keys and values of some dtypes; usage has no values."""
    dtypes = [operands.key.dtype] if operation == "usage" else [operands.key.dtype, value.dtype]
    return " ".join([operation, *(str(dtype).removeprefix("torch.") for dtype in dtypes)])


@cache
def preferred(device: torch.device) -> dict[str, str]:
    """The fastest backend by `key_of`, of what was measured on a GPU; read once a process."""
    try:
        return _read(file_of(device))
    except RuntimeError:  # a machine without a home has no cache
        return {}


def _read(file: Path) -> dict[str, str]:
    """A file of preferences; nothing if it is absent or broken."""
    try:
        known = json.loads(file.read_text())
    except (OSError, ValueError):
        return {}
    items = known.items() if isinstance(known, dict) else ()
    return {key: name for key, name in items if isinstance(name, str)}


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
    """The backend of each operation that is to be preferred: the first, unless another is clearly faster."""
    chosen = {}
    for operation, times in seconds.items():
        first, best = next(iter(times)), min(times, key=times.__getitem__)
        chosen[operation] = best if times[best] < WORTH * times[first] else first
    return chosen


def with_winners(file: Path, chosen: dict[str, str], operands: Operands, value: Tensor) -> str:
    """What a file of preferences is to say: what it says of other dtypes, and the winners."""
    found = {key_of(operation, operands, value): name for operation, name in chosen.items()}
    return json.dumps(_read(file) | found, indent=1) + "\n"
