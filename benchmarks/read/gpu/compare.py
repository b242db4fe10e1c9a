"""Compare an engine, once its results are right, with other ways to do the same and with a large matrix product."""

import statistics
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from benchmarks.harness import medians, ratio, refusal, spread
from benchmarks.read import contenders
from benchmarks.read.cases import Case
from benchmarks.read.gpu.calls import Problem, operands, upstream_of
from benchmarks.read.gpu.check import judged
from benchmarks.read.gpu.clock import in_turns, synchronise
from benchmarks.read.runs import OURS
from stm_fast.ops import memory_read

PRODUCT = "matrix product"
MAX_AFFINITY = 4 << 30
"""Maximum bytes of affinity for ways that hold it."""

Ways = dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]]


def compare(case: Case, engine: str, device: torch.device) -> dict[str, Any]:
    """Compare an engine with torch's own ways."""
    return _compare(case, engine, device, rivals(case, engine, device, {}))


def compare_others(case: Case, engine: str, device: torch.device) -> dict[str, Any]:
    """Compare an engine with ways that take long to compile; on a CPU these are left out."""
    ways = contenders.others() if device.type == "cuda" else {"plain": contenders.plain}
    return _compare(case, engine, device, rivals(case, engine, device, ways))


def _compare(
    case: Case, engine: str, device: torch.device, ways: Iterator[tuple[str, Callable[[], object]]]
) -> dict[str, Any]:
    """Return the error and, unless it is a mistake, median seconds of each way, speed, and medians of paired ratios."""
    problem = Problem(case, device)
    exact = problem.exact()
    result = judged(problem, engine, exact)
    if result["wrong"]:
        return result
    others, allowed = dict(ways), 4 * result["tolerance"]
    refused = {name: why for name, run in others.items() if (why := refusal(run, exact[0], allowed))}
    runs = {OURS: problem.call(engine)} | {name: run for name, run in others.items() if name not in refused}
    del exact
    extra = {name: extra_bytes(run, device) for name, run in runs.items()}
    product, product_flops = large_product(case.dtype, device)
    times = in_turns({**runs, PRODUCT: product}, device)
    peak = [product_flops / second for second in times.pop(PRODUCT)]
    speed = [case.flops / second for second in times[OURS]]
    return result | {
        "seconds": medians(times),
        "spread": spread(times[OURS]),
        "tflops": statistics.median(speed) / 1e12,
        "fraction": ratio(speed, peak),
        "ratios": {name: ratio(values, times[OURS]) for name, values in times.items() if name != OURS},
        "extra_bytes": extra,
        "refused": refused,
    }


def rivals(case: Case, engine: str, device: torch.device, ways: Ways) -> Iterator[tuple[str, Callable[[], object]]]:
    """Yield other ways to do the same. Those whose results can be compared return a tuple that begins with them.

    Args:
        case: the operation; there is no other way to do an affine read.
        engine: engine whose dense read is compared with usage.
        device: where to run.
        ways: ways to read, instead of torch's own.
    """
    if case.affine:
        return
    query, key, value = case.tensors(device)
    holds_affinity = 4 * case.queries**2 * case.frames > MAX_AFFINITY
    if case.operation in ("read", "backward"):
        if not ways:
            ways = {} if holds_affinity else {"plain": contenders.plain}
            if device.type == "cuda":
                ways |= contenders.on_gpu()
        query, key, value = contenders.tokens_first(query, key, value)
        for name, function in ways.items():
            if case.operation == "backward":
                yield name, gradients(function, query, key, value)
            else:
                yield name, lambda function=function: (function(query, key, value),)
    elif case.operation == "top_k" and not holds_affinity:
        yield "XMem's top-k", lambda: contenders.top_k(query, key, value, case.top_k)
    elif case.operation == "usage":
        parts, banked = operands(case, device)
        yield "dense read", lambda: memory_read(parts.query, parts.key, banked, backend=engine)


def gradients(function: Callable[..., Tensor], *tensors: Tensor) -> Callable[[], object]:
    """Return the backward pass of a rival whose forward pass is done. It has no gradient of lse and is not compared."""
    leaves = [tensor.detach().requires_grad_() for tensor in tensors]
    made: list[Tensor] = []

    def run() -> list[Tensor]:
        if not made:
            made.append(function(*leaves))
            made.append(upstream_of(made[0]))
        return list(torch.autograd.grad(made[0], leaves, made[1], retain_graph=True))

    return run


def large_product(dtype: torch.dtype, device: torch.device) -> tuple[Callable[[], Tensor], float]:
    """Return a product of random matrices that fills the GPU, and its number of operations."""
    side = 256 if device.type != "cuda" else 4096 if dtype == torch.float32 else 8192
    factor = torch.randn(side, side, device=device).to(dtype)
    return lambda: factor @ factor, 2.0 * side**3


def extra_bytes(run: Callable[[], object], device: torch.device) -> int:
    """Return the bytes of device memory that a call needs, its result included."""
    if device.type != "cuda":
        return 0
    synchronise(device)
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    run()
    synchronise(device)
    return torch.cuda.max_memory_allocated() - before
