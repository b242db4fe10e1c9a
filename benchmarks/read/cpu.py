"""Compare the memory read on this CPU with other ways to read, as docs/performance.md reports.

    python -m benchmarks.read.cpu [OUT] [--cases "read, float32"]

For every case the results are checked first. Then all contenders take turns, and medians are reported. Speed is
compared with the machine's peak of multiply-adds in registers, and with torch's own two matrix products of the same
shapes without a softmax, measured in the same turns. Prints Markdown; with OUT, writes report.md, report.json and plots
there.
"""

import argparse
import json
import statistics
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from benchmarks import machine
from benchmarks.harness import Seconds, Turns, medians, ratio, relative_error, take_turn
from benchmarks.read import cases, contenders, cpu_peaks
from benchmarks.read.cases import Case
from benchmarks.read.extra_memory import extra_memory
from benchmarks.read.runs import OURS, PLAIN, runners
from stm_fast.media.files import write_text

PRODUCTS = "two products"
TURNS = Turns(rounds=9, min_rounds=3, seconds=20.0)

MEMORY_FRAMES = (1, 5, 20, 100, 200)
MAX_AFFINITY_FRAMES = 100
"""Maximum number of frames for contenders that hold the affinity matrix or copies of the memory."""


@dataclass
class Result:
    """Median seconds by contender, "stm-fast" among them, and medians of paired ratios of others' seconds to ours.

    The two products are not a contender; only a read has a ratio to them.
    """

    case: str
    seconds: dict[str, float]
    gflops: float
    ratio_to_plain: float
    ratio_to_best: float
    ratio_to_products: float | None = None
    fractions: dict[str, float] = field(default_factory=dict)


def checked(case: Case) -> dict[str, Callable[[], Tensor]]:
    """Return the contenders that can do a case, after checking that they agree."""
    usable: dict[str, Callable[[], Tensor]] = {}
    runs = runners(case)
    expected = runs[OURS]()
    for name, run in runs.items():
        try:
            answer = run()
        except Exception as error:
            print(f"{case}: {name} cannot: {str(error).splitlines()[0]}", file=sys.stderr)
            continue
        if case.operation == "usage":
            total = expected.double().sum() / case.queries
            assert abs(total - 1) < case.tolerance, f"{case}: usage sums to {total:.4f} per query"
        else:
            error = relative_error([answer], [expected])
            assert error < case.tolerance, f"{case}: {name} differs by {error:.1e}"
        usable[name] = run
    return usable


def measure(case: Case) -> Result:
    """Check, then time in turns."""
    contestants = checked(case)
    runs = dict(contestants)
    if case.operation == "read":
        tensors = case.tensors()
        runs[PRODUCTS] = lambda: contenders.products(*tensors)
        runs[PRODUCTS]()
    threads = torch.get_num_threads()
    units = (0,) if case.dtype == torch.float32 else (1, 2)
    seconds: Seconds = {}
    peaks: dict[int, list[float]] = {unit: [] for unit in units}
    for _ in TURNS:
        for unit in units:
            peaks[unit].append(cpu_peaks.flops(unit, threads))
        take_turn(runs, seconds)
    ours, median = seconds[OURS], medians(seconds)
    best = min(contestants.keys() - {OURS}, key=median.__getitem__)
    speed = [case.flops / second for second in ours]
    return Result(
        str(case),
        median,
        statistics.median(speed) / 1e9,
        ratio(seconds[PLAIN if PLAIN in seconds else best], ours),
        ratio(seconds[best], ours),
        ratio(seconds[PRODUCTS], ours) if PRODUCTS in seconds else None,
        {cpu_peaks.UNITS[unit]: ratio(speed, peaks[unit]) for unit in units if peaks[unit][0]},
    )


def memory_by_operation() -> dict[str, float]:
    """Return the MB that each operation takes with the longest memory."""
    base = replace(cases.REGISTRY["STM"][0], frames=MEMORY_FRAMES[-1])
    return {
        operation: extra_memory(replace(base, operation=operation))
        for operation in ("read", "top_k", "usage", "backward")
    }


def memory_by_frames() -> dict[str, dict[int, float]]:
    """Return the MB that each contender's read takes, by T."""
    lines: dict[str, dict[int, float]] = {}
    for name in (OURS, PLAIN, "SDPA", "SDPA, padded keys"):
        frames = [t for t in MEMORY_FRAMES if name == OURS or t <= MAX_AFFINITY_FRAMES]
        lines[name] = {t: extra_memory(replace(cases.REGISTRY["STM"][0], frames=t), name) for t in frames}
    return lines


def report(results: list[Result], memory: dict[str, float], lines: dict[str, dict[int, float]]) -> str:
    """Return the tables as Markdown."""
    text = [
        machine.line(),
        f"copy bandwidth {cpu_peaks.bandwidth() / 1e9:.1f} GB/s",
        "",
        "| case | ms | GFLOP/s | of the peak in registers | to products | to plain | to the best other | others, ms |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for result in results:
        fractions = ", ".join(f"{fraction:.0%} of {unit}" for unit, fraction in result.fractions.items())
        others = ", ".join(f"{k} {1e3 * v:.1f}" for k, v in result.seconds.items() if k != OURS)
        products = "" if result.ratio_to_products is None else f"{result.ratio_to_products:.2f}"
        text.append(
            f"| {result.case} | {1e3 * result.seconds[OURS]:.1f} | {result.gflops:.0f} | {fractions} "
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


def main() -> None:
    """Measure, print, and write files."""
    parser = argparse.ArgumentParser(prog="benchmarks.read.cpu", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("out", type=Path, nargs="?", help="folder for report.md, report.json and plots")
    parser.add_argument("--cases", default="", help='only cases whose name begins with this, such as "read, float32"')
    options = parser.parse_args()
    results = []
    for case in cases.beginning(options.cases):
        results.append(measure(case))
        print(results[-1], file=sys.stderr, flush=True)
    memory, lines = memory_by_operation(), memory_by_frames()
    text = report(results, memory, lines)
    print(text, end="")
    if options.out is None:
        return
    from benchmarks.read import plots

    options.out.mkdir(parents=True, exist_ok=True)
    data = {"results": [asdict(result) for result in results], "memory": memory, "memory_by_frames": lines}
    write_text(options.out / "report.md", text)
    write_text(options.out / "report.json", json.dumps(data, indent=1))
    plots.draw(data, options.out)


if __name__ == "__main__":
    main()
