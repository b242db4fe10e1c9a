"""Which exceptions say that a kernel could not be compiled or launched, so that another backend may serve the call."""

import subprocess
import sys

import torch

_KINDS = (
    RuntimeError,  # drivers, compilers, torch and the compiled libraries; torch.AcceleratorError is one
    subprocess.CalledProcessError,  # a compiler that triton runs
    OSError,  # a compiler that is not there, a cache folder without room
    ImportError,  # what a compiler made cannot be loaded
    AttributeError,  # triton has not the interface that it should have
    LookupError,
)
_OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory", "bad_alloc")


def is_kernel_failure(error: Exception) -> bool:
    """Whether another backend may serve the call in which a backend raised `error`.

    It may after triton's errors, and those that drivers, compilers and libraries raise. It may not where memory ran
    out, for the next backend would need as much, nor after `TypeError`, `ValueError` and the errors of
    `stm_fast.errors`, which tell the caller of a mistake, nor after any other, such as one that a signal handler
    raises.
    """
    if isinstance(error, TimeoutError) or is_out_of_memory(error):
        return False
    return isinstance(error, _KINDS) or _is_of_triton(error)


def _is_of_triton(error: Exception) -> bool:
    """Whether it is of triton's own, which need not be installed: failed compilation, too little shared memory."""
    errors = sys.modules.get("triton.errors")
    return errors is not None and isinstance(error, errors.TritonError)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether memory ran out; torch's CPU allocator and GPU drivers have no class of their own for it."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _OUT_OF_MEMORY)


def in_a_line(error: BaseException) -> str:
    """The type of an error and the first line of what it says."""
    kind = type(error).__name__
    # Triton wraps an error inside a kernel's functions once for each call, with the place of the call alone.
    while getattr(error, "error_message", "") is None and error.__cause__ is not None:
        error = error.__cause__
    # The text of triton's errors begins with the source; what is wrong with it is apart.
    text = getattr(error, "error_message", None) or str(error)
    said = next(filter(None, map(str.strip, text.splitlines())), "")
    return f"{kind}: {said}" if said else kind
