"""The stages, the most important first, and what each does with a task."""

import os
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from benchmarks.gpu import cases, peaks, variants
from benchmarks.gpu.beside import beside, beside_others
from benchmarks.gpu.check import check
from benchmarks.gpu.host import host
from benchmarks.gpu.repeat import repeat

ENGINES = ("triton", "cuda")
TRITON = ("triton",)
NONE = ("",)


class Stage(NamedTuple):
    """One kind of work.

    Attributes:
        tasks: what is to be done, real or toys; each has a name as its text, and perhaps an operation.
        perform: does a task with an engine on a device; returns figures, and "wrong" if something is.
        engines: with which.
        together: by several processes at once, which is for what must be compiled and is not timed.
        seconds: that a task may take.
    """

    tasks: Callable[[bool], list[Any]]
    perform: Callable[[Any, str, torch.device], dict[str, Any]]
    engines: tuple[str, ...] = ENGINES
    together: bool = False
    seconds: float = 60.0


STAGES = {
    "check": Stage(cases.checked, check, together=True, seconds=150.0),
    "peaks": Stage(peaks.tasks, peaks.peak, engines=NONE),
    "time": Stage(cases.timed, beside),
    "compile variants": Stage(variants.variants, variants.check_variant, TRITON, together=True, seconds=100.0),
    "variants": Stage(variants.variants, variants.time_variant, TRITON),
    "host": Stage(cases.called, host),
    "repeat": Stage(cases.repeated, repeat),
    "others": Stage(lambda toy: cases.timed(toy)[:2], beside_others, TRITON),
}


class Job(NamedTuple):
    """A task of a stage with an engine."""

    stage: str
    engine: str
    task: Any

    @property
    def operation(self) -> str | None:
        """What of the read it is about, if of one operation."""
        case = getattr(self.task, "case", self.task)
        return getattr(case, "operation", None)


def jobs(stages: list[str], engines: list[str], operations: list[str], toy: bool) -> list[Job]:
    """What is to be done, the most important first.

    Args:
        stages: those wanted.
        engines: those wanted.
        operations: those wanted; what is of no operation is wanted always.
        toy: shapes that can be interpreted.
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
    """Make an engine ready; seconds that it took, and why it is absent, if so. The CUDA library is built."""
    begin = time.perf_counter()
    from stm_fast.ops.backends import registry

    reason = registry.unavailable(engine)
    return {"seconds": time.perf_counter() - begin, "reason": reason}


def perform(job: Job) -> dict[str, Any]:
    """Do a job, in the process that calls this."""
    device = torch.device("cpu" if rehearsing() else "cuda")
    try:
        return STAGES[job.stage].perform(job.task, job.engine, device)
    finally:
        if device.type == "cuda":
            torch.cuda.empty_cache()


def rehearse() -> None:
    """From now on, also in processes that begin from now on, kernels are interpreted or emulated on the CPU."""
    os.environ.update(TRITON_INTERPRET="1", STM_FAST_EMULATE_CUDA="1")


def rehearsing() -> bool:
    """Whether they are."""
    return os.environ.get("TRITON_INTERPRET") == "1"
