"""Time calls on a device in turns. On a CPU, where kernels are interpreted, the times mean nothing.

How one call is timed on a GPU: `stm_fast.ops.gpu_timing`.
"""

from functools import partial

import torch

from benchmarks import harness
from benchmarks.harness import Run, Seconds, Turns
from stm_fast.ops.gpu_timing import seconds_on_gpu

ON_GPU = Turns(rounds=25, min_rounds=5, seconds=1.5)
ON_CPU = Turns(rounds=1)


def in_turns(runs: dict[str, Run], device: torch.device) -> Seconds:
    """Return the seconds of every call, one of each per turn."""
    turns = ON_GPU if device.type == "cuda" else ON_CPU
    return harness.in_turns(runs, turns, partial(seconds_of, device=device))


def seconds_of(run: Run, device: torch.device) -> float:
    """Return the time of one call on the device."""
    return seconds_on_gpu(run) if device.type == "cuda" else harness.wall_seconds(run)


def synchronise(device: torch.device) -> None:
    """Wait until a device has done everything that was queued."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
