"""The compiled libraries: found, built if need be, and loaded when a read first asks for one."""

import ctypes
from functools import cache
from pathlib import Path
from typing import Any

import torch

from stm_fast.ops.compiled import location
from stm_fast.ops.compiled.recipe import BuildError


@cache
def _load(name: str) -> Path | str:
    """Load a library; its path, or the reason why it cannot be had."""
    try:
        path = location.find_library(name)
        torch.ops.load_library(path)  # type: ignore[no-untyped-call]
    except (BuildError, OSError, RuntimeError) as error:
        return str(error)
    return path


def failure(name: str = "cpu") -> str | None:
    """Why a library cannot be had, or None if it is loaded. The first call loads it.

    Args:
        name: one of `recipe.LIBRARIES`.
    """
    loaded = _load(name)
    return loaded if isinstance(loaded, str) else None


def ops(engine: str = "cpu") -> Any:
    """An engine's ops, "cpu" or "cuda"; loaded by `failure`."""
    return getattr(torch.ops, f"stm_fast_{engine}")


@cache
def functions() -> ctypes.CDLL | None:
    """The CPU library's functions that need no torch, or None where it cannot be had."""
    loaded = _load("cpu")
    if isinstance(loaded, str):
        return None
    library = ctypes.CDLL(str(loaded))
    library.stm_fast_instruction_sets.restype = ctypes.c_char_p
    library.stm_fast_source_key.restype = ctypes.c_char_p
    return library


@cache
def instruction_sets() -> list[str]:
    """Those that the library has kernels for and this machine executes, those with the most instructions first."""
    library = functions()
    return [] if library is None else str(library.stm_fast_instruction_sets().decode()).split(",")


def source_key() -> str:
    """What the CPU library was built from, see `recipe.source_key`; nothing where it cannot be had."""
    library = functions()
    return "" if library is None else str(library.stm_fast_source_key().decode())


def cuda_unusable() -> str | None:
    """Why the CUDA library's kernels cannot run on the current GPU, or None; the library must be there."""
    library = ctypes.CDLL(str(_load("cuda")))
    library.stm_fast_cuda_unusable.restype = ctypes.c_char_p
    reason: bytes | None = library.stm_fast_cuda_unusable()
    return None if reason is None else f"its kernels cannot run on this GPU: {reason.decode()}"
