"""The read on NVIDIA and AMD GPUs: the Triton kernels of `stm_fast.kernels`.

With TRITON_INTERPRET=1 in the environment the kernels are interpreted, on CPU tensors, for tests.
"""

import contextlib
import os
import re
import subprocess
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from stm_fast.ops.backends.registry import Call
from stm_fast.ops.cache import cache_folder
from stm_fast.ops.failures import in_a_line
from stm_fast.ops.operands import Gradients, Operands, empty_gradients, empty_outputs, empty_top_k_outputs

if TYPE_CHECKING:
    from stm_fast.kernels import launch

MIN_VERSION = (3, 6)
MAX_CHANNELS = 512
MAX_BATCHES = 65535
"""Of programs along the third dimension of a grid."""
MAX_ITEMS = 2**31 - 2**20
"""Queries, or memory tokens: they are counted in 32 bits."""
MAX_CHOSEN = 128
"""Candidates that a program keeps for each query, in registers."""


def device_type() -> str:
    """It reads GPU tensors, or CPU tensors where kernels are interpreted."""
    return "cpu" if interpreting() else "cuda"


@cache
def unavailable(device: torch.device | None = None) -> str | None:
    """Why the kernels cannot run on a GPU, or None; without one, on any of this machine."""
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
    """Why triton or the kernels cannot be imported, or None."""
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
    """Why triton cannot launch anything: it compiles a part of itself when it is first used."""
    try:
        from triton.runtime import driver

        driver.active.utils  # noqa: B018
    except (ImportError, OSError, RuntimeError, subprocess.CalledProcessError) as error:
        return f"triton cannot be used: {error}"
    return None


def _refused(device: torch.device | None) -> str | None:
    """Why the kernels do not know a GPU, or None; without one, any of this machine."""
    from stm_fast.kernels import chips

    devices = [device] if device else [torch.device("cuda", index) for index in range(torch.cuda.device_count())]
    reasons = [chips.refused(each) for each in devices]
    return reasons[0] if all(reasons) else None


def interpreting() -> bool:
    """Whether kernels are interpreted on the CPU."""
    return os.environ.get("TRITON_INTERPRET") == "1"


def supports(call: Call) -> str | None:
    """It serves tensors of any strides, up to the limits of a grid and of what a program holds."""
    operands = call.operands
    if interpreting() and torch.bfloat16 in (operands.query.dtype, call.arguments[0].dtype):
        return "triton's interpreter multiplies torch.bfloat16 wrongly; it reads float32 and float16"
    batch, channels, queries = operands.query.shape
    for name, size, most in (
        ("batches", batch, MAX_BATCHES),
        ("key channels (with selection, twice those of the keys)", channels, MAX_CHANNELS),
        ("queries", queries, MAX_ITEMS),
        ("memory tokens", operands.key.shape[2], MAX_ITEMS),
    ):
        if size > most:
            return f"it reads at most {most} {name}, not {size}"
    if call.operation == "top_k_read" and not 1 <= call.arguments[1] <= MAX_CHOSEN:
        return f"it reads the best 1 to {MAX_CHOSEN} tokens, not {call.arguments[1]}"
    return None


def tuned_tiles(device: torch.device) -> Path:
    """The file of tiles that `stm-fast tune` measured on a GPU with this triton."""
    import triton

    name = re.sub(r"[^A-Za-z0-9]+", "-", torch.cuda.get_device_name(device))
    return cache_folder() / "tiles" / f"{name}-triton-{triton.__version__}.json"


@cache
def _prepare(device: torch.device) -> None:
    """Before the first launch on a device: take the tiles that were measured on it."""
    if device.type == "cuda":
        from stm_fast.kernels import tiles

        with contextlib.suppress(OSError, RuntimeError):  # a machine without a home has no cache
            tiles.use_tuned(device, tuned_tiles(device))


def _launchable(operands: Operands) -> "launch.Operands":
    from stm_fast.kernels import launch

    _prepare(operands.query.device)
    return launch.Operands(*operands)


def read(operands: Operands, value: Tensor) -> tuple[Tensor, Tensor]:
    """Softmax over all memory tokens; see the reference."""
    from stm_fast.kernels import forward

    out, lse = empty_outputs(operands, value)
    forward.read(_launchable(operands), value, out, lse)
    return out, lse


def read_backward(
    operands: Operands,
    value: Tensor,
    out: Tensor,
    lse: Tensor,
    grad_out: Tensor,
    grad_lse: Tensor,
    query_side: bool,
    key_side: bool,
    value_side: bool,
) -> Gradients:
    """Gradients of `read`; see the reference."""
    from stm_fast.kernels import backward

    gradients = empty_gradients(operands, value, query_side, key_side, value_side)
    upstream = grad_out.to(out.dtype), grad_lse.to(lse.dtype)
    backward.read_backward(_launchable(operands), value, out, lse.contiguous(), *upstream, gradients)
    return gradients


def usage(operands: Operands, lse: Tensor) -> Tensor:
    """How much each memory token is read; see the reference."""
    from stm_fast.kernels import usage as kernels

    result = lse.new_empty(operands.key.shape[0], operands.key.shape[2])
    kernels.usage(_launchable(operands), lse.contiguous(), result)
    return result


def top_k_read(operands: Operands, value: Tensor, top_k: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Softmax over the best memory tokens of each query; see the reference."""
    from stm_fast.kernels import top_k as kernels

    out, lse, indices, weights = empty_top_k_outputs(operands, value, top_k)
    kernels.top_k_read(_launchable(operands), value, out, lse, indices, weights)
    return out, lse, indices, weights


def top_k_read_backward(
    operands: Operands,
    value: Tensor,
    out: Tensor,
    indices: Tensor,
    weights: Tensor,
    grad_out: Tensor,
    grad_lse: Tensor,
    query_side: bool,
    key_side: bool,
    value_side: bool,
) -> Gradients:
    """Gradients of `top_k_read` through the chosen tokens; see the reference."""
    from stm_fast.kernels import top_k_backward as kernels

    gradients = empty_gradients(operands, value, query_side, key_side, value_side)
    upstream = grad_out.to(out.dtype), grad_lse.to(weights.dtype)
    chosen = indices.contiguous(), weights.contiguous()
    kernels.top_k_read_backward(_launchable(operands), value, out, *chosen, *upstream, gradients)
    return gradients
