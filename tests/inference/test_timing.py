"""Stages are timed without waiting for a GPU; the GPU here is one whose events pass when a test says so."""

from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from stm_fast.inference import video
from stm_fast.inference.segmenter import Segmenter
from stm_fast.inference.timing import GpuStageTimes, StageTimes, stage_times
from stm_fast.models.stm import STM

Blocks = Callable[..., NDArray[np.uint8]]
GPU = torch.device("cuda", 1)


class FakeGPU:
    """A stream that is behind the host by what is queued on it.

    Attributes:
        queue: events, and seconds of work between them, that it has not come to yet.
        clock: seconds that it has worked.
        waits: how often the host waited for it.
    """

    def __init__(self) -> None:
        self.queue: list[object] = []
        self.clock = 0.0
        self.waits = 0

    def work(self, items: int | None = None) -> None:
        """Do so many of the queued things, or all."""
        items = len(self.queue) if items is None else items
        for item in self.queue[:items]:
            if isinstance(item, Event):
                item.time = self.clock
            else:
                self.clock += item
        del self.queue[:items]


class Event:
    """What `torch.cuda.Event` does, on a fake GPU."""

    gpu: FakeGPU

    def __init__(self, enable_timing: bool = False) -> None:
        assert enable_timing
        self.time: float | None = None

    def record(self, stream: tuple[str, torch.device]) -> None:
        assert stream == ("current stream of", GPU)
        self.gpu.queue.append(self)

    def query(self) -> bool:
        return self.time is not None

    def synchronize(self) -> None:
        self.gpu.waits += 1
        self.gpu.work(self.gpu.queue.index(self) + 1 if self in self.gpu.queue else 0)

    def elapsed_time(self, end: "Event") -> float:
        assert self.time is not None
        assert end.time is not None
        return 1000 * (end.time - self.time)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeGPU]:
    fake = FakeGPU()
    monkeypatch.setattr(Event, "gpu", fake, raising=False)
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: ("current stream of", device))
    monkeypatch.setattr(torch.cuda, "synchronize", lambda *_: pytest.fail("the whole GPU was waited for"))
    return fake


def test_a_gpu_is_waited_for_when_its_times_are_read(gpu: FakeGPU) -> None:
    times = stage_times(("read", "decode"), GPU)
    for seconds in (1.0, 2.0):
        with times.measure("read"):
            gpu.queue.append(seconds)
        gpu.queue.append(10.0)
        with times.measure("decode"):
            gpu.queue.append(seconds / 2)
    gpu.queue.append(100.0)
    assert gpu.waits == 0
    assert times.seconds() == {"read": 3.0, "decode": 1.5}
    assert gpu.clock < 100
    assert times.seconds() == {"read": 3.0, "decode": 1.5}
    assert gpu.waits == 1


def test_no_more_events_are_kept_than_there_is_work_queued(gpu: FakeGPU) -> None:
    times = GpuStageTimes(("read",), GPU)
    for _ in range(1000):
        with times.measure("read"):
            gpu.queue.append(1.0)
        if len(gpu.queue) > 30:
            gpu.work(15)
    assert gpu.waits == 0
    assert len(times._queued) < 20
    assert times.seconds() == {"read": 1000.0}


@pytest.mark.parametrize("device", [GPU, torch.device("cpu")])
def test_a_stage_that_raises_does_not_count(device: torch.device, gpu: FakeGPU) -> None:
    times = stage_times(("read",), device)
    with pytest.raises(KeyError), times.measure("read"):
        {}["out of reach"]
    assert times.seconds() == {"read": 0.0}


def test_what_is_returned_is_a_copy() -> None:
    times = stage_times(("read",), torch.device("cpu"))
    times.seconds()["read"] = 3.0
    assert type(times) is StageTimes
    assert times.seconds() == {"read": 0.0}


def test_a_segmenter_does_not_wait(
    model: STM, paint: Blocks, ids: Blocks, gpu: FakeGPU, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(video, "stage_times", lambda stages, device: GpuStageTimes(stages, GPU))
    segmenter = Segmenter(model)
    segmenter.start(paint("r."), ids("10"))
    for _ in range(3):
        segmenter.step(paint("r."))
    assert gpu.waits == 0
    assert len(gpu.queue) == 3 * 4 * 2
    gpu.queue = [part for event in gpu.queue for part in (event, 0.5)]
    assert segmenter.timings == dict.fromkeys(("encode_query", "read", "decode", "encode_memory"), 1.5)
