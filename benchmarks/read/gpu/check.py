"""Check all results of an op against the reference in float64, with outputs poisoned before they are written."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from benchmarks.harness import relative_error
from benchmarks.read.cases import Case
from benchmarks.read.gpu.calls import Problem


def check(case: Case, engine: str, device: torch.device) -> dict[str, Any]:
    """Return the error of an engine in a case."""
    problem = Problem(case, device)
    return judged(problem, engine, problem.exact())


def judged(problem: Problem, engine: str, exact: tuple[Tensor, ...]) -> dict[str, Any]:
    """Return the largest relative L2 distance of a result to the exact one, and whether it is a mistake."""
    run = problem.call(engine)
    with poisoned():
        found = run()
    error, allowed = relative_error(found, exact), problem.case.tolerance
    return {"error": error, "tolerance": allowed, "wrong": not error < allowed}


@contextmanager
def poisoned() -> Iterator[None]:
    """Fill uninitialised memory with NaN during the block."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)
