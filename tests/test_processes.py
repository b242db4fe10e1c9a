"""Calls in other processes: results, failures, deaths, time limits."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from stm_fast.processes import Outcome, Process, in_parallel
from tests.checkout import ROOT


@pytest.fixture
def process() -> Iterator[Process]:
    process = Process()
    yield process
    process.end()


def identify(number: int = 0) -> tuple[int, int]:
    return number, os.getpid()


def fail() -> None:
    raise ValueError("\n it cannot be done\nmore")


def die() -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def test_calls_are_made_in_one_other_process(process: Process) -> None:
    answers = [process.call(identify, number).value for number in range(2)]
    assert [number for number, _ in answers] == [0, 1]
    assert len({pid for _, pid in answers} - {os.getpid()}) == 1


def test_a_failure_is_a_line_and_the_process_goes_on(process: Process) -> None:
    before = process.call(identify).value
    assert process.call(fail) == Outcome(fault="ValueError: it cannot be done")
    assert process.call(identify).value == before


def test_after_a_death_there_is_another_process(process: Process) -> None:
    before = process.call(identify).value
    assert "SIGSEGV" in process.call(die).fault
    assert process.call(identify).value != before


CALLER = """
import sys, time
from stm_fast.processes import Process
if __name__ == "__main__":
    process = Process()
    print(process.call(time.sleep, 0), process._process.pid, flush=True)
    process.begin(time.sleep, 600)
    time.sleep(600)
"""


def runs(process: int) -> bool:
    """Return whether a process runs; one that nobody has waited for does not."""
    shown = subprocess.run(["ps", "-o", "stat=", "-p", str(process)], capture_output=True, text=True)
    return shown.stdout.strip()[:1] not in ("", "Z")


def test_a_call_ends_when_its_caller_is_killed(tmp_path: Path) -> None:
    (tmp_path / "caller.py").write_text(CALLER)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, tmp_path / "caller.py"], stdout=subprocess.PIPE, text=True, env=environment
    ) as caller:
        assert caller.stdout is not None
        process = int(caller.stdout.readline().split()[-1])
        caller.kill()
    until = time.monotonic() + 30
    while runs(process) and time.monotonic() < until:
        time.sleep(0.05)
    assert not runs(process)


def test_a_process_that_cannot_start_is_told_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: object) -> None:
        raise BlockingIOError("Resource temporarily unavailable")

    process = Process()
    monkeypatch.setattr("multiprocessing.context.SpawnProcess.start", refuse)
    with pytest.raises(BlockingIOError):
        process.begin(identify)
    process.end()


def test_what_takes_too_long_is_ended(process: Process) -> None:
    process.call(identify)
    begin = time.monotonic()
    assert "longer than 0 s" in process.call(time.sleep, 60, seconds=0.2).fault
    assert time.monotonic() - begin < 30
    assert process.call(identify).fault == ""


def test_calls_in_parallel_are_all_made_once_until_the_time_is_over() -> None:
    processes = [Process(), Process()]
    found = dict(in_parallel(identify, [(number,) for number in range(5)], processes, 60.0))
    begin = time.monotonic()
    late = list(in_parallel(time.sleep, [(60,), (60,), (60,)], processes, until=begin + 0.2))
    for process in processes:
        process.end()
    assert sorted(number for number, outcome in late if "longer" in outcome.fault) == [0, 1]
    assert time.monotonic() - begin < 30
    assert {number: outcome.value[0] for number, outcome in found.items()} == {number: number for number in range(5)}


def test_what_is_printed_goes_to_the_log(tmp_path: Path) -> None:
    process = Process(tmp_path / "log")
    process.call(os.system, "echo said; echo complained >&2")
    process.end()
    assert (tmp_path / "log").read_text().split() == ["said", "complained"]
