"""Run NVIDIA's own tools on the kernels: memory accesses, races, and what limits the dense read.

    python -m benchmarks.read.gpu.tools OUT [--engine cuda] [--seconds N] [--rehearse]

compute-sanitizer (memcheck, then racecheck) watches every op at small sizes. ncu, which leaves the clocks alone,
watches the dense read of 20 memory frames. The output of each goes to OUT/<tool>-<engine>.txt; a line of each is
printed and written to OUT/tools.md. A tool that is not installed or does not work here gets a line too. With
--rehearse, the same calls run without tools.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from subprocess import PIPE, STDOUT
from typing import NamedTuple

from benchmarks import machine
from benchmarks.read.gpu import stages
from stm_fast.media.files import write_text
from stm_fast.processes import Process

ENGINES = ["cuda", "triton"]
SECONDS = 400.0
HOMES = ("/usr/local/cuda/bin", "/opt/nvidia/nsight-compute")
SANITIZER = ("compute-sanitizer", "--error-exitcode", "9", "--print-limit", "20", "--tool")
PROFILER = (
    "ncu", "--clock-control", "none", "--section", "SpeedOfLight", "--section", "WarpStateStats",
    "--section", "Occupancy", "--kernel-name", "regex:dense", "--launch-skip", "2", "--launch-count", "1",
)  # fmt: skip
LIMITS = r"((?:Compute \(SM\)|Memory|DRAM|L2 Cache) Throughput|Duration|Achieved Occupancy)\s+(\S+)\s+(\S+)"
SUMMARY = r"(ERROR SUMMARY: .*|RACECHECK SUMMARY: .*)"


class Watch(NamedTuple):
    """A tool's command, the part of `benchmarks.read.gpu.watched` that it watches, and a pattern for its summary."""

    name: str
    command: tuple[str, ...]
    what: str
    summary: str


WATCHES = (
    Watch("memcheck", (*SANITIZER, "memcheck"), "small", SUMMARY),
    Watch("ncu", PROFILER, "dense", LIMITS),
    Watch("racecheck", (*SANITIZER, "racecheck"), "small", SUMMARY),
)


def main(arguments: list[str] | None = None) -> int:
    """Run the tools; return 1 if one found a fault."""
    options = _parser().parse_args(arguments)
    until = time.monotonic() + options.seconds
    options.out.mkdir(parents=True, exist_ok=True)
    if options.rehearse:
        stages.rehearse()
    else:
        os.environ.setdefault("STM_FAST_CUDA_CHIPS", machine.chip() or "")
    lines: list[str] = []
    for line in _lines(options.engine or ENGINES, options.out, options.rehearse, until):
        print(line, flush=True)
        lines.append(line)
        write_text(options.out / "tools.md", "".join(f"- {line}\n" for line in lines))
    return int(any(line.startswith("FAULT") for line in lines))


def _lines(engines: list[str], out: Path, rehearsing: bool, until: float) -> Iterator[str]:
    refusals = {engine: _refusal(engine, until) for engine in engines}
    for watch in WATCHES:
        tool = None if rehearsing else _found(watch.command[0])
        if tool is None and not rehearsing:
            yield f"{watch.name}: {watch.command[0]} is not installed (PATH and {', '.join(HOMES)} were tried)"
            continue
        prefix = () if tool is None else (tool, *watch.command[1:])
        for engine in engines:
            if refusals[engine]:
                yield f"{watch.name}, {engine}: skipped: {refusals[engine]}"
            else:
                verdict = _watched(watch, prefix, engine, out / f"{watch.name}-{engine}.txt", until)
                yield verdict if not rehearsing else f"rehearsed without the tool: {verdict}"


def _refusal(engine: str, until: float) -> str:
    """Return why an engine is absent. Its library is built and its kernels are compiled outside the tools."""
    process = Process()
    try:
        outcome = process.call(stages.prepare, engine, seconds=max(1.0, until - time.monotonic()))
    finally:
        process.end()
    return outcome.fault or outcome.value["reason"] or ""


def _found(tool: str) -> str | None:
    """Return the command of a tool."""
    folders = [path for home in HOMES for path in (home, *map(str, sorted(Path(home).glob("*"), reverse=True)))]
    return shutil.which(tool) or shutil.which(tool, path=os.pathsep.join(folders))


def _watched(watch: Watch, prefix: tuple[str, ...], engine: str, file: Path, until: float) -> str:
    """Run a tool; return a line that sums up its output."""
    where = f"{watch.name}, {engine}"
    left = until - time.monotonic()
    if left < 1:
        return f"{where}: skipped: no time left"
    command = [*prefix, sys.executable, "-m", "benchmarks.read.gpu.watched", engine, watch.what]
    # With torch's own memory cache, an access beyond a tensor would still be to valid memory.
    environment = {**os.environ, "PYTORCH_NO_CUDA_MEMORY_CACHING": "1"} if watch.what == "small" else None
    try:
        run = subprocess.run(command, stdout=PIPE, stderr=STDOUT, text=True, timeout=left, env=environment, check=False)
    except subprocess.TimeoutExpired as error:
        said = error.stdout or ""
        write_text(file, said if isinstance(said, str) else said.decode(errors="replace"))
        return f"{where}: it took longer than {left:.0f} s; see {file}"
    write_text(file, run.stdout)
    found = re.findall(watch.summary, run.stdout)
    summary = ", ".join(match if isinstance(match, str) else " ".join(match) for match in found)
    last = next(filter(None, map(str.strip, reversed(run.stdout.splitlines()))), "it printed nothing")
    verdict = "" if run.returncode == 0 else f"FAULT (exit code {run.returncode}): "
    return f"{verdict}{where}: {summary or last}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="benchmarks.read.gpu.tools", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("out", type=Path, help="folder for the output of the tools")
    parser.add_argument("--engine", choices=ENGINES, action="append", help="only this engine")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="when to end (default: %(default)s)")
    parser.add_argument("--rehearse", action="store_true", help="run what they would watch, without them, on the CPU")
    return parser


if __name__ == "__main__":
    sys.exit(main())
