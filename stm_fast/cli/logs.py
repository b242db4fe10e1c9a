"""Where messages go: sentences or JSON lines on stderr, and a log file beside the results.

Library code logs to `logging.getLogger(__name__)`, and gives notices of an input as warnings
(`stm_fast.media.notices`). A command handles both while it runs. A record may name its `event` and have `fields`.
"""

import json
import logging
import sys
import time
import warnings
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TextIO

import stm_fast
from stm_fast import progress
from stm_fast.media.notices import MediaNotice

LOG_NAME = "log.txt"
ERROR, INTERRUPTION, NOTICE, WARNING = "error", "interrupted", "notice", "warning"
CRASH = "crash"
"""An exception that is a bug, with its traceback."""

_PREFIXES = {ERROR: "Error: ", NOTICE: "Note: ", WARNING: "Warning: "}
_WAITING = 1000
"""Maximum number of records kept until the log file is open."""

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Loudness:
    """What a command prints apart from results: the options that all commands share.

    Attributes:
        quiet: only errors.
        verbose: also details.
        log_json: JSON lines instead of sentences.
    """

    quiet: bool = False
    verbose: bool = False
    log_json: bool = False

    def __or__(self, other: "Loudness") -> "Loudness":
        return Loudness(self.quiet or other.quiet, self.verbose or other.verbose, self.log_json or other.log_json)


@contextmanager
def listening(loudness: Loudness) -> Iterator[None]:
    """Print the package's log records and warnings, and keep them for the log file, until the block ends."""
    global _log_file
    package = logging.getLogger(stm_fast.__name__)
    before = (_log_file, progress.bars_wanted, package.level, package.propagate)
    printed: logging.Handler = _JsonLines() if loudness.log_json else _Sentences()
    printed.setLevel(logging.ERROR if loudness.quiet else logging.DEBUG)
    _log_file = _LogFile()
    progress.bars_wanted = not (loudness.quiet or loudness.log_json)
    handlers = (printed, _log_file)
    package.setLevel(logging.DEBUG if loudness.verbose else logging.INFO)
    package.propagate = False
    for handler in handlers:
        package.addHandler(handler)
    try:
        with _warnings_logged():
            yield
    finally:
        for handler in handlers:
            package.removeHandler(handler)
            handler.close()
        _log_file, progress.bars_wanted, level, package.propagate = before
        package.setLevel(level)


def log_to(folder: Path, *, append: bool = False) -> None:
    """Write the command's messages to `folder/log.txt`: those so far, and those that follow.

    Call it after the folder was claimed (`stm_fast.tracking.claims.claim`). The file holds the lines that stderr would
    if it were not a terminal, each with its time, and also errors and progress under `--quiet`. Outside a command
    nothing is written.

    Args:
        folder: of the results; made if it is missing.
        append: keep the lines of an earlier run, as with `--resume`.

    Raises:
        OSError: the file cannot be written.
    """
    if _log_file is not None:
        _log_file.open(folder, append=append)


def json_error(message: str, exit_code: int) -> None:
    """Print an error as a JSON line before a command runs, as for a command line that cannot be parsed."""
    extra = {"event": ERROR, "fields": {"exit_code": exit_code}}
    _JsonLines().handle(_logger.makeRecord(_logger.name, logging.ERROR, "", 0, message, (), None, None, extra))


def _event(record: logging.LogRecord) -> str:
    """Return the record's own `event`, or its level; "message" for information."""
    named: str | None = getattr(record, "event", None)
    level = {logging.WARNING: WARNING, logging.ERROR: ERROR, logging.INFO: "message"}
    return named or level.get(record.levelno, record.levelname.lower())


def _sentence(record: logging.LogRecord) -> str:
    return _PREFIXES.get(_event(record), "") + record.getMessage()


class _Sentences(logging.Handler):
    """Prints records above the progress bar, if there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        event = _event(record)
        if event == CRASH or (event == progress.PROGRESS and progress.shows_bar()):
            return
        progress.stderr.print(_sentence(record), markup=False, soft_wrap=True)


class _JsonLines(logging.Handler):
    """Prints records as JSON, one per line."""

    def emit(self, record: logging.LogRecord) -> None:
        line = {
            "time": datetime.fromtimestamp(record.created).astimezone().isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": _event(record),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["traceback"] = logging.Formatter().formatException(record.exc_info)
        sys.stderr.write(json.dumps(line, default=str) + "\n")
        sys.stderr.flush()


class _LogFile(logging.Handler):
    """Writes records to a file, including those from before it was opened."""

    def __init__(self) -> None:
        super().__init__()
        self._waiting: deque[logging.LogRecord] = deque(maxlen=_WAITING)
        self._file: TextIO | None = None
        self._path = Path()
        self._failed = False

    def open(self, folder: Path, *, append: bool) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / LOG_NAME
        file = self._path.open("a" if append else "w", encoding="utf-8", errors="backslashreplace")
        self.acquire()
        try:
            self._file = file
            self._write(f"{_time(time.time())} stm-fast {stm_fast.__version__}")
            while self._waiting:
                self.emit(self._waiting.popleft())
        finally:
            self.release()

    def emit(self, record: logging.LogRecord) -> None:
        if self._failed:
            return
        if self._file is None:
            self._waiting.append(record)
            return
        text = _sentence(record)
        if record.exc_info:
            text += "\n" + logging.Formatter().formatException(record.exc_info)
        self._write(f"{_time(record.created)} {text}")

    def _write(self, line: str) -> None:
        """Write a line at once; if that fails, the run continues without its log."""
        assert self._file is not None
        try:
            self._file.write(line + "\n")
            self._file.flush()
        except OSError as error:
            self._failed = True
            _logger.warning("%s cannot be written: %s. The run continues without it.", self._path, error.strerror)

    def close(self) -> None:
        if self._file is not None:
            try:
                self._file.close()
            except OSError as error:
                _logger.debug("%s cannot be closed: %s", self._path, error.strerror)
            self._file = None
        super().close()


_log_file: _LogFile | None = None


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).isoformat(" ", "seconds")


@contextmanager
def _warnings_logged() -> Iterator[None]:
    def log(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if issubclass(category, MediaNotice):
            extra: dict[str, object] = {"event": NOTICE}
        else:
            extra = {"event": WARNING, "fields": {"category": category.__name__, "file": filename, "line": lineno}}
        _logger.warning("%s", message, extra=extra)

    with warnings.catch_warnings():
        warnings.showwarning = log
        yield
