"""The compiled library: found, built if need be, and loaded when a read first asks for it."""

import ctypes
import warnings
from functools import cache
from pathlib import Path
from typing import Any

import torch

from stm_fast.ops.compiled import location
from stm_fast.ops.compiled.recipe import BuildError


@cache
def _load() -> Path | str:
    """Load the library; its path, or the reason why it cannot be had."""
    try:
        path = location.find_library()
        torch.ops.load_library(path)  # type: ignore[no-untyped-call]
    except (BuildError, OSError, RuntimeError) as error:
        reason = str(error)
        warnings.warn(
            f"the compiled CPU kernels cannot be used, so reads take the slower 'reference' backend: {reason}",
            RuntimeWarning,
            stacklevel=2,
        )
        return reason
    return path


def failure() -> str | None:
    """Why there is no compiled library, or None if it is loaded. The first call loads it, and warns if it cannot."""
    loaded = _load()
    return loaded if isinstance(loaded, str) else None


def ops() -> Any:
    """The library's ops; loaded by `failure`."""
    return torch.ops.stm_fast_cpu


@cache
def functions() -> ctypes.CDLL | None:
    """The library's functions that need no torch, or None where it cannot be had."""
    loaded = _load()
    if isinstance(loaded, str):
        return None
    library = ctypes.CDLL(str(loaded))
    library.stm_fast_instruction_sets.restype = ctypes.c_char_p
    library.stm_fast_multiply_add.argtypes = (ctypes.c_int, ctypes.c_int64)
    library.stm_fast_multiply_add.restype = ctypes.c_double
    return library


@cache
def instruction_sets() -> list[str]:
    """Those that the library has kernels for and this machine executes, best first."""
    library = functions()
    return [] if library is None else str(library.stm_fast_instruction_sets().decode()).split(",")
