"""Microseconds of a call on the host, without those of the kernels."""

import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from benchmarks.read.cases import Case
from benchmarks.read.gpu.calls import Problem, operands
from benchmarks.read.gpu.clock import synchronise
from stm_fast.ops import memory_read

CALLS = 30
"""Number of calls in a row. The driver queues more launches than that, so that the host never waits for the GPU."""
ROUNDS = 7


def host_time(case: Case, engine: str, device: torch.device) -> dict[str, Any]:
    """Return microseconds per call: to queue the op, to queue `memory_read`, back to back, and of the kernels alone.

    The kernels alone are measured by replaying a CUDA graph of ten calls.
    """
    problem = Problem(case, device)
    op = problem.call(engine)
    queued, done = _microseconds(op, device)
    result: dict[str, Any] = {"op": queued, "back_to_back": done}
    public = _public(case, engine, device)
    if public is not None:
        result["memory_read"], _ = _microseconds(public, device)
    if device.type == "cuda":
        try:
            result["kernels"] = _microseconds_of_graph(op)
        except RuntimeError as error:
            result["no_graph"] = str(error).partition("\n")[0]
    return result


def _public(case: Case, engine: str, device: torch.device) -> Callable[[], object] | None:
    """Return the case as users call it, or None if it is only a part of such a call."""
    parts, value = operands(case, device)
    query, key = parts.query, parts.key
    match case.operation:
        case "read":
            return partial(memory_read, query, key, value, backend=engine)
        case "top_k":
            return partial(memory_read, query, key, value, top_k=case.top_k, backend=engine)
        case _:
            return None


def _microseconds(run: Callable[[], object], device: torch.device) -> tuple[float, float]:
    """Return the microseconds to queue a call and to complete it, when many are queued one after another."""
    calls = CALLS if device.type == "cuda" else 2
    run()
    queued, done = [], []
    for _ in range(ROUNDS if device.type == "cuda" else 1):
        synchronise(device)
        begin = time.perf_counter()
        for _ in range(calls):
            run()
        queued.append(time.perf_counter() - begin)
        synchronise(device)
        done.append(time.perf_counter() - begin)
    return tuple(1e6 * statistics.median(seconds) / calls for seconds in (queued, done))


def _microseconds_of_graph(run: Callable[[], object], calls: int = 10) -> float:
    """Return the microseconds of a call in a replayed graph of several."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(calls):
            run()
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    times = []
    for _ in range(ROUNDS):
        start.record()
        graph.replay()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end))
    return 1e3 * statistics.median(times) / calls
