"""Is it right? All results of an op against the reference in float64; outputs are poisoned before they are written."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from benchmarks.cases import Case
from benchmarks.gpu.calls import Problem

TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 2e-2, torch.float16: 3e-3}


def check(case: Case, engine: str, device: torch.device) -> dict[str, Any]:
    """The error of an engine in a case."""
    problem = Problem(case, device)
    return judged(problem, engine, problem.exact())


def judged(problem: Problem, engine: str, exact: tuple[Tensor, ...]) -> dict[str, Any]:
    """The largest relative L2 distance of any result to the exact one, and whether that is a mistake."""
    run = problem.call(engine)
    with poisoned():
        found = run()
    error, allowed = largest_error(found, exact), tolerance(problem.case)
    return {"error": error, "tolerance": allowed, "wrong": not error < allowed}


@contextmanager
def poisoned() -> Iterator[None]:
    """Memory that nobody has written holds NaN."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


def largest_error(found: Iterable[Tensor], exact: Iterable[Tensor]) -> float:
    """The largest relative L2 distance of any tensor with elements; NaN if any is."""
    pairs = [(a.double(), b) for a, b in zip(found, exact, strict=True) if b.numel()]
    return float(torch.stack([(a - b).norm() / b.norm() for a, b in pairs]).max())


def tolerance(case: Case) -> float:
    """Relative error that is no mistake; where scores are nearly equal, two roundings choose other tokens."""
    coarse = max(TOLERANCE[case.dtype], TOLERANCE[case.value_dtype or case.dtype])
    return max(coarse, 1e-2 if case.operation.startswith("top_k") else 0.0)
