"""The read on CPU tensors: the fused kernels of `csrc/cpu`, for the instruction set that is the fastest here.

`STM_FAST_CPU_ISA` forces one of those that `stm-fast doctor` lists.
"""

import torch

from stm_fast.ops import compiled
from stm_fast.ops.calls import Call, Outputs, TopKRead
from stm_fast.ops.cpu_engines import engine_of

MAX_TOKENS = 2**32 - 1


def device_type() -> str:
    """Return the type of device whose tensors it reads."""
    return "cpu"


def unavailable(device: torch.device | None = None) -> str | None:
    """Return why the compiled library cannot be used, or None."""
    return compiled.failure("cpu")


def refusal(call: Call) -> str | None:
    """Refuse more tokens than are counted in 32 bits."""
    if isinstance(call, TopKRead) and call.top_k < 1:
        return f"it reads at least one token, not {call.top_k}"
    tokens = call.operands.key.shape[-1]
    return f"it reads at most {MAX_TOKENS} memory tokens, not {tokens}" if tokens > MAX_TOKENS else None


def fill(call: Call, outputs: Outputs) -> None:
    """Do what a call asks for on torch's threads."""
    compiled.run_on_cpu(call, outputs, engine_of(call))
