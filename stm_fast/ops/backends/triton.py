"""The read on NVIDIA and AMD GPUs: the Triton kernels of `stm_fast.kernels`.

With TRITON_INTERPRET=1 in the environment the kernels are interpreted, on CPU tensors, for tests.
"""

import contextlib
import re
import subprocess
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import torch

from stm_fast.kernels.operands import Gradients
from stm_fast.ops import calls
from stm_fast.ops.backends.registry import beyond
from stm_fast.ops.cache import cache_folder
from stm_fast.ops.calls import Call, Outputs, inputs_of
from stm_fast.ops.environment import variable
from stm_fast.ops.failures import in_a_line

MIN_VERSION = (3, 6)
MAX_CHANNELS = 512
MAX_BATCHES = 65535
"""Of programs along the third dimension of a grid."""
MAX_ITEMS = 2**31 - 2**20
"""Queries, or memory tokens: they are counted in 32 bits."""
MAX_CHOSEN = 128
"""Candidates that a program keeps for each query, in registers."""


def device_type() -> str:
    """Return the type of device whose tensors it reads: the CPU's where kernels are interpreted."""
    return "cpu" if interpreting() else "cuda"


@cache
def unavailable(device: torch.device | None = None) -> str | None:
    """Return why the kernels cannot run on a GPU, or None; without one, on any of this machine."""
    if not _installed():
        return "triton is not installed; it comes with torch for GPUs on Linux, and with pip install 'stm-fast[gpu]'"
    if interpreting():
        return _import_failure()
    if not torch.cuda.is_available():
        return "torch sees no GPU"
    return _import_failure() or _driver_failure() or _refused(device)


def _installed() -> bool:
    try:
        return find_spec("triton") is not None
    except ValueError:  # what stands in its place is no module
        return False


@cache
def _import_failure() -> str | None:
    """Return why triton or the kernels cannot be imported, or None."""
    try:
        import triton

        version = triton.__version__
        if tuple(map(int, re.findall(r"\d+", version)[:2])) < MIN_VERSION:
            return f"it needs triton {'.'.join(map(str, MIN_VERSION))} or later, not {version}"
        from stm_fast.kernels import backward, forward, launch, tiles, top_k, top_k_backward, usage  # noqa: F401
    except Exception as error:  # an import can raise anything
        return f"triton's kernels cannot be imported: {in_a_line(error)}"
    return None


@cache
def _driver_failure() -> str | None:
    """Return why triton cannot launch kernels, or None: it compiles a part of itself when it is first used."""
    try:
        from triton.runtime import driver

        driver.active.utils  # noqa: B018
    except (ImportError, OSError, RuntimeError, subprocess.CalledProcessError) as error:
        return f"triton cannot be used: {error}"
    return None


def _refused(device: torch.device | None) -> str | None:
    """Return why the kernels do not know a GPU, or None; without one, any of this machine."""
    from stm_fast.kernels import chips

    devices = [device] if device else [torch.device("cuda", index) for index in range(torch.cuda.device_count())]
    reasons = [chips.refused(each) for each in devices]
    return reasons[0] if all(reasons) else None


def interpreting() -> bool:
    """Return whether kernels are interpreted on the CPU."""
    return variable("TRITON_INTERPRET") == "1"


def refusal(call: Call) -> str | None:
    """Refuse more than a grid has room for, or than a program holds."""
    query, key, value = inputs_of(call)
    if interpreting() and torch.bfloat16 in (query.dtype, value.dtype):
        return "triton's interpreter multiplies torch.bfloat16 wrongly; it reads float32 and float16"
    batch, channels, queries = query.shape
    return beyond(
        call,
        MAX_CHOSEN,
        ("batches", batch, MAX_BATCHES),
        ("key channels (with selection, twice those of the keys)", channels, MAX_CHANNELS),
        ("queries", queries, MAX_ITEMS),
        ("memory tokens", key.shape[2], MAX_ITEMS),
    )


def tuned_tiles(device: torch.device) -> Path:
    """Return the file of the tiles that `stm-fast tune` measured on a GPU with this triton."""
    import triton

    name = re.sub(r"[^A-Za-z0-9]+", "-", torch.cuda.get_device_name(device))
    return cache_folder() / "tiles" / f"{name}-triton-{triton.__version__}.json"


@cache
def _prepare(device: torch.device) -> None:
    """Take the tiles that were measured on a device, before the first launch on it."""
    if device.type == "cuda":
        from stm_fast.kernels import tiles

        with contextlib.suppress(OSError, RuntimeError):  # a machine without a home has no cache
            tiles.use_tuned(device, tuned_tiles(device))


def fill(call: Call, outputs: Outputs) -> None:
    """Launch the kernels of a call on the current stream of its device."""
    from stm_fast.kernels import backward, forward, top_k, top_k_backward, usage

    _prepare(call.operands.query.device)
    match call, outputs:
        case calls.Read(), calls.ReadOutputs():
            forward.read(call.operands, call.value, outputs.out, outputs.lse)
        case calls.ReadBackward(), Gradients():
            saved = call.value, call.out, call.lse
            backward.read_backward(call.operands, *saved, call.grad_out, call.grad_lse, outputs)
        case calls.Usage(), calls.UsageOutputs():
            usage.usage(call.operands, call.lse, outputs.usage)
        case calls.TopKRead(), calls.TopKOutputs():
            best = outputs.indices, outputs.weights
            top_k.top_k_read(call.operands, call.value, outputs.out, outputs.lse, *best)
        case calls.TopKReadBackward(), Gradients():
            chosen = call.indices, call.weights
            top_k_backward.top_k_read_backward(
                call.operands, call.value, call.out, *chosen, call.grad_out, call.grad_lse, outputs
            )
