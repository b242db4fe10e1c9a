"""Check and measure the memory read on this machine's GPU, in ten minutes at most.

    python -m benchmarks.read.gpu.first_light OUT [--only read,backward] [--engine triton,cuda] [--stages check]
                                                  [--seconds N] [--rehearse]

Needs a checkout, torch, numpy, and triton or nvcc, whichever the engines need; nothing is installed. Stages, the most
important first: versions, and the CUDA library built only for this chip; every op and dtype against the reference in
float64, compiled by several processes at once; the GPU's peaks; times compared with torch's attention; variants of
kernels; host time; determinism; and a comparison with ways that take long to compile. Writes results to
OUT/results.jsonl as they come, tables to OUT/first_light.md, and OUT/first_light.log. A case that fails is reported in
a line and does not end the run. With --rehearse, kernels are interpreted or emulated on the CPU at toy sizes.
"""

import argparse
import os
import signal
import sys
import time
from pathlib import Path

from benchmarks import machine
from benchmarks.read.gpu import cases, report, stages
from benchmarks.read.gpu.results import FAILED, WRONG, Results
from benchmarks.read.gpu.run import Run

SECONDS = 560.0
"""Ten minutes, less the time to start and to end."""
INTERRUPTED = 130


def main(arguments: list[str] | None = None) -> int:
    """Measure; return 1 if anything was wrong or failed, 130 if it was interrupted."""
    begin = time.monotonic()
    options = _parser().parse_args(arguments)
    if options.rehearse:
        stages.rehearse()
    else:
        chip = machine.chip()
        if chip is None:
            print("torch sees no GPU here; --rehearse interprets the kernels at toy sizes", file=sys.stderr)
            return 1
        os.environ.setdefault("STM_FAST_CUDA_CHIPS", chip)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    todo = stages.jobs(options.stages, options.engine, options.only, options.rehearse)
    results = Results(options.out, machine.describe_gpu(), len(todo) + len(options.engine))
    run = Run(results, options.engine, options.seconds - (time.monotonic() - begin))
    interrupted = False
    try:
        run.do(todo)
    except KeyboardInterrupt:
        interrupted = True
        results.say("interrupted; results so far are kept")
    finally:
        run.end()
        results.close()
    _draw(results, options.out)
    print(report.short(results.lines), end="")
    return INTERRUPTED if interrupted else int(any(line["status"] in (FAILED, WRONG) for line in results.lines))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="benchmarks.read.gpu.first_light", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("out", type=Path, help="folder for the results")
    for option, allowed, meaning in (
        ("--only", cases.OPERATIONS, "operations"),
        ("--engine", stages.ENGINES, "engines"),
        ("--stages", tuple(stages.STAGES), "stages"),
    ):
        parser.add_argument(
            option,
            type=lambda text, allowed=allowed: _listed(text, allowed),
            default=list(allowed),
            help=f"{meaning}, with commas between them: {', '.join(allowed)} (default: all)",
        )
    parser.add_argument("--seconds", type=float, default=SECONDS, help="when to end (default: %(default)s)")
    parser.add_argument("--rehearse", action="store_true", help="on the CPU, at toy sizes; times mean nothing")
    return parser


def _listed(text: str, allowed: tuple[str, ...]) -> list[str]:
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in allowed:
            raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(allowed)}")
    return names


def _draw(results: Results, folder: Path) -> None:
    """Plot the dense read's time against T, where matplotlib is installed."""
    lines = [line for line in results.lines if line["stage"] == "time" and "seconds" in line]
    try:
        from benchmarks.read import plots

        if lines:
            plots.draw_gpu(lines, sorted(cases.FRAMES), folder)
    except Exception as error:
        results.say(f"no plot: {error}")


if __name__ == "__main__":
    sys.exit(main())
