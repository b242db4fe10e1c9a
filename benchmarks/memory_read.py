"""The memory read on this CPU beside other ways to do it, as docs/performance.md reports it.

    python benchmarks/memory_read.py [OUT]

Every case checks the results first, then runs all contenders in turn, several times over, and takes medians. Speed is
given beside what the machine can multiply and add in registers, measured in the same turns. Extra memory is the peak
resident memory of a process that does nothing else, less that of one that makes the inputs and outputs only. Prints
Markdown; with OUT writes report.md and report.json there.
"""

import json
import multiprocessing
import resource
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from benchmarks import contenders, machine
from stm_fast.media.files import write_text
from stm_fast.media.summary import versions
from stm_fast.ops import memory_read

QUERIES = 1620
TOP_K = 30
ROUNDS = 9
BUDGET = 20.0
"""Seconds after which a case is content with fewer rounds, but never fewer than three."""


@dataclass(frozen=True)
class Case:
    """A read of `frames` memory frames at 480p; `operation` is read, backward, top_k or usage."""

    operation: str
    dtype: torch.dtype
    key_channels: int
    value_channels: int
    objects: int
    frames: int

    @property
    def flops(self) -> float:
        """Operations of the two products; of the five of a backward pass, in which scores are made again."""
        rows = self.objects * self.value_channels
        channels = {"backward": 3 * self.key_channels + 2 * rows, "usage": self.key_channels}
        return 2.0 * QUERIES * QUERIES * self.frames * channels.get(self.operation, self.key_channels + rows)

    def tensors(self) -> tuple[Tensor, Tensor, Tensor]:
        random = torch.Generator().manual_seed(0)
        tokens = QUERIES * self.frames
        shapes = (self.key_channels, QUERIES), (self.key_channels, tokens)
        query, key = (torch.randn(1, *shape, generator=random).to(self.dtype) for shape in shapes)
        value = torch.randn(1, self.objects, self.value_channels, tokens, generator=random).to(self.dtype)
        return query, key, value

    def __str__(self) -> str:
        dtype = str(self.dtype).removeprefix("torch.")
        objects = f" x {self.objects} objects" if self.objects > 1 else ""
        return f"{self.operation}, {dtype}, ({self.key_channels}, {self.value_channels}){objects}, T = {self.frames}"


@dataclass
class Result:
    """Median seconds by contender, "stm-fast" among them, and the median of paired ratios to the best other."""

    case: str
    seconds: dict[str, float]
    gflops: float
    ratio_to_plain: float
    ratio_to_best: float
    fractions: dict[str, float] = field(default_factory=dict)


def cases() -> list[Case]:
    f32, b16 = torch.float32, torch.bfloat16
    dense = [Case("read", dtype, 128, 512, 1, frames) for frames in (1, 5, 20, 100) for dtype in (f32, b16)]
    shared = [Case("read", dtype, 64, 512, 4, 5) for dtype in (f32, b16)]
    return [
        *dense,
        *shared,
        Case("top_k", f32, 64, 512, 1, 20),
        Case("backward", f32, 128, 512, 1, 5),
        Case("usage", f32, 128, 512, 1, 20),
    ]


def runners(case: Case) -> dict[str, Callable[[], Tensor]]:
    """Contenders of a case, ours first; each returns what can be compared with ours."""
    query, key, value = case.tensors()
    if case.operation == "top_k":
        return {
            "stm-fast": lambda: memory_read(query, key, value, similarity="l2", top_k=TOP_K),
            "XMem's top-k": lambda: contenders.top_k(query, key, value, TOP_K),
        }
    if case.operation == "usage":
        return {
            "stm-fast": lambda: memory_read(query, key, value, return_usage=True).usage,
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
    """The gradient of the keys; only the backward pass is timed."""
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
        if case.operation != "usage":
            error = (answer.float() - expected.float()).norm() / expected.float().norm()
            assert error < tolerance(case), f"{case}: {name} differs by {error:.1e}"
        usable[name] = run
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
    best = min((name for name in usable if name != "stm-fast"), key=lambda name: statistics.median(seconds[name]))
    reference = "plain" if "plain" in usable else best
    speed = [case.flops / second for second in ours]
    return Result(
        str(case),
        {name: statistics.median(values) for name, values in seconds.items()},
        statistics.median(speed) / 1e9,
        paired(seconds[reference], ours),
        paired(seconds[best], ours),
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


def extra_memory(operation: str, frames: int = 200) -> float:
    """MB beyond inputs and outputs that an operation needs at T = 200."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(2, maxtasksperchild=1) as pool:
        peak, base = pool.starmap(_peak_memory, [(operation, frames, True), (operation, frames, False)], chunksize=1)
    return max(0.0, peak - base)


def _peak_memory(operation: str, frames: int, run: bool) -> float:
    """Peak resident MB of a process with the inputs and the outputs of an operation, done or not."""
    case = Case(operation, torch.float32, 128, 512, 1, frames)
    query, key, value = case.tensors()
    small = [tensor[..., :100].clone().requires_grad_(operation == "backward") for tensor in (query, key, value)]
    options = {"top_k": {"top_k": TOP_K}, "usage": {"return_usage": True}}.get(operation, {})
    warm = memory_read(*small, **options)
    if operation == "backward":
        warm.sum().backward()
        inputs = [tensor.requires_grad_() for tensor in (query, key, value)]
        if run:
            memory_read(*inputs).sum().backward()
        else:
            outputs = [torch.ones(1, 1, 512, QUERIES) for _ in range(2)] + [torch.ones_like(x) for x in inputs]
            assert outputs
    elif run:
        memory_read(query, key, value, **options)
    else:
        outputs = [torch.ones(1, 1, 512, QUERIES), torch.ones(QUERIES * frames if operation == "usage" else 1)]
        assert outputs
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def report(results: list[Result], memory: dict[str, float]) -> str:
    lines = [
        f"{torch.get_num_threads()} threads; " + ", ".join(f"{name} {version}" for name, version in versions().items()),
        f"copy bandwidth {machine.bandwidth() / 1e9:.1f} GB/s",
        "",
        "| case | ms | GFLOP/s | of the peak in registers | to plain | to the best other | others, ms |",
        "|---|---|---|---|---|---|---|",
    ]
    for result in results:
        fractions = ", ".join(f"{fraction:.0%} of {unit}" for unit, fraction in result.fractions.items())
        others = ", ".join(f"{k} {1e3 * v:.1f}" for k, v in result.seconds.items() if k != "stm-fast")
        lines.append(
            f"| {result.case} | {1e3 * result.seconds['stm-fast']:.1f} | {result.gflops:.0f} | {fractions} "
            f"| {result.ratio_to_plain:.2f} | {result.ratio_to_best:.2f} | {others} |"
        )
    lines += ["", "| operation at T = 200, float32, (128, 512) | extra memory, MB |", "|---|---|"]
    lines += [f"| {operation} | {size:.0f} |" for operation, size in memory.items()]
    return "\n".join(lines) + "\n"


def main(out: str | None = None) -> None:
    results = []
    for case in cases():
        results.append(measure(case))
        print(results[-1], file=sys.stderr, flush=True)
    memory = {operation: extra_memory(operation) for operation in ("read", "top_k", "usage", "backward")}
    text = report(results, memory)
    print(text, end="")
    if out is not None:
        Path(out).mkdir(parents=True, exist_ok=True)
        write_text(Path(out) / "report.md", text)
        write_text(
            Path(out) / "report.json", json.dumps({"results": [asdict(r) for r in results], "memory": memory}, indent=1)
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
