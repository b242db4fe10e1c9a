"""Run the jobs: checks in several processes at once; timed jobs in one process per engine, one at a time."""

import os
import time
from collections.abc import Iterator
from itertools import takewhile

from benchmarks.read.gpu.results import FAILED, OK, SKIPPED, WRONG, Results
from benchmarks.read.gpu.stages import STAGES, Job, perform, prepare
from stm_fast.processes import Outcome, Process, end_all, in_parallel, wait_for

MAX_PROCESSES = 12
MIN_SECONDS = 4.0
"""A job does not start if less time than this is left."""
NO_TIME = "no time left"


class Run:
    """A run of jobs for a limited time."""

    def __init__(self, results: Results, engines: list[str], seconds: float) -> None:
        """Start to prepare the engines.

        Args:
            results: where results go.
            engines: engines that the jobs need.
            seconds: time from now until everything ends.
        """
        self._results = results
        self._begin = time.monotonic()
        self._until = self._begin + seconds
        self._alone = {engine: Process(results.log) for engine in ("", *engines)}
        self._together = [Process(results.log) for _ in range(max(2, min(MAX_PROCESSES, (os.cpu_count() or 2) - 2)))]
        self._refusals: dict[str, str | None] = {"": None}
        """Why each prepared engine is absent, or None."""
        for engine in engines:
            self._alone[engine].begin(prepare, engine, seconds=seconds)

    def do(self, jobs: list[Job]) -> None:
        """Do jobs in their order; those of an engine that is not ready wait."""
        pending = list(jobs)
        while pending:
            self._collect_preparations()
            if self._left() < MIN_SECONDS:
                self._skip(pending, NO_TIME)
                return
            ready = [job for job in pending if job.engine in self._refusals]
            if not ready:
                wait_for(self._alone[engine] for engine in self._alone if engine not in self._refusals)
                continue
            done = self._do_next(ready)
            pending = [job for job in pending if job not in done]

    def end(self) -> None:
        """End all processes."""
        end_all([*self._alone.values(), *self._together])

    def _left(self) -> float:
        return self._until - time.monotonic()

    def _collect_preparations(self) -> None:
        for engine, process in self._alone.items():
            if engine in self._refusals or (outcome := process.outcome()) is None:
                continue
            self._refusals[engine] = outcome.fault or outcome.value["reason"]
            self._keep(Job("prepare", engine, engine), outcome, time.monotonic() - self._begin)

    def _do_next(self, ready: list[Job]) -> set[Job]:
        """Do the first job, or all like it that can run together; return the jobs that started."""
        first = ready[0]
        stage = STAGES[first.stage]
        refusal = self._refusals[first.engine]
        if refusal:
            self._skip([first], refusal)
        elif stage.together:
            alike = list(takewhile(lambda job: job.stage == first.stage, ready))
            return self._do_together([job for job in alike if not self._refusals[job.engine]], stage.seconds)
        else:
            begin = time.monotonic()
            seconds = min(stage.seconds, self._left())
            self._keep(first, self._alone[first.engine].call(perform, first, seconds=seconds), time.monotonic() - begin)
        return {first}

    def _do_together(self, jobs: list[Job], seconds: float) -> set[Job]:
        begun: dict[int, float] = {}

        def arguments() -> Iterator[tuple[Job]]:
            for number, job in enumerate(jobs):
                begun[number] = time.monotonic()
                yield (job,)

        for number, outcome in in_parallel(perform, arguments(), self._together, seconds, self._until):
            self._keep(jobs[number], outcome, time.monotonic() - begun[number])
        return {jobs[number] for number in begun}

    def _keep(self, job: Job, outcome: Outcome, took: float) -> None:
        names = {"stage": job.stage, "engine": job.engine, "case": str(job.task), "took": took}
        if outcome.fault:
            self._results.add(**names, status=FAILED, fault=outcome.fault)
            return
        found = dict(outcome.value)
        status = WRONG if found.pop("wrong", False) else OK
        if found.get("reason"):
            self._results.add(**names, status=FAILED, fault=found["reason"])
        else:
            self._results.add(**names, status=status, **found)

    def _skip(self, jobs: list[Job], reason: str) -> None:
        for job in jobs:
            self._results.add(job.stage, job.engine, str(job.task), SKIPPED, fault=reason)
