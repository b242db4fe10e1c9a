"""Determinism: check whether results have the same bits every time."""

from typing import Any

import torch
from torch import Tensor

from benchmarks.read.cases import Case
from benchmarks.read.gpu.calls import Problem

TIMES = 20


def repeat(case: Case, engine: str, device: torch.device) -> dict[str, Any]:
    """Return the number of calls after the first in which any result had different bits."""
    times = TIMES if device.type == "cuda" else 2
    run = Problem(case, device).call(engine)
    first = run()
    different = sum(not _same(run(), first) for _ in range(times - 1))
    return {"calls": times, "different": different, "wrong": different > 0}


def _same(found: tuple[Tensor, ...], first: tuple[Tensor, ...]) -> bool:
    return all(
        torch.equal(a.view(torch.uint8), b.view(torch.uint8)) for a, b in zip(found, first, strict=True) if a.numel()
    )
