"""Progress of long work: how much is done, how fast, and how long the rest takes.

A terminal shows a bar. Elsewhere a line is logged from time to time, or printed on stderr if the log has no handler.
"""

import logging
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from threading import Event, Thread

from rich.console import Console

EVERY_SECONDS = 10.0
"""Seconds between two lines, where no terminal shows a bar, and in the log file."""
_RATE_SECONDS, _RATE_UNITS = 30.0, 5
"""The rate is measured over these last seconds, or over these last units if they take longer."""

PROGRESS = "progress"
"""The `event` of records of progress."""

stderr = Console(stderr=True, highlight=False, emoji=False)
"""While a bar is shown, what is printed on it appears above the bar."""
bars_wanted = True
"""Whether terminals show bars; `--quiet` and `--log-json` unset it."""

_logger = logging.getLogger(__name__)


def shows_bar() -> bool:
    """Return whether progress is shown as a bar."""
    return bars_wanted and sys.stderr.isatty() and not stderr.is_dumb_terminal


@contextmanager
def progress_bar(
    description: str, total: int | None, unit: str = "frames", *, done: int = 0
) -> Iterator[Callable[..., None]]:
    """Show progress with a rate and the remaining time: a bar in a terminal, else a line every ten seconds.

    The lines are also logged while a bar is shown. The last one, when the block ends, says how long the work took.

    Args:
        description: what is under way.
        total: number of units; None if unknown.
        unit: what is counted, in the plural.
        done: units done before.

    Yields:
        A function to call after each unit, with an optional note to show.
    """
    pace = Pace(description, total, unit, done)
    with ExitStack() as stack:
        show = stack.enter_context(_bar(pace)) if shows_bar() else None
        stack.enter_context(_lines(pace))

        def advance(note: str = "") -> None:
            pace.advance(note)
            if show:
                show()

        yield advance


class Pace:
    """Counts units of work, and estimates from the recent ones how long the rest takes.

    Args:
        description: what is under way.
        total: number of units; None if unknown.
        unit: what is counted.
        done: units done before.
        clock: returns the time in seconds.
    """

    def __init__(
        self,
        description: str,
        total: int | None,
        unit: str,
        done: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.description, self.total, self.unit, self.done = description, total, unit, done
        self.note = ""
        self._clock = clock
        self._begun = done
        self._marks = deque([(clock(), done)])
        self._start = self._marks[0][0]

    def advance(self, note: str = "") -> None:
        """Count a unit."""
        self.done, self.note = self.done + 1, note
        now = self._clock()
        self._marks.append((now, self.done))
        while len(self._marks) > _RATE_UNITS + 1 and now - self._marks[0][0] > _RATE_SECONDS:
            self._marks.popleft()

    @property
    def started(self) -> bool:
        """Whether a unit was counted."""
        return self.done > self._begun

    @property
    def seconds(self) -> float:
        """Seconds since the beginning."""
        return self._clock() - self._start

    @property
    def rate(self) -> float | None:
        """Recent units per second; None before the first. It falls while a unit takes longer than those before."""
        (first, before), (last, after) = self._marks[0], self._marks[-1]
        if last <= first:
            return None
        return min((after - before) / (last - first), (after - before + 1) / (self._clock() - first))

    @property
    def remaining(self) -> float | None:
        """Seconds that the rest takes at this rate; None if unknown."""
        rate = self.rate
        return None if rate is None or self.total is None else max(0, self.total - self.done) / rate

    def line(self, *, ended: bool = False) -> str:
        """Return progress as a sentence; if the work has ended, with the rate over all of it."""
        counted = f"{self.done} of {self.total}" if self.total is not None else f"{self.done}"
        parts = [f"{self.description}: {counted} {self.unit}"]
        rate = (self.done - self._begun) / self.seconds if ended and self.seconds else self.rate
        if rate is not None:
            parts.append(f"{_number(rate)} {self.unit}/s")
        if ended:
            parts.append(f"took {_duration(self.seconds)}")
        elif self.remaining is not None:
            parts.append(f"{_duration(self.remaining)} left")
        return ", ".join(parts + [self.note] * bool(self.note))

    def log(self, *, ended: bool = False) -> None:
        """Log the progress; print it if the log has no handler and no bar is shown."""
        if not _logger.hasHandlers():
            if not shows_bar():
                print(self.line(ended=ended), file=sys.stderr, flush=True)
            return
        fields = {
            "task": self.description,
            "done": self.done,
            "total": self.total,
            "unit": self.unit,
            "rate": _rounded(self.rate),
            "remaining": _rounded(self.remaining),
            "seconds": _rounded(self.seconds),
            "note": self.note,
        }
        _logger.info("%s", self.line(ended=ended), extra={"event": PROGRESS, "fields": fields})


@contextmanager
def _lines(pace: Pace) -> Iterator[None]:
    """Log progress from time to time in a thread, so that lines appear while a unit takes long."""
    ended = Event()

    def log() -> None:
        while not ended.wait(EVERY_SECONDS):
            pace.log()

    thread = Thread(target=log, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        if pace.started:
            pace.log(ended=True)


@contextmanager
def _bar(pace: Pace) -> Iterator[Callable[[], None]]:
    """Show a bar in the terminal; yield a function that updates it."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TextColumn("{task.fields[note]}", markup=False),
        TimeElapsedColumn(),
        TextColumn("{task.fields[left]}"),
    )
    with Progress(*columns, console=stderr) as progress:
        task = progress.add_task(pace.description, total=pace.total, completed=pace.done, rate="", note="", left="")

        def show() -> None:
            rate = "" if pace.rate is None else f"{_number(pace.rate)} {pace.unit}/s"
            left = f"{_duration(pace.remaining)} left" if pace.remaining else ""
            progress.update(task, completed=pace.done, rate=rate, note=pace.note, left=left)

        yield show


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 1 else f"{value:.2g}"


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


def _duration(seconds: float) -> str:
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
