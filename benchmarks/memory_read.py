"""The memory read on this CPU beside other ways to do it, as docs/performance.md reports it.

    python -m benchmarks.memory_read [OUT]

Every case checks the results first, then runs all contenders in turn, several times over, and takes medians. Speed is
given beside what the machine can multiply and add in registers, and beside torch's own two matrix products of the same
shapes without a softmax, measured in the same turns. Prints Markdown; with OUT writes report.md, report.json and plots
there.
"""

import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from benchmarks import cases, contenders, machine
from benchmarks.cases import QUERIES, TOP_K, Case
from benchmarks.extra_memory import extra_memory
from stm_fast.media.files import write_text
from stm_fast.media.summary import versions
from stm_fast.ops import memory_read, similarity
from stm_fast.ops.backends import cpu
from stm_fast.ops.cpu_engines import processor

PRODUCTS = "two products"
ROUNDS = 9
BUDGET = 20.0
"""Seconds after which a case is content with fewer rounds, but never fewer than three."""

MEMORY_FRAMES = (1, 5, 20, 100, 200)
MOST_AFFINITY_FRAMES = 100
"""Contenders that hold the affinity matrix, or copies of the memory, are not asked for more."""


@dataclass
class Result:
    """Median seconds by contender, "stm-fast" among them, and medians of paired ratios of others' seconds to ours.

    The two products are no contender; only a read has a ratio to them.
    """

    case: str
    seconds: dict[str, float]
    gflops: float
    ratio_to_plain: float
    ratio_to_best: float
    ratio_to_products: float | None = None
    fractions: dict[str, float] = field(default_factory=dict)


def runners(case: Case) -> dict[str, Callable[[], Tensor]]:
    """Contenders of a case, ours first; each returns what can be compared with ours."""
    query, key, value = case.tensors()
    if case.operation == "top_k":
        return {
            "stm-fast": lambda: memory_read(query, key, value, similarity="l2", top_k=TOP_K),
            "XMem's top-k": lambda: contenders.top_k(query, key, value, TOP_K),
        }
    if case.operation == "usage":
        operands = similarity.dot(query, key, query.shape[1] ** -0.5)
        lse = memory_read(query, key, value, return_lse=True).lse
        return {
            "stm-fast": lambda: cpu.usage(operands, lse),
            "dense read": lambda: memory_read(query, key, value),
        }
    if case.operation == "backward":
        return {"stm-fast": backward(memory_read, case), "plain": backward(contenders.plain, case)}
    others = {"plain": contenders.plain}
    if case.objects == 1 and case.frames <= 20:
        others |= {
            "SDPA": contenders.sdpa,
            "SDPA, padded keys": contenders.padded_sdpa,
            "FlexAttention": contenders.flex,
        }
    runs: dict[str, Callable[[], Tensor]] = {"stm-fast": lambda: memory_read(query, key, value)}
    for name, function in others.items():
        runs[name] = lambda function=function: function(query, key, value)
    return runs


def backward(function: Callable[..., Tensor], case: Case) -> Callable[[], Tensor]:
    """All gradients, of which that of the keys is compared; only the backward pass is timed."""
    query, key, value = (tensor.requires_grad_() for tensor in case.tensors())
    result = function(query, key, value)
    upstream = torch.randn(result.shape, generator=torch.Generator().manual_seed(1))

    def run() -> Tensor:
        return torch.autograd.grad(result, [query, key, value], upstream, retain_graph=True)[1]

    return run


def measure(case: Case) -> Result:
    """Check, then time in turns."""
    runs = runners(case)
    usable = {}
    expected = runs["stm-fast"]()
    for name, run in runs.items():
        try:
            answer = run()
        except Exception as error:
            print(f"{case}: {name} cannot: {str(error).splitlines()[0]}", file=sys.stderr)
            continue
        if case.operation == "usage":
            total = expected.double().sum() / QUERIES
            assert abs(total - 1) < tolerance(case), f"{case}: usage sums to {total:.4f} a query"
        else:
            error = (answer.float() - expected.float()).norm() / expected.float().norm()
            assert error < tolerance(case), f"{case}: {name} differs by {error:.1e}"
        usable[name] = run
    if case.operation == "read":
        tensors = case.tensors()
        usable[PRODUCTS] = lambda: contenders.products(*tensors)
        usable[PRODUCTS]()
    threads = torch.get_num_threads()
    units = (0,) if case.dtype == torch.float32 else (1, 2)
    seconds: dict[str, list[float]] = {name: [] for name in usable}
    peaks: dict[int, list[float]] = {unit: [] for unit in units}
    begin = time.perf_counter()
    for turn in range(ROUNDS):
        for unit in units:
            peaks[unit].append(machine.flops(unit, threads))
        for name, run in usable.items():
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
        if turn >= 2 and time.perf_counter() - begin > BUDGET:
            break
    ours = seconds["stm-fast"]
    others = usable.keys() - {"stm-fast", PRODUCTS}
    best = min(others, key=lambda name: statistics.median(seconds[name]))
    reference = "plain" if "plain" in usable else best
    speed = [case.flops / second for second in ours]
    return Result(
        str(case),
        {name: statistics.median(values) for name, values in seconds.items()},
        statistics.median(speed) / 1e9,
        paired(seconds[reference], ours),
        paired(seconds[best], ours),
        paired(seconds[PRODUCTS], ours) if PRODUCTS in seconds else None,
        {
            machine.UNITS[unit]: statistics.median(a / b for a, b in zip(speed, peaks[unit], strict=True))
            for unit in units
            if peaks[unit][0]
        },
    )


