"""Work that takes long, in a thread: one job at a time, which can be stopped."""

import logging
import time
from collections.abc import Callable
from threading import Lock, Thread
from typing import Any

from stm_fast.app.refusal import Refusal
from stm_fast.errors import StmFastError, first_line
from stm_fast.media.notices import heard_by
from stm_fast.progress import Pace

_logger = logging.getLogger(__name__)
_EVERY = 0.5
"""Seconds between two events about the progress of a job."""


class Job:
    """A job, as tabs see it.

    Attributes:
        kind: "follow" or "export".
        number: of this job among those of the server, from 1.
        state: "running", "stopping", "done", "failed" or "stopped".
        frame: number of the last frame with a new mask; None before the first.
        error: why it failed, as a sentence.
    """

    def __init__(self, kind: str, number: int, changed: Callable[["Job"], None]) -> None:
        self.kind = kind
        self.number = number
        self.state = "running"
        self.frame: int | None = None
        self.error: str | None = None
        self.pace = Pace(kind, None, "frames")
        self._changed = changed
        self._told = 0.0

    @property
    def is_stopping(self) -> bool:
        """Whether it is to stop."""
        return self.state == "stopping"

    def advance(self, frame: int | None = None) -> None:
        """Count a frame."""
        self.pace.advance()
        if self.pace.total is not None:  # a corrected frame is done again although it has a mask
            self.pace.total = max(self.pace.total, self.pace.done)
        self.frame = self.frame if frame is None else frame
        if time.monotonic() - self._told > _EVERY:
            self.tell()

    def tell(self) -> None:
        """Tell all tabs how far it is."""
        self._told = time.monotonic()
        self._changed(self)

    def described(self) -> dict[str, Any]:
        """Return what tabs see, in types of JSON."""
        return {
            "kind": self.kind,
            "number": self.number,
            "state": self.state,
            "done": self.pace.done,
            "total": self.pace.total,
            "per_second": round(self.pace.rate or 0.0, 3),
            "error": self.error,
            "frame": self.frame,
        }


class Jobs:
    """Runs jobs, one at a time.

    Args:
        changed: called with a job when there is something new about it.
        noticed: called with the notices that a job gives.
    """

    def __init__(self, changed: Callable[[Job], None], noticed: Callable[[str], None]) -> None:
        self.last: Job | None = None
        self._changed, self._noticed = changed, noticed
        self._lock = Lock()
        self._thread: Thread | None = None

    @property
    def running(self) -> Job | None:
        """The job that runs now; None if there is none."""
        return self.last if self._thread is not None and self._thread.is_alive() else None

    def begin(self, kind: str, work: Callable[[Job], None]) -> Job:
        """Begin a job.

        Args:
            kind: of the job.
            work: does it; counts frames by `Job.advance`, and raises `KeyboardInterrupt` if `Job.is_stopping`.

        Raises:
            Refusal: another job is running.
        """
        with self._lock:
            if (busy := self.running) is not None:
                raise Refusal(409, f"another job is running ({busy.kind}): wait for it, or stop it")
            number = 1 if self.last is None else self.last.number + 1
            self.last = job = Job(kind, number, self._changed)
            self._thread = Thread(target=self._run, args=(job, work), name=kind, daemon=True)
            self._thread.start()
        job.tell()
        return job

    def stop(self, *, wait: bool = False) -> None:
        """Tell the job that runs to stop, and wait until it has, if wanted."""
        with self._lock:
            job, thread = self.running, self._thread
            if job is not None and job.state == "running":
                job.state = "stopping"
                job.tell()
        if wait and thread is not None:
            thread.join()

    def _run(self, job: Job, work: Callable[[Job], None]) -> None:
        try:
            with heard_by(self._noticed):
                work(job)
            state = "done"
        except KeyboardInterrupt:
            state = "stopped"
        except Exception as error:
            state = "failed"
            job.error = sentence(error)
        with self._lock:
            job.state = state
            job.tell()
            self._thread = None


def sentence(error: Exception) -> str:
    """Return what an error says to the user; one that is a bug is logged."""
    if isinstance(error, StmFastError):
        return str(error)
    if isinstance(error, OSError):
        return f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}"
    _logger.error("%r", error, exc_info=error)
    return f"{type(error).__name__}: {first_line(error)}"
