"""Leaves out the barriers of the emulated CUDA kernels, one after another: without any of them something must go wrong.

    python tests/csrc/barriers.py PROGRAM

PROGRAM is what `build.py --test cuda` makes with ThreadSanitizer. A barrier is missed if the sanitizer sees a race
without it, or else if the results are wrong. One that nobody misses is superfluous, or the tests are too weak.
"""

import argparse
import os
import re
import subprocess
import sys
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

MISSED = {66: "a race", 1: "wrong results"}
"""What the exit status of a program without a barrier tells: that of ThreadSanitizer, and its own."""


class Barrier(NamedTuple):
    """As the program names it.

    Attributes:
        line: where it stands.
        kernel: the instantiation.
    """

    line: str
    kernel: str

    def __str__(self) -> str:
        kernel = re.sub(r"^void |stm::cuda::|stm::|_kernel|\(\w+Arguments\)|::<lambda\(\)>", "", self.kernel)
        return f"line {self.line} of {kernel}"


def barriers_of(program: Path) -> dict[Barrier, list[str]]:
    """The barriers of all kernels that run, and the cases that meet each; with all barriers nothing may go wrong."""
    listed = subprocess.run([program, "barriers"], stdout=subprocess.PIPE, text=True, check=False)
    if listed.returncode != 0:
        sys.exit(f"{listed.stdout}with all barriers there are races or wrong results")
    cases = defaultdict(list)
    for line in listed.stdout.splitlines():
        case, *barrier = line.split("\t")
        cases[Barrier(*barrier)].append(case)
    return cases


def consequence(program: Path, barrier: Barrier, cases: list[str]) -> str | None:
    """What goes wrong without a barrier in a case that misses it, or None."""
    environment = {**os.environ, "TSAN_OPTIONS": "halt_on_error=1"}
    for case in reversed(cases):  # the later cases are the quicker ones, and have gains, offsets and biases
        command = [program, "omit-barrier", case, *barrier]
        run = subprocess.run(command, env=environment, capture_output=True, check=False)
        if run.returncode in MISSED:
            return MISSED[run.returncode]
    return None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", type=Path)
    program = parser.parse_args().program.resolve()
    cases = barriers_of(program)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        consequences = list(pool.map(lambda item: consequence(program, *item), cases.items()))
    unseen = [barrier for barrier, seen in zip(cases, consequences, strict=True) if seen is None]
    for barrier in unseen:
        print(f"nobody misses the barrier in {barrier}")
    seen = Counter(filter(None, consequences))
    print(f"{len(cases)} barriers left out:", ", ".join(f"{count} made {what}" for what, count in seen.items()))
    sys.exit(bool(unseen) or not cases)


if __name__ == "__main__":
    main()
