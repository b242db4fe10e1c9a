"""Calls in processes of their own, several at once: a kernel at fault takes its process with it, not the caller."""

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, NamedTuple

_CONTEXT = multiprocessing.get_context("spawn")


class Outcome(NamedTuple):
    """What a call came to.

    Attributes:
        value: what it returned; None if it failed.
        fault: why it failed, in a line; empty if it did not.
        last: its process cannot serve another call, since the GPU no longer answers it.
    """

    value: Any = None
    fault: str = ""
    last: bool = False


class Process:
    """A process that makes one call after another. It is started when it is needed, and again after it died."""

    def __init__(self, log: Path | None = None) -> None:
        """Make a process.

        Args:
            log: where what it prints is appended; None for where the caller prints.
        """
        self._log = log
        self._process: BaseProcess | None = None
        self._connection: Connection | None = None
        self._until = self._seconds = float("inf")
        self._busy = False

    def begin(self, function: Callable[..., Any], *arguments: Any, seconds: float = float("inf")) -> None:
        """Begin a call; the one before must have ended.

        Args:
            function: of a module, by whose name the process imports it.
            arguments: what can be pickled.
            seconds: after which the process is ended.
        """
        if self._connection is None:
            self._start()
        assert self._connection is not None
        self._seconds, self._until, self._busy = seconds, time.monotonic() + seconds, True
        with suppress(BrokenPipeError):  # `outcome` will tell
            self._connection.send((function, arguments))

    def _start(self) -> None:
        self._connection, theirs = _CONTEXT.Pipe()
        self._process = _CONTEXT.Process(target=_serve, args=(theirs, self._log), daemon=True)
        self._process.start()
        theirs.close()

    def outcome(self) -> Outcome | None:
        """What the call came to, or None while it runs."""
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
        """Make a call and wait for it; see `begin`."""
        self.begin(function, *arguments, seconds=seconds)
        while (outcome := self.outcome()) is None:
            wait_for([self])
        return outcome

    def end(self) -> None:
        """End the process and what it started; at once, unless it has nothing to do."""
        end_all([self])

    def _hang_up(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = None

    def _kill(self, patience: float) -> None:
        if self._process is None:
            return
        self._process.join(0.0 if self._busy else patience)
        for kill in (os.killpg, os.kill):  # it may not lead a group yet
            with suppress(ProcessLookupError, PermissionError):
                kill(self._process.pid or 0, signal.SIGKILL)
        self._process.join()
        self._process = None

    @property
    def connection(self) -> Connection:
        """Where it answers, for `wait_for`."""
        assert self._connection is not None
        return self._connection

    @property
    def remaining(self) -> float:
        """Seconds until the call takes too long."""
        return max(0.0, self._until - time.monotonic())


def end_all(processes: Iterable[Process], patience: float = 3.0) -> None:
    """End processes: those that are busy at once, the others in `patience` seconds if they do not by themselves."""
    ending, until = list(processes), time.monotonic() + patience
    for process in ending:
        process._hang_up()
    for process in ending:
        process._kill(max(0.0, until - time.monotonic()))


def wait_for(processes: Iterable[Process], seconds: float = 1.0) -> None:
    """Wait until a call of one of the processes has ended or takes too long, `seconds` at most."""
    waiting = list(processes)
    wait([process.connection for process in waiting], min([seconds, *(each.remaining + 0.01 for each in waiting)]))


def in_parallel(
    function: Callable[..., Any],
    arguments: Iterable[tuple[Any, ...]],
    processes: list[Process],
    seconds: float = float("inf"),
    until: float = float("inf"),
) -> Iterator[tuple[int, Outcome]]:
    """Make many calls of a function, as many at once as there are processes.

    Args:
        function: as `Process.begin` takes it.
        arguments: of each call.
        processes: that are idle.
        seconds: that each call may take.
        until: a time of `time.monotonic`, when all calls are ended and no other is begun.

    Yields:
        The number of a call in `arguments`, from 0, and what it came to, in the order in which they end; none of a call
        that was not begun.
    """
    calls, idle = enumerate(arguments), list(processes)
    busy: dict[Process, int] = {}
    while True:
        while idle and (left := until - time.monotonic()) > 0 and (following := next(calls, None)) is not None:
            process = idle.pop()
            busy[process], its = following
            process.begin(function, *its, seconds=min(seconds, left))
        if not busy:
            return
        wait_for(busy)
        for process, number in list(busy.items()):
            if (outcome := process.outcome()) is not None:
                del busy[process]
                idle.append(process)
                yield number, outcome


def _serve(connection: Connection, log: Path | None) -> None:
    """Make the calls that come, until the other side is gone."""
    os.setpgid(0, 0)  # Ctrl-C is for the caller
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


def _outcome_of(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Outcome:
    try:
        return Outcome(function(*arguments))
    except Exception as error:
        said = next(filter(None, map(str.strip, str(error).splitlines())), "")
        return Outcome(fault=f"{type(error).__name__}: {said}"[:500], last=_gpu_is_lost())


def _gpu_is_lost() -> bool:
    """Whether the GPU refuses all that this process asks for, as after an access to memory that is not there."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return False
    try:
        torch.cuda.synchronize()
    except RuntimeError:
        return True
    return False
