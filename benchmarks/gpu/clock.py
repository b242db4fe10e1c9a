"""Time of calls, in turns with others; on a CPU, where kernels are interpreted, figures mean nothing."""

import time
from collections.abc import Callable

import torch

from stm_fast.kernels.timing import seconds_on_gpu

ROUNDS = 25
SECONDS_PER_CASE = 1.5
MIN_ROUNDS = 5


def in_turns(runs: dict[str, Callable[[], object]], device: torch.device) -> dict[str, list[float]]:
    """Seconds of every call, one of each a turn, until a case has had its time."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    begin = time.perf_counter()
    for turn in range(ROUNDS if device.type == "cuda" else 1):
        for name, run in runs.items():
            times[name].append(seconds_of(run, device))
        if turn + 1 >= MIN_ROUNDS and time.perf_counter() - begin > SECONDS_PER_CASE:
            break
    return times


def seconds_of(run: Callable[[], object], device: torch.device) -> float:
    """Time of one call on the device."""
    if device.type == "cuda":
        return seconds_on_gpu(run)
    begin = time.perf_counter()
    run()
    return time.perf_counter() - begin


def synchronise(device: torch.device) -> None:
    """Wait for all that was asked of a device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
