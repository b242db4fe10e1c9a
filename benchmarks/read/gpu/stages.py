"""The stages, the most important first, and what each does with a task."""

import os
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from benchmarks.read.gpu import cases, peaks, variants
from benchmarks.read.gpu.check import check
from benchmarks.read.gpu.compare import compare, compare_others
from benchmarks.read.gpu.determinism import repeat
from benchmarks.read.gpu.host_time import host_time

ENGINES = ("triton", "cuda")
TRITON = ("triton",)
NONE = ("",)


class Stage(NamedTuple):
    """One kind of work.

    Attributes:
        tasks: returns what is to be done, at real or toy sizes; the text of a task is its name.
        perform: does a task with an engine on a device; returns figures, and "wrong" if a result is wrong.
        engines: the engines to use.
        together: whether tasks run in several processes at once, because they are compiled and not timed.
        seconds: time limit of a task.
    """

    tasks: Callable[[bool], list[Any]]
    perform: Callable[[Any, str, torch.device], dict[str, Any]]
    engines: tuple[str, ...] = ENGINES
    together: bool = False
    seconds: float = 60.0


STAGES = {
    "check": Stage(cases.checked, check, together=True, seconds=150.0),
    "peaks": Stage(peaks.tasks, peaks.peak, engines=NONE),
    "time": Stage(cases.timed, compare),
    "compile variants": Stage(variants.variants, variants.check_variant, TRITON, together=True, seconds=100.0),
    "variants": Stage(variants.variants, variants.time_variant, TRITON),
    "host": Stage(cases.called, host_time),
    "repeat": Stage(cases.repeated, repeat),
    "others": Stage(lambda toy: cases.timed(toy)[:2], compare_others, TRITON),
}


class Job(NamedTuple):
    """A task of a stage with an engine."""

    stage: str
    engine: str
    task: Any

    @property
    def operation(self) -> str | None:
        """The operation of the read that it measures, or None."""
        case = getattr(self.task, "case", self.task)
        return getattr(case, "operation", None)


def jobs(stages: list[str], engines: list[str], operations: list[str], toy: bool) -> list[Job]:
    """Return the jobs, the most important first.

    Args:
        stages: those wanted.
        engines: those wanted.
        operations: those wanted; jobs without an operation are always included.
        toy: use shapes small enough for interpreters.
    """
    found = [
        Job(name, engine, task)
        for name, stage in STAGES.items()
        if name in stages
        for task in stage.tasks(toy)
        for engine in stage.engines
        if engine in (*engines, "")
    ]
    return [job for job in found if job.operation in (None, *operations)]


def prepare(engine: str) -> dict[str, Any]:
    """Make an engine ready, which may build the CUDA library. Return the seconds and, if it is absent, why."""
    begin = time.perf_counter()
    from stm_fast.ops.backends import registry

    reason = registry.unavailable(engine)
    return {"seconds": time.perf_counter() - begin, "reason": reason}


def perform(job: Job) -> dict[str, Any]:
    """Do a job in this process."""
    device = torch.device("cpu" if rehearsing() else "cuda")
    try:
        return STAGES[job.stage].perform(job.task, job.engine, device)
    finally:
        if device.type == "cuda":
            torch.cuda.empty_cache()


def rehearse() -> None:
    """Interpret or emulate kernels on the CPU from now on, also in processes that start later."""
    os.environ.update(TRITON_INTERPRET="1", STM_FAST_EMULATE_CUDA="1")


def rehearsing() -> bool:
    """Return whether kernels are interpreted or emulated."""
    return os.environ.get("TRITON_INTERPRET") == "1"
