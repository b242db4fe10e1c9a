"""Measure how other processes slow a segmentation, depending on how long idle threads spin before they sleep.

    python -m benchmarks.system.busy_machine [--rounds 3] [--busy 2] [--frames 10]

Runs `stm-fast segment` on the first frames of the demo's clip in separate processes, alone and beside processes that
never wait. Threads spin as OpenMP's default says, as the command line says (`stm_fast.cli.threads`), or not at all.
Runs take turns, and medians are reported. Prints Markdown. Takes some minutes; run it on an otherwise idle machine.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from benchmarks import machine
from benchmarks.harness import Turns
from stm_fast.cli import threads
from stm_fast.data.demo_clip import render
from stm_fast.media.masks import write_mask

WAYS: dict[str, dict[str, str]] = {
    "for long": {"GOMP_SPINCOUNT": "300000"},
    "briefly": {},
    "not at all": {"OMP_WAIT_POLICY": "passive"},
}
"""Environment variables for each way of waiting. libgomp's own default is given as a number, so that the command line
does not change it."""


class Run(NamedTuple):
    """Seconds of the whole command, and of the frames alone."""

    command: float
    frames: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="runs of each kind")
    parser.add_argument("--busy", type=int, default=2, help="processes beside")
    parser.add_argument("--frames", type=int, default=10, help="of the demo's clip")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        clip = write_clip(Path(scratch), options.frames)
        segment(clip, {})
        runs: dict[tuple[str, int], list[Run]] = {(way, busy): [] for way in WAYS for busy in (0, options.busy)}
        for number in Turns(options.rounds):
            ways = list(WAYS)[:: -1 if number % 2 else 1]
            for busy in (0, options.busy):
                with busy_processes(busy):
                    for way in ways:
                        runs[way, busy].append(segment(clip, WAYS[way]))
    print(report(runs, options.frames, options.busy))


def write_clip(folder: Path, frames: int) -> Path:
    """Write the first frames of the demo's clip and the mask of the first; return the folder."""
    (folder / "frames").mkdir()
    for index, frame in enumerate(islice(render(), frames)):
        Image.fromarray(frame.image).save(folder / "frames" / f"{index:05}.png")
        if index == 0:
            write_mask(folder / "mask.png", frame.mask)
    return folder


def segment(clip: Path, way: dict[str, str]) -> Run:
    """Segment a clip with the command line."""
    said = ("OMP_", "GOMP_", "KMP_", "MKL_")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(said)}
    options = ("frames", "--mask", "mask.png", "--out", "out", "--overwrite")
    command = [sys.executable, "-m", "stm_fast", "segment", *options]
    root = Path(__file__).parents[2]
    begin = time.perf_counter()
    subprocess.run(
        command, cwd=clip, env=environment | way | {"PYTHONPATH": str(root)}, check=True, capture_output=True
    )
    seconds = time.perf_counter() - begin
    return Run(seconds, json.loads((clip / "out" / "summary.json").read_text())["seconds"]["total"])


@contextmanager
def busy_processes(number: int) -> Iterator[None]:
    """Run processes that never wait during the block."""
    started = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(number)]
    try:
        yield
    finally:
        for process in started:
            process.kill()
            process.wait()


def report(runs: dict[tuple[str, int], list[Run]], frames: int, busy: int) -> str:
    """Return medians and their ratios, under the machine and the versions."""
    lines = [
        machine.line(threads=f"{threads.processors()} processors"),
        "",
        f"{frames} frames of the demo's clip, medians of {len(next(iter(runs.values())))} runs that took turns.",
        "",
        f"| idle threads wait | time of the | alone, s | with {busy} busy processes, s | ratio |",
        "|---|---|---|---|---|",
    ]
    median = {key: Run(*map(statistics.median, zip(*taken, strict=True))) for key, taken in runs.items()}
    for way in WAYS:
        for part in Run._fields:
            alone, beside = (getattr(median[way, number], part) for number in (0, busy))
            lines.append(f"| {way} | {part} | {alone:.2f} | {beside:.2f} | {beside / alone:.2f} |")
    longest, *others = WAYS
    for way in others:
        changed = zip(Run._fields, median[longest, 0], median[way, 0], strict=True)
        changes = ", ".join(f"that of the {part} by {after / before - 1:+.1%}" for part, before, after in changed)
        lines += ["", f"Alone, waiting {way} changes the time: {changes}."]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
