"""The read on NVIDIA GPUs without Triton: the CUDA kernels of `csrc/cuda`.

With STM_FAST_EMULATE_CUDA=1 in the environment the kernels are emulated, on CPU tensors, for tests.
"""

from functools import cache

import torch
from torch import Tensor

from stm_fast.ops import compiled
from stm_fast.ops.backends.registry import beyond
from stm_fast.ops.calls import Call, Outputs, TopKReadBackward, Usage
from stm_fast.ops.compiled.structs import Choices, Machine
from stm_fast.ops.environment import variable

MIN_CAPABILITY = (8, 0)
MAX_BLOCKS = 65535
"""Along the second and third dimension of a grid: batches, key channels, value channels."""
MAX_ITEMS = 2**31 - 2**20
"""Queries, or memory tokens: they are counted in 32 bits."""
MAX_CHOSEN = 128
"""Candidates that a warp keeps for a query, in registers."""


EMULATED = Machine(processors=2, shared_bytes=163 * 1024)
"""The GPU that is emulated."""


def emulating() -> bool:
    """Return whether kernels are emulated on the CPU."""
    return variable("STM_FAST_EMULATE_CUDA") == "1"


def device_type() -> str:
    """Return the type of device whose tensors it reads: the CPU's where kernels are emulated."""
    return "cpu" if emulating() else "cuda"


def unavailable(device: torch.device | None = None) -> str | None:
    """Return why the kernels cannot run on a GPU, or None; without one, on any of this machine."""
    if emulating():
        return compiled.failure("cuda_emulated")
    if reason := _without_gpu():
        return reason
    if device is not None:
        return _unusable(device)
    reasons = [_unusable(torch.device("cuda", index)) for index in range(torch.cuda.device_count())]
    return reasons[0] if all(reasons) else None


@cache
def _without_gpu() -> str | None:
    if torch.version.hip is not None:
        return "it is for NVIDIA GPUs"
    return None if torch.cuda.is_available() else "torch sees no GPU"


@cache
def _unusable(device: torch.device) -> str | None:
    """Return why the kernels do not run on a GPU, or None; the library is built only for a GPU that may run it."""
    capability = torch.cuda.get_device_capability(device)
    if capability < MIN_CAPABILITY:
        needed, seen = (".".join(map(str, version)) for version in (MIN_CAPABILITY, capability))
        return f"it needs compute capability {needed}; {torch.cuda.get_device_name(device)} has {seen}"
    if reason := compiled.failure("cuda"):
        return reason
    with torch.cuda.device(device):
        return compiled.cuda_unusable()


def refusal(call: Call) -> str | None:
    """Refuse more than a grid has room for, or than a warp keeps."""
    operands = call.operands
    batch, channels, queries = operands.query.shape
    value_channels = 1 if isinstance(call, Usage) else call.value.shape[1] * call.value.shape[2]
    return beyond(
        call,
        MAX_CHOSEN,
        ("batches", batch, MAX_BLOCKS),
        ("key channels", channels, MAX_BLOCKS),
        ("value channels of all objects", value_channels, MAX_BLOCKS),
        ("queries", queries, MAX_ITEMS),
        ("memory tokens", operands.key.shape[2], MAX_ITEMS),
    )


def fill(call: Call, outputs: Outputs) -> None:
    """Queue what a call asks for on the current stream of its device."""
    choices = None
    if isinstance(call, TopKReadBackward) and (call.wanted.key or call.wanted.value):
        choices = _choices_by_token(call.indices, call.operands.key.shape[2])
    if emulating():
        compiled.run_on_gpu(call, outputs, EMULATED, choices, emulated=True)
        return
    device = call.operands.query.device
    with torch.cuda.device(device):
        compiled.run_on_gpu(call, outputs, _machine(device, torch.cuda.current_stream().cuda_stream), choices)


def _choices_by_token(indices: Tensor, tokens: int) -> Choices:
    """Sort choices `(B, Nq, k)` by token, so that a token's gradients are added in one order."""
    chosen, order = indices.flatten(1).sort(dim=1, stable=True)
    bounds = torch.arange(tokens + 1, device=indices.device).expand(len(indices), -1).contiguous()
    return Choices(order, torch.searchsorted(chosen, bounds))


@cache
def _properties(device: torch.device) -> tuple[int, int]:
    """Return the multiprocessors of a GPU and the bytes of shared memory that a block may have."""
    properties = torch.cuda.get_device_properties(device)
    return properties.multi_processor_count, properties.shared_memory_per_block_optin  # type: ignore[attr-defined]


def _machine(device: torch.device, stream: int) -> Machine:
    processors, shared_bytes = _properties(device)
    return Machine(processors, shared_bytes, stream)
