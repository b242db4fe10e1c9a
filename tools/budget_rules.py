"""Rules that every Triton kernel must follow, whatever its budget."""

from collections.abc import Iterator
from typing import Any

from stm_fast.kernels import chips

FORWARD = ("dense_kernel", "merge_kernel", "usage_kernel", "candidates_kernel", "choose_kernel", "gather_kernel")
MAX_WAITS = {
    "dense_kernel": 3,
    "usage_kernel": 3,
    "query_gradient_kernel": 4,
    "key_gradient_kernel": 4,
    "value_gradient_kernel": 4,
}
"""Maximum number of waits for asynchronous products per iteration of the main loop."""
EXTREME = ("widest", "far, channels last")
"""Reads that need only compile and fit. Forward kernels of all other reads must not spill."""
SPILLING = {
    "XMem": tuple(chips.CHIPS),
    "TF32": tuple(chips.CHIPS),
    "STM": ("sm_100",),
    "STM, T = 20": ("sm_100",),
    "STCN": ("sm_100",),
}
"""Reads and chips whose candidates may spill. 128 channels of float32 (split bf16 on Hopper) and the maxima of 64
groups fill the registers. On Hopper, multiply-adds would not spill less and would need 30 times the instructions. On
sm_100, one of the two versions of triton spills with every tile tried."""
HALF = ("STM", "STM, T = 20", "STCN", "best 128", "packed", "odd offset")
"""Reads of 16-bit keys and values."""
BANKS = ("STM", "STM, T = 20", "STCN")
"""Reads of 16-bit keys and values from memories whose channels begin at multiples of 16 bytes."""
MIN_COPY_BYTES = 16


def broken_rules(found: dict[str, Any]) -> Iterator[str]:
    """Yield one sentence for each broken rule, given the needs by chip, shape and kernel."""
    for chip, shapes in found.items():
        for shape, kernels in shapes.items():
            for kernel, needs in kernels.items():
                for reason in _broken(chip, shape, kernel, needs):
                    yield f"{kernel} for {shape} on {chip}: {reason}"


def _broken(chip: str, shape: str, kernel: str, needs: dict[str, int]) -> Iterator[str]:
    if needs["shared"] > chips.CHIPS[chip].shared:
        yield f"shared memory {needs['shared']} of {chips.CHIPS[chip].shared}"
    may_spill = shape in EXTREME or (kernel == "candidates_kernel" and chip in SPILLING.get(shape, ()))
    if kernel in FORWARD and needs["spilled"] and not may_spill:
        yield f"{needs['spilled']} bytes are spilled"
    if (shape in HALF or shape == "far, channels last") and needs["serialized"]:
        yield "asynchronous products wait for one another"
    if kernel not in MAX_WAITS or shape not in HALF:
        return
    if not needs["matrix"]:
        yield "no product runs on matrix units"
    if needs["waits"] > MAX_WAITS[kernel]:
        yield f"{needs['waits']} waits for products, {MAX_WAITS[kernel]} at most"
    if chips.CHIPS[chip].descriptors and shape in BANKS and needs["copy_bytes"] < MIN_COPY_BYTES:
        yield f"copies of {needs['copy_bytes']} bytes, {MIN_COPY_BYTES} at least"