def tolerance(case: Case) -> float:
    """Relative error that is no mistake; where scores are nearly equal, two roundings choose other tokens."""
    if case.operation == "top_k":
        return 1e-2
    return 2e-2 if case.dtype == torch.bfloat16 else 1e-4


def paired(others: list[float], ours: list[float]) -> float:
    return statistics.median(other / own for other, own in zip(others, ours, strict=True))


def memory_by_operation() -> dict[str, float]:
    """MB at the longest memory, of each operation."""
    base = replace(cases.DENSE[0], frames=MEMORY_FRAMES[-1])
    return {
        operation: extra_memory(replace(base, operation=operation))
        for operation in ("read", "top_k", "usage", "backward")
    }


def memory_by_frames() -> dict[str, dict[int, float]]:
    """MB of each contender's read against T."""
    lines: dict[str, dict[int, float]] = {}
    for name in ("stm-fast", "plain", "SDPA", "SDPA, padded keys"):
        frames = [t for t in MEMORY_FRAMES if name == "stm-fast" or t <= MOST_AFFINITY_FRAMES]
        lines[name] = {t: extra_memory(replace(cases.DENSE[0], frames=t), name) for t in frames}
    return lines


def report(results: list[Result], memory: dict[str, float], lines: dict[str, dict[int, float]]) -> str:
    """Markdown."""
    text = [
        f"{processor()}, {torch.get_num_threads()} threads; "
        + ", ".join(f"{name} {version}" for name, version in versions().items()),
        f"copy bandwidth {machine.bandwidth() / 1e9:.1f} GB/s",
        "",
        "| case | ms | GFLOP/s | of the peak in registers | to products | to plain | to the best other | others, ms |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for result in results:
        fractions = ", ".join(f"{fraction:.0%} of {unit}" for unit, fraction in result.fractions.items())
        others = ", ".join(f"{k} {1e3 * v:.1f}" for k, v in result.seconds.items() if k != "stm-fast")
        products = "" if result.ratio_to_products is None else f"{result.ratio_to_products:.2f}"
        text.append(
            f"| {result.case} | {1e3 * result.seconds['stm-fast']:.1f} | {result.gflops:.0f} | {fractions} "
            f"| {products} | {result.ratio_to_plain:.2f} | {result.ratio_to_best:.2f} | {others} |"
        )
    text += ["", f"| operation at T = {MEMORY_FRAMES[-1]}, float32, (128, 512) | extra memory, MB |", "|---|---|"]
    text += [f"| {operation} | {size:.0f} |" for operation, size in memory.items()]
    heads = " | ".join(f"T = {t}" for t in MEMORY_FRAMES)
    text += ["", f"| read, float32, (128, 512), MB beyond inputs and outputs | {heads} |"]
    text += ["|---" * (1 + len(MEMORY_FRAMES)) + "|"]
    for name, line in lines.items():
        text.append(f"| {name} | " + " | ".join(f"{line[t]:.0f}" if t in line else "" for t in MEMORY_FRAMES) + " |")
    return "\n".join(text) + "\n"


def main(out: str | None = None) -> None:
    """Measure everything."""
    results = []
    for case in cases.ALL:
        results.append(measure(case))
        print(results[-1], file=sys.stderr, flush=True)
    memory, lines = memory_by_operation(), memory_by_frames()
    text = report(results, memory, lines)
    print(text, end="")
    if out is None:
        return
    from benchmarks import plots

    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    data = {"results": [asdict(result) for result in results], "memory": memory, "memory_by_frames": lines}
    write_text(folder / "report.md", text)
    write_text(folder / "report.json", json.dumps(data, indent=1))
    plots.draw(data, folder)


if __name__ == "__main__":
    main(*sys.argv[1:])
