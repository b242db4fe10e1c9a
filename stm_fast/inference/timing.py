"""How long each stage of a frame takes, measured without making a GPU wait."""

import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch


class StageTimes:
    """Seconds spent in each stage, by the host's clock.

    Args:
        stages: names of the stages.
    """

    def __init__(self, stages: Sequence[str]) -> None:
        self._seconds = dict.fromkeys(stages, 0.0)

    @contextmanager
    def measure(self, stage: str) -> Iterator[None]:
        """Return a context whose time counts for a stage, unless it raises."""
        begin = time.perf_counter()
        yield
        self._seconds[stage] += time.perf_counter() - begin

    def seconds(self) -> dict[str, float]:
        """Return the seconds of each stage so far."""
        return dict(self._seconds)


class GpuStageTimes(StageTimes):
    """Seconds that a GPU's current stream spends in each stage, from its first work of the stage to its last.

    Events mark where stages begin and end. The host does not wait for them, other than in `seconds`: those that the GPU
    has passed are added up on the way, so that only as many are kept as there is work queued.

    Args:
        stages: names of the stages.
        device: the GPU.
    """

    def __init__(self, stages: Sequence[str], device: torch.device) -> None:
        super().__init__(stages)
        self._device = device
        self._queued: deque[tuple[str, torch.cuda.Event, torch.cuda.Event]] = deque()

    @contextmanager
    def measure(self, stage: str) -> Iterator[None]:
        """Return a context whose work on the current stream counts for a stage, unless it raises."""
        begin = self._mark()
        yield
        self._queued.append((stage, begin, self._mark()))
        self._add_up()

    def seconds(self) -> dict[str, float]:
        """Return the seconds of each stage so far; wait for the stages that are queued."""
        if self._queued:
            self._queued[-1][2].synchronize()
        self._add_up()
        return super().seconds()

    def _mark(self) -> torch.cuda.Event:
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record(torch.cuda.current_stream(self._device))
        return event

    def _add_up(self) -> None:
        """Add up the stages that the GPU has finished."""
        while self._queued and self._queued[0][2].query():  # type: ignore[no-untyped-call]
            stage, begin, end = self._queued.popleft()
            self._seconds[stage] += begin.elapsed_time(end) / 1000


def stage_times(stages: Sequence[str], device: torch.device) -> StageTimes:
    """Return a measure of stages on a device."""
    return GpuStageTimes(stages, device) if device.type == "cuda" else StageTimes(stages)
