"""Calls in worker processes, several at once: a kernel that crashes takes down its worker and not the caller."""

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, NamedTuple

_CONTEXT = multiprocessing.get_context("spawn")


class Outcome(NamedTuple):
    """The outcome of a call.

    Attributes:
        value: the value that the call returned, None if it failed.
        fault: one line that says why the call failed, empty if it succeeded.
        last: whether the process is unable to serve another call, because it died or the GPU no longer answers it.
    """

    value: Any = None
    fault: str = ""
    last: bool = False


class Process:
    """A worker process that makes one call after another. It starts at the first call, and again after it died."""

    def __init__(self, log: Path | None = None) -> None:
        """Create a process, which does not start yet.

        Args:
            log: file to which its output is appended. By default its output goes where the caller's goes.
        """
        self._log = log
        self._process: BaseProcess | None = None
        self._connection: Connection | None = None
        self._until = self._seconds = float("inf")
        self._busy = False

    def begin(self, function: Callable[..., Any], *arguments: Any, seconds: float = float("inf")) -> None:
        """Begin a call. The previous call must have ended.

        Args:
            function: function of a module, which the process imports by its name.
            arguments: arguments that can be pickled.
            seconds: time limit, after which the process is killed.
        """
        if self._connection is None:
            self._start()
        assert self._connection is not None
        self._seconds, self._until, self._busy = seconds, time.monotonic() + seconds, True
        with suppress(BrokenPipeError):  # `outcome` reports it
            self._connection.send((function, arguments))

    def _start(self) -> None:
        connection, child_connection = _CONTEXT.Pipe()
        process = _CONTEXT.Process(target=_serve, args=(child_connection, self._log), daemon=True)
        process.start()
        child_connection.close()
        self._connection, self._process = connection, process

    def outcome(self) -> Outcome | None:
        """Return the outcome of the call, or None while it runs."""
        assert self._connection is not None
        if self._connection.poll():
            try:
                outcome: Outcome = self._connection.recv()
                self._busy = False
            except (EOFError, ConnectionResetError):
                outcome = Outcome(fault=f"its process died{self._by_signal()}", last=True)
        elif time.monotonic() > self._until:
            outcome = Outcome(fault=f"it took longer than {self._seconds:.0f} s", last=True)
        else:
            return None
        if outcome.last:
            self.end()
        return outcome

    def _by_signal(self) -> str:
        assert self._process is not None
        self._process.join(5)
        code = self._process.exitcode or 0
        return f" by {signal.Signals(-code).name}" if code < 0 else ""

    def call(self, function: Callable[..., Any], *arguments: Any, seconds: float = float("inf")) -> Outcome:
        """Make a call and wait for its outcome; see `begin`."""
        self.begin(function, *arguments, seconds=seconds)
        while (outcome := self.outcome()) is None:
            wait_for([self])
        return outcome

    def end(self) -> None:
        """End the process and its children: immediately if it is busy, else after a few seconds at most."""
        end_all([self])

    def _hang_up(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = None

    def _kill(self, patience: float) -> None:
        if self._process is None:
            return
        self._process.join(0.0 if self._busy else patience)
        for kill in (os.killpg, os.kill):  # it may not lead a process group yet
            with suppress(ProcessLookupError, PermissionError):
                kill(self._process.pid or 0, signal.SIGKILL)
        self._process.join()
        self._process = None

    @property
    def connection(self) -> Connection:
        """The connection over which the process answers, for `wait_for`."""
        assert self._connection is not None
        return self._connection

    @property
    def remaining(self) -> float:
        """Seconds until the time limit of the call."""
        return max(0.0, self._until - time.monotonic())


def end_all(processes: Iterable[Process], patience: float = 3.0) -> None:
    """End processes. Busy ones are killed immediately, the others if they have not exited after `patience` seconds."""
    processes, until = list(processes), time.monotonic() + patience
    for process in processes:
        process._hang_up()
    for process in processes:
        process._kill(max(0.0, until - time.monotonic()))


def wait_for(processes: Iterable[Process], seconds: float = 1.0) -> None:
    """Wait until a call of one of the processes ends or exceeds its time limit, `seconds` at most."""
    waiting = list(processes)
    wait([process.connection for process in waiting], min([seconds, *(each.remaining + 0.01 for each in waiting)]))


def in_parallel(
    function: Callable[..., Any],
    arguments: Iterable[tuple[Any, ...]],
    processes: list[Process],
    seconds: float = float("inf"),
    until: float = float("inf"),
) -> Iterator[tuple[int, Outcome]]:
    """Call a function with many sets of arguments, as many at once as there are processes.

    Args:
        function: see `Process.begin`.
        arguments: arguments of each call.
        processes: idle processes.
        seconds: time limit of each call.
        until: time of `time.monotonic` after which no call begins and all running calls are ended.

    Yields:
        The index of a call in `arguments` and its outcome, in the order in which calls end. A call that did not begin
        is left out.
    """
    calls, idle = enumerate(arguments), list(processes)
    busy: dict[Process, int] = {}
    while True:
        while idle and (left := until - time.monotonic()) > 0 and (call := next(calls, None)) is not None:
            process = idle.pop()
            busy[process], call_arguments = call
            process.begin(function, *call_arguments, seconds=min(seconds, left))
        if not busy:
            return
        wait_for(busy)
        for process, index in list(busy.items()):
            if (outcome := process.outcome()) is not None:
                del busy[process]
                idle.append(process)
                yield index, outcome


def _serve(connection: Connection, log: Path | None) -> None:
    """Make the calls that arrive until the caller hangs up."""
    os.setpgid(0, 0)  # Ctrl-C interrupts the caller only
    threading.Thread(target=_end_with_caller, daemon=True).start()
    if log is not None:
        sys.stdout.flush()
        sys.stderr.flush()
        file = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.dup2(file, 1)
        os.dup2(file, 2)
    while True:
        try:
            function, arguments = connection.recv()
        except (EOFError, ConnectionResetError):
            return
        outcome = _outcome_of(function, arguments)
        with suppress(BrokenPipeError):
            connection.send(outcome)
        if outcome.last:
            os._exit(1)


def _end_with_caller() -> None:
    """Kill this process and its children when the caller dies, even in a call, whose files the next run writes."""
    caller = multiprocessing.parent_process()
    assert caller is not None
    caller.join()
    os.killpg(0, signal.SIGKILL)


def _outcome_of(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Outcome:
    try:
        return Outcome(function(*arguments))
    except Exception as error:
        message = next(filter(None, map(str.strip, str(error).splitlines())), "")
        return Outcome(fault=f"{type(error).__name__}: {message}"[:500], last=_gpu_is_lost())


def _gpu_is_lost() -> bool:
    """Return whether the GPU fails every request of this process, as it does after an illegal memory access."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return False
    try:
        torch.cuda.synchronize()
    except RuntimeError:
        return True
    return False
