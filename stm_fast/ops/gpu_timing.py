"""Timing calls on the current GPU: launches queue behind a wait, caches are cold, and events take the time."""

import statistics
from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor

ROUNDS = 11
BUSY_CYCLES = 4_000_000
"""Clock cycles, about two milliseconds, that the GPU waits while the host launches the work to be timed."""


def seconds_on_gpu(run: Callable[[], object]) -> float:
    """Time one call whose tensors are not in the L2 cache, as after the other layers of a network."""
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    _larger_than_the_cache(torch.cuda.current_device()).zero_()
    torch.cuda._sleep(BUSY_CYCLES)  # type: ignore[no-untyped-call]
    start.record()
    run()
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end)) / 1e3


def median_seconds_on_gpu(run: Callable[[], object]) -> float:
    """Return the median time of a call over several rounds; see `seconds_on_gpu`."""
    return statistics.median(seconds_on_gpu(run) for _ in range(ROUNDS))


@cache
def _larger_than_the_cache(device: int) -> Tensor:
    bytes_cached = torch.cuda.get_device_properties(device).L2_cache_size
    return torch.empty(4 * bytes_cached, dtype=torch.uint8, device=torch.device("cuda", device))
