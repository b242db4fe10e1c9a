"""Which of several backends is the fastest on a GPU, as `stm-fast tune` measured it there."""

import json
import re
from functools import cache
from pathlib import Path

import torch

from stm_fast import __version__
from stm_fast.ops.cache import cache_folder
from stm_fast.ops.calls import Call, Usage, inputs_of


def file_of(device: torch.device) -> Path:
    """Return where the preferences for a GPU are kept."""
    name = re.sub(r"[^A-Za-z0-9]+", "-", torch.cuda.get_device_name(device))
    return cache_folder() / "backends" / f"{name}-{__version__}.json"


def key_of(operation: str, key: torch.dtype, value: torch.dtype) -> str:
    """Return what a preference is for: an operation on keys and values of some dtypes; usage reads no values."""
    dtypes = [key] if operation == Usage.operation else [key, value]
    return " ".join([operation, *(str(dtype).removeprefix("torch.") for dtype in dtypes)])


def key_of_call(call: Call) -> str:
    """Return what a preference for a call is for."""
    _, key, value = inputs_of(call)
    return key_of(call.operation, key.dtype, value.dtype)


@cache
def preferred(device: torch.device) -> dict[str, str]:
    """Return the fastest backend by `key_of`, as measured on a GPU; read once per process."""
    try:
        return read(file_of(device))
    except RuntimeError:  # a machine without a home has no cache
        return {}


def read(file: Path) -> dict[str, str]:
    """Read a file of preferences; nothing if it is absent or broken."""
    try:
        known = json.loads(file.read_text())
    except (OSError, ValueError):
        return {}
    items = known.items() if isinstance(known, dict) else ()
    return {key: name for key, name in items if isinstance(name, str)}
