"""Measure what reading by `memory_read` saves in training: time of a step and memory, against the length of clips.

    python -m benchmarks.system.training [--models resnet50 compact] [--frames 3 6 9 12] [--size 384]

A step trains on one clip with one object. `benchmarks.system.training_step` names the ways to read and says what the
memory of the reads alone is. All ways take turns in one process, which first checks that their gradients agree. Times
are medians; speed is the time of a plain step over that of the way's step in the same turn. Each memory is measured in
a process of its own; the peak of a step is that of resident memory on a CPU, of allocated memory on a GPU. Prints
Markdown, and whether the fused read keeps to the bars: at T = 12, at most a tenth of the memory of plain reads, in a
step that is no slower. resnet50 at T = 12 takes about 10 GB.

`--quick` runs small cases in this process, to test the script: its memory means nothing.
"""

import argparse
import multiprocessing
from collections.abc import Callable
from typing import Any

import torch

from benchmarks import harness, machine, process_memory
from benchmarks.harness import Seconds
from benchmarks.system.training_step import WAYS, Setup, own_memory, step_peak, step_seconds

MAX_MEMORY_SHARE, MIN_SPEED = 0.1, 1.0
"""The bars of the fused read: its memory and the speed of its step, relative to the plain read."""
HEADER = """\
| model | T | read | step, s | speed | peak of the step, MB | reads alone, MB | to plain |
|---|---|---|---|---|---|---|---|"""


def main() -> None:
    """Print a line for every model and length."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", choices=("resnet50", "compact"), default=["resnet50", "compact"])
    parser.add_argument("--frames", nargs="+", type=int, default=[3, 6, 9, 12], help="lengths of the clip, T")
    parser.add_argument("--size", type=int, default=384, help="side of a frame in pixels, a multiple of 16")
    parser.add_argument("--rounds", type=int, default=5, help="timed steps of each way")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32", help="of the activations")
    parser.add_argument("--quick", action="store_true", help="compact, 64 pixels, T = 3 and 4, in this process")
    options = parser.parse_args()
    if options.quick:
        options.models, options.frames, options.size, options.rounds = ["compact"], [3, 4], 64, 1
    print(f"{described(options.device)}; one clip of {options.size} pixels, one object, {options.dtype}\n")
    print(HEADER)
    measured: list[Measured] = []
    for model in options.models:
        for frames in options.frames:
            setup = Setup(model, frames, options.size, options.device, getattr(torch, options.dtype), options.rounds)
            measured.append(Measured(setup, call if options.quick else call_apart))
            print(measured[-1].rows(), flush=True)
    longest = max(options.frames)
    print()
    for each in measured:
        if each.setup.frames == longest:
            print(each.verdict())


class Measured:
    """What was measured of one model and length of clips.

    Args:
        setup: what is measured.
        call: how a measurement is called.
    """

    def __init__(self, setup: Setup, call: Callable[..., Any]) -> None:
        self.setup = setup
        seconds: Seconds = call(step_seconds, setup)
        self.seconds = {name: values[1:] for name, values in seconds.items()}  # without the first turn
        self.peaks: dict[str, float] = {name: call(step_peak, setup, name) for name in WAYS}
        self.own: dict[str, float] = {name: call(own_memory, setup, name) for name in WAYS}

    def speed(self, way: str) -> float:
        """Return how many times as fast a way's step is as that of the plain read."""
        return harness.ratio(self.seconds["plain"], self.seconds[way])

    def share(self, way: str) -> float:
        """Return the memory of a way's reads relative to that of the plain read."""
        return self.own[way] / self.own["plain"]

    def rows(self) -> str:
        """Return a row of the table for each way."""
        medians = harness.medians(self.seconds)
        return "\n".join(
            f"| {self.setup.model} | {self.setup.frames} | {way} | {medians[way]:.2f} | {self.speed(way):.2f} | "
            f"{self.peaks[way] / process_memory.MEGABYTE:.0f} | {self.own[way] / process_memory.MEGABYTE:.1f} | "
            f"{self.share(way):.3f} |"
            for way in WAYS
        )

    def verdict(self) -> str:
        """Return whether the fused read keeps to the bars."""
        share, speed = self.share("fused"), self.speed("fused")
        kept = "kept" if share <= MAX_MEMORY_SHARE and speed >= MIN_SPEED else "not kept"
        return (
            f"- {self.setup.model}, T = {self.setup.frames}: {share:.3f} of the memory of plain reads (bar "
            f"{MAX_MEMORY_SHARE}), a step {speed:.2f} times as fast (bar {MIN_SPEED}): {kept}"
        )


def described(device: str) -> str:
    """Return the machine, with its GPU if that is used."""
    return machine.line() if device == "cpu" else machine.line(torch.cuda.get_device_name())


def call(function: Callable[..., Any], *arguments: object) -> object:
    """Call a function in this process."""
    return function(*arguments)


def call_apart(function: Callable[..., Any], *arguments: object) -> object:
    """Call a function in a new process."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, arguments)


if __name__ == "__main__":
    main()
