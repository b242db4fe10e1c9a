"""Peaks of the GPU: bytes that a copy moves, and torch's own matrix products."""

import statistics
from collections.abc import Callable
from typing import Any

import torch

from benchmarks.read.gpu.cases import STM
from benchmarks.read.gpu.clock import in_turns
from benchmarks.read.gpu.compare import large_product

COPY = "copy"
DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}
READ_FRAMES = {f"both products of a read, bfloat16, (128, 512), T = {frames}": frames for frames in (1, 5, 20, 100)}
"""The practical limit of a dense read: only its two matrix products."""


def tasks(toy: bool) -> list[str]:
    """Return the names of what `peak` measures."""
    return [COPY, *DTYPES, *([] if toy else READ_FRAMES)]


def peak(name: str, _: str, device: torch.device) -> dict[str, Any]:
    """Return TB/s that a copy reads and writes, or TFLOP/s of a product."""
    if name == COPY:
        source = torch.randn((1 << 30) // 4 if device.type == "cuda" else 1 << 16, device=device)
        target = torch.empty_like(source)
        return {"tbytes": 2 * source.nbytes / _seconds(lambda: target.copy_(source), device) / 1e12}
    if name in DTYPES:
        run, flops = large_product(DTYPES[name], device)
        return {"tflops": flops / _seconds(run, device) / 1e12}
    frames = READ_FRAMES[name]
    tokens = STM.queries * frames
    query, key, value, weights = (
        torch.randn(shape, device=device).bfloat16()
        for shape in ((STM.queries, 128), (128, tokens), (tokens, 512), (STM.queries, tokens))
    )
    seconds = _seconds(lambda: (query @ key, weights @ value), device)
    return {"tflops": 2.0 * STM.queries * tokens * (128 + 512) / seconds / 1e12, "microseconds": 1e6 * seconds}


def _seconds(run: Callable[[], object], device: torch.device) -> float:
    run()
    return statistics.median(in_turns({"": run}, device)[""])
