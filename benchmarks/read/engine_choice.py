"""Check that "auto" is as fast as the best single engine of the CPU kernels, in every case of `make bench`.

    python -m benchmarks.read.engine_choice [--minutes 10] [--cases "read, float32"] [--json FILE]

For some minutes, "auto", every single engine and, for reads, the plain formula take turns in every case, since the
speed of engines changes from one minute to the next. Prints Markdown with medians, ratios, machine and versions. Fails
if "auto" takes more than 1.1 times as long as the best single engine, or longer than the plain read at T >= 5. Set
STM_FAST_CACHE to an empty folder to measure the engines again, as on a new machine.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from torch import Tensor

from benchmarks import machine
from benchmarks.harness import Seconds, Turns, medians, rotated, take_turn
from benchmarks.read import cases
from benchmarks.read.cases import Case
from benchmarks.read.runs import OURS, PLAIN, runners
from stm_fast.media.files import write_text
from stm_fast.ops import compiled, cpu_engines, environment

AUTO = "auto"
MAX_RATIO = 1.1
"""Maximum ratio of the time of "auto" to that of the best single engine."""
MIN_FRAMES = 5
"""Number of memory frames from which "auto" must be no slower than the plain read."""


def single_engines() -> list[str]:
    """Return the engines to compare with. The baseline, which takes minutes, is included only if there is no other."""
    known = compiled.instruction_sets()
    return [name for name in known if name != "baseline"] or known


@contextmanager
def forced(engine: str | None) -> Iterator[None]:
    """Read with one engine inside; None leaves the choice to stm-fast."""
    before = os.environ.get(cpu_engines.VARIABLE)
    _set(engine)
    try:
        yield
    finally:
        _set(before)


def _set(engine: str | None) -> None:
    """Set the variable that forces an engine, and have it read anew; None unsets it."""
    os.environ.pop(cpu_engines.VARIABLE, None)
    if engine is not None:
        os.environ[cpu_engines.VARIABLE] = engine
    environment.variable.cache_clear()


def contenders(case: Case) -> dict[str, Callable[[], Tensor]]:
    """Return "auto" and each engine, and for a read the plain formula."""
    runs = runners(case)
    ours = runs[OURS]

    def by(engine: str | None) -> Callable[[], Tensor]:
        def run() -> Tensor:
            with forced(engine):
                return ours()

        return run

    found = {AUTO: by(None)} | {engine: by(engine) for engine in single_engines()}
    return found | ({PLAIN: runs[PLAIN]} if case.operation == "read" else {})


def chosen(run: Callable[[], Tensor]) -> str:
    """Return the engines that "auto" takes for a case. The first call measures them."""
    engines: dict[str, str] = {}
    with cpu_engines.held(engines):
        run()
    return ", ".join(sorted(set(engines.values())))


def take_turns(runs: dict[Case, dict[str, Callable[[], Tensor]]], turns: Turns) -> dict[Case, Seconds]:
    """Return the seconds of every contender at every case, turn by turn."""
    seconds: dict[Case, Seconds] = {case: {} for case in runs}
    for turn in turns:
        for case, contestants in runs.items():
            take_turn(rotated(contestants, turn), seconds[case])
        print(f"turn {turn + 1}", file=sys.stderr, flush=True)
    return seconds


def failures(case: Case, seconds: dict[str, float]) -> list[str]:
    """Return the limits that a case exceeds."""
    best = min(seconds[engine] for engine in seconds if engine not in (AUTO, PLAIN))
    found = []
    if seconds[AUTO] > MAX_RATIO * best:
        found.append(f"{case}: auto takes {seconds[AUTO] / best:.2f} x the time of the best engine")
    if PLAIN in seconds and case.frames >= MIN_FRAMES and seconds[AUTO] > seconds[PLAIN]:
        found.append(f"{case}: auto takes {seconds[AUTO] / seconds[PLAIN]:.2f} x the time of the plain read")
    return found


def report(found: dict[Case, dict[str, float]], choices: dict[Case, str], turns: int) -> str:
    """Return the table as Markdown."""
    engines = single_engines()
    text = [
        f"{machine.line()}; medians of {turns} turns",
        "",
        f"| case | auto takes | auto, ms | {', '.join(engines)}, ms | auto to the best | plain, ms | plain to auto |",
        "|---|---|---|---|---|---|---|",
    ]
    for case, seconds in found.items():
        best = min(seconds[engine] for engine in engines)
        plain = f"{1e3 * seconds[PLAIN]:.1f} | {seconds[PLAIN] / seconds[AUTO]:.2f}" if PLAIN in seconds else " | "
        each = ", ".join(f"{1e3 * seconds[engine]:.1f}" for engine in engines)
        text.append(
            f"| {case} | {choices[case]} | {1e3 * seconds[AUTO]:.1f} | {each} | {seconds[AUTO] / best:.2f} | {plain} |"
        )
    return "\n".join(text) + "\n"


def main() -> None:
    """Measure, print, and fail if a limit is exceeded."""
    parser = argparse.ArgumentParser(prog="benchmarks.read.engine_choice", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10.0, help="time for turns; at least one is taken")
    parser.add_argument("--cases", default="", help='only cases whose name begins with this, such as "read, float32"')
    parser.add_argument("--json", type=Path, help="also write every time that was measured to this file")
    options = parser.parse_args()
    if reason := compiled.failure("cpu"):
        raise SystemExit(f"the CPU kernels cannot be used: {reason}")
    try:
        runs = {case: contenders(case) for case in cases.beginning(options.cases)}
    except ValueError as error:
        parser.error(f"--cases: {error}")
    with forced(None):
        choices = {case: chosen(contestants[AUTO]) for case, contestants in runs.items()}
    seconds = take_turns(runs, Turns(seconds=60 * options.minutes))
    found = {case: medians(each) for case, each in seconds.items()}
    turns = len(next(iter(seconds.values()))[AUTO])
    print(report(found, choices, turns), end="")
    if options.json:
        write_text(options.json, json.dumps({str(case): each for case, each in seconds.items()}, indent=1))
    missed = [failure for case, each in found.items() for failure in failures(case, each)]
    print("\n" + ("\n".join(missed) if missed else "auto is within both limits in every case"))
    sys.exit(bool(missed))


if __name__ == "__main__":
    main()
