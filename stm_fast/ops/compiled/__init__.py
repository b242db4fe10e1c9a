"""The compiled libraries: found, built if need be, loaded when a read first asks for one, and called through ctypes.

The libraries know nothing of torch. The CPU kernels run on torch's threads: they are handed `torch_parallel_for`, a C
function of torch's stable ABI.
"""

import ctypes
from functools import cache

import torch

from stm_fast.ops.calls import OPERATIONS, Call, Outputs
from stm_fast.ops.compiled import location, structs
from stm_fast.ops.compiled.recipe import BuildError
from stm_fast.ops.compiled.structs import Choices, Machine

OUT_OF_MEMORY = b"the workspace cannot be allocated"
"""What a library says where it could not allocate a workspace."""


@cache
def _load(name: str) -> ctypes.CDLL | str:
    """Load a library; return it, or the reason why it cannot be had."""
    try:
        path = location.find_library(name)
        library = ctypes.CDLL(str(path))
        _declare(library, name)
    except (AttributeError, BuildError, OSError, RuntimeError) as error:
        return str(error)
    return library


def _declare(library: ctypes.CDLL, name: str) -> None:
    """Declare the functions of a library, and see that its structs are those of `structs`.

    Raises:
        BuildError: they are not.
        AttributeError: a function is missing.
    """
    pointer, number = ctypes.c_void_p, ctypes.c_int
    arguments = (pointer, number, number) if name == "cpu" else (pointer,) * 5
    for operation in OPERATIONS:
        function = getattr(library, f"stm_fast_{operation}")
        function.argtypes, function.restype = arguments, ctypes.c_char_p
        if name != "cpu":
            plan = getattr(library, f"stm_fast_{operation}_plan")
            plan.argtypes, plan.restype = (pointer,) * 4, ctypes.c_char_p
    for text in ("stm_fast_source_key", "stm_fast_instruction_sets" if name == "cpu" else "stm_fast_cuda_unusable"):
        getattr(library, text).restype = ctypes.c_char_p
    library.stm_fast_struct_bytes.restype = ctypes.POINTER(ctypes.c_int64)
    theirs = library.stm_fast_struct_bytes()
    for index, struct in enumerate(structs.STRUCTS):
        if theirs[index] != ctypes.sizeof(struct):
            raise BuildError(f"the library was built for another version ({struct.__name__} differs); install it again")
    if name == "cpu":
        library.stm_fast_use_threads.argtypes = (pointer,)
        library.stm_fast_use_threads(_parallel_for())


def _parallel_for() -> ctypes.c_void_p:
    """Return the C function of torch's stable ABI that runs work on torch's threads.

    Raises:
        BuildError: this torch has none.
    """
    try:
        function = ctypes.CDLL(torch._C.__file__).torch_parallel_for
    except AttributeError as error:
        raise BuildError(f"the CPU kernels need torch 2.10 or later, not {torch.__version__}") from error
    return ctypes.cast(function, ctypes.c_void_p)


def failure(name: str) -> str | None:
    """Return why a library cannot be had, or None if it is loaded. The first call loads it.

    Args:
        name: one of `recipe.LIBRARIES`.
    """
    loaded = _load(name)
    return loaded if isinstance(loaded, str) else None


def library(name: str) -> ctypes.CDLL:
    """Return a library, loaded.

    Raises:
        BuildError: it cannot be had.
    """
    loaded = _load(name)
    if isinstance(loaded, str):
        raise BuildError(loaded)
    return loaded


def run_on_cpu(call: Call, outputs: Outputs, engine: int) -> None:
    """Fill the outputs of a call on CPU tensors, on torch's threads.

    Args:
        call: what is to be done.
        outputs: what it fills.
        engine: index among `instruction_sets`.
    """
    struct = structs.struct_of(call, outputs)
    function = getattr(library("cpu"), f"stm_fast_{call.operation}")
    _check(function(ctypes.byref(struct), engine, torch.get_num_threads()))


def run_on_gpu(
    call: Call, outputs: Outputs, machine: Machine, choices: Choices | None = None, *, emulated: bool = False
) -> None:
    """Queue what fills the outputs of a call on the current GPU.

    Args:
        call: what is to be done.
        outputs: what it fills.
        machine: where it is launched.
        choices: of a top-k read, for the gradients of keys and values.
        emulated: whether to run on the CPU instead, on CPU tensors.
    """
    kernels = library("cuda_emulated" if emulated else "cuda")
    struct, place = ctypes.byref(structs.struct_of(call, outputs)), ctypes.byref(structs.machine_struct(machine))
    plan, workspace_bytes = (ctypes.c_int64 * _plan_words(kernels))(), ctypes.c_int64()
    name = f"stm_fast_{call.operation}"
    _check(getattr(kernels, f"{name}_plan")(struct, place, plan, ctypes.byref(workspace_bytes)))
    workspace = torch.empty(workspace_bytes.value, dtype=torch.uint8, device=call.operands.key.device)
    by_token = ctypes.byref(structs.choices_struct(choices))
    _check(getattr(kernels, name)(struct, place, plan, workspace.data_ptr(), by_token))


@cache
def _plan_words(kernels: ctypes.CDLL) -> int:
    """Return the number of 64-bit words that hold a plan of a library."""
    kernels.stm_fast_plan_bytes.restype = ctypes.c_int64
    return -(-int(kernels.stm_fast_plan_bytes()) // 8)


def _check(error: bytes | None) -> None:
    """Raise what a function of a library returned, unless it is null."""
    if error is None:
        return
    if error == OUT_OF_MEMORY:
        raise MemoryError(f"memory read: {error.decode()}")
    raise RuntimeError(error.decode())


@cache
def instruction_sets() -> list[str]:
    """Return the instruction sets that the library has kernels for and this machine executes, the most capable first.

    An empty list where the library cannot be had.
    """
    loaded = _load("cpu")
    return [] if isinstance(loaded, str) else str(loaded.stm_fast_instruction_sets().decode()).split(",")


def source_key() -> str:
    """Return what the CPU library was built from, see `recipe.source_key`; "" where it cannot be had."""
    loaded = _load("cpu")
    return "" if isinstance(loaded, str) else str(loaded.stm_fast_source_key().decode())


def cuda_unusable() -> str | None:
    """Return why the CUDA library's kernels cannot run on the current GPU, or None; the library must be there."""
    reason: bytes | None = library("cuda").stm_fast_cuda_unusable()
    return None if reason is None else f"its kernels cannot run on this GPU: {reason.decode()}"
