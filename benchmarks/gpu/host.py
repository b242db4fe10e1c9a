"""Microseconds that the host needs for a call, apart from those of the kernels."""

import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from benchmarks.cases import Case
from benchmarks.gpu.calls import Problem, operands
from benchmarks.gpu.clock import synchronise
from stm_fast.ops import memory_read

CALLS = 30
"""At a time: fewer launches than the driver keeps waiting, so that the host is never held up by the GPU."""
ROUNDS = 7


def host(case: Case, engine: str, device: torch.device) -> dict[str, Any]:
    """Microseconds a call: to queue an op; to queue `memory_read`; both done back to back; and of the kernels alone.

    Kernels alone are a CUDA graph of ten calls, replayed.
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
    """The case as users call it; None where it is but a part of what they call."""
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
    """To queue a call, and to have it done, when many are queued one after another."""
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
    """Of a call, in a graph of several that is replayed."""
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
