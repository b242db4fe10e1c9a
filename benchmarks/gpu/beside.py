"""How fast? An engine in turns with other ways to do the same and with a large matrix product, once it is right."""

import statistics
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from benchmarks import contenders
from benchmarks.cases import Case
from benchmarks.gpu.calls import Problem, operands, upstream_of
from benchmarks.gpu.check import judged, largest_error
from benchmarks.gpu.clock import in_turns, synchronise
from stm_fast.ops import memory_read

OURS, PRODUCT = "stm-fast", "matrix product"
MAX_AFFINITY = 4 << 30
"""Bytes of affinity above which ways that hold it are not asked."""

Ways = dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]]


def beside(case: Case, engine: str, device: torch.device) -> dict[str, Any]:
    """An engine beside torch's own ways."""
    return _compare(case, engine, device, rivals(case, engine, device, {}))


def beside_others(case: Case, engine: str, device: torch.device) -> dict[str, Any]:
    """An engine beside ways that take long to compile; on a CPU that is not worth the time."""
    ways = contenders.others() if device.type == "cuda" else {"plain": contenders.plain}
    return _compare(case, engine, device, rivals(case, engine, device, ways))


def _compare(
    case: Case, engine: str, device: torch.device, ways: Iterator[tuple[str, Callable[[], object]]]
) -> dict[str, Any]:
    """Error, and unless that is a mistake: median seconds of each way, speed, and medians of paired ratios."""
    problem = Problem(case, device)
    exact = problem.exact()
    result = judged(problem, engine, exact)
    if result["wrong"]:
        return result
    others, allowed = dict(ways), 4 * result["tolerance"]
    refused = {name: why for name, run in others.items() if (why := _refusal(run, exact[0], allowed))}
    runs = {OURS: problem.call(engine)} | {name: run for name, run in others.items() if name not in refused}
    del exact
    extra = {name: extra_bytes(run, device) for name, run in runs.items()}
    product, product_flops = large_product(case.dtype, device)
    times = in_turns({**runs, PRODUCT: product}, device)
    peak = [product_flops / second for second in times.pop(PRODUCT)]
    speed = [case.flops / second for second in times[OURS]]
    return result | {
        "seconds": {name: statistics.median(values) for name, values in times.items()},
        "spread": (max(times[OURS]) - min(times[OURS])) / statistics.median(times[OURS]),
        "tflops": statistics.median(speed) / 1e12,
        "fraction": statistics.median(a / b for a, b in zip(speed, peak, strict=True)),
        "ratios": {
            name: statistics.median(other / own for other, own in zip(values, times[OURS], strict=True))
            for name, values in times.items()
            if name != OURS
        },
        "extra_bytes": extra,
        "refused": refused,
    }


def _refusal(run: Callable[[], object], exact: Tensor, allowed: float) -> str:
    """Why a rival cannot do it, or does something else; empty if it can."""
    try:
        answer = run()
        error = largest_error([answer[0]], [exact]) if isinstance(answer, tuple) else 0.0
    except Exception as fault:
        return f"{type(fault).__name__}: {str(fault).strip().partition(chr(10))[0]}"
    return "" if error < allowed else f"its result differs by {error:.1e}"


def rivals(case: Case, engine: str, device: torch.device, ways: Ways) -> Iterator[tuple[str, Callable[[], object]]]:
    """Other ways to do the same. Those that can be compared return a tuple that begins with what ours does.

    Args:
        case: what is done; nobody else does an affine read.
        engine: whose dense read usage stands beside.
        device: where.
        ways: to read, instead of torch's own.
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
    """The backward pass of a rival, its forward pass done before; not compared, for it has no gradient of lse."""
    leaves = [tensor.detach().requires_grad_() for tensor in tensors]
    made: list[Tensor] = []

    def run() -> list[Tensor]:
        if not made:
            made.append(function(*leaves))
            made.append(upstream_of(made[0]))
        return list(torch.autograd.grad(made[0], leaves, made[1], retain_graph=True))

    return run


def large_product(dtype: torch.dtype, device: torch.device) -> tuple[Callable[[], Tensor], float]:
    """A matrix product that fills the GPU, on random numbers, and its operations."""
    side = 256 if device.type != "cuda" else 4096 if dtype == torch.float32 else 8192
    factor = torch.randn(side, side, device=device).to(dtype)
    return lambda: factor @ factor, 2.0 * side**3


def extra_bytes(run: Callable[[], object], device: torch.device) -> int:
    """Device memory that a call needs beyond what was there, its result included."""
    if device.type != "cuda":
        return 0
    synchronise(device)
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    run()
    synchronise(device)
    return torch.cuda.max_memory_allocated() - before
