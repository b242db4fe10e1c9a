"""What every command says and how: results on stdout, everything else on stderr, and a sentence for each failure.

Exit codes: 0 done; 1 an error in options, weights or installation; 2 an input or a command line that cannot be used;
3 the system refused (disk full, no permission); 130 interrupted.
"""

import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import ParamSpec, TextIO, TypeVar

import typer
from rich.console import Console

from stm_fast.errors import ArgumentError, StmFastError
from stm_fast.media.notices import MediaNotice
from stm_fast.tracking.claims import release

DEBUG_VARIABLE = "STM_FAST_DEBUG"
OPTION_ERROR, SYSTEM_ERROR, INTERRUPTED = 1, 3, 130

stdout = Console(highlight=False)
stderr = Console(stderr=True, highlight=False)

P = ParamSpec("P")
R = TypeVar("R")


class Interrupted(StmFastError):
    """The user stopped a command; the message says what is there and how to go on."""

    exit_code = INTERRUPTED


def with_sentences(command: Callable[P, R]) -> Callable[P, R]:
    """Make a command tell failures and notices in sentences, and leave with an exit code instead of a traceback.

    With the environment variable `STM_FAST_DEBUG` set (`stm-fast --debug`) exceptions pass.
    """

    @wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        with _notices_as_sentences():
            try:
                return command(*args, **kwargs)
            except (Exception, KeyboardInterrupt) as error:
                told = _sentence(error)
                if told is None or os.environ.get(DEBUG_VARIABLE):
                    raise
                sentence, code = told
                stderr.print(f"Error: {sentence}" if code != INTERRUPTED else sentence, markup=False, soft_wrap=True)
                raise typer.Exit(code) from error
            finally:
                release()

    return run


def say(message: str) -> None:
    """Tell something that is not a result."""
    stderr.print(message, markup=False, soft_wrap=True)


def _sentence(error: BaseException) -> tuple[str, int] | None:
    """What to tell the user and the exit code; None for an exception that is a bug."""
    if isinstance(error, KeyboardInterrupt):
        return "Interrupted.", INTERRUPTED
    if isinstance(error, ArgumentError):
        return f"--{error.argument.replace('_', '-')} {error.problem}", error.exit_code
    if isinstance(error, StmFastError):
        return str(error), error.exit_code
    if isinstance(error, OSError):
        place = f": {error.filename}" if error.filename else ""
        return f"{error.strerror or error}{place}; files written before are whole", SYSTEM_ERROR
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError" or "can't allocate" in str(error):
        remedies = "--memory long-term, --memory-limit or --offload disk, also with --resume, or a smaller --size"
        return f"out of memory; {remedies} needs less", SYSTEM_ERROR
    if isinstance(error, ValueError | TypeError):
        return str(error), OPTION_ERROR
    return None


@contextmanager
def _notices_as_sentences() -> Iterator[None]:
    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if issubclass(category, MediaNotice):
            stderr.print(f"Note: {message}", markup=False, soft_wrap=True)
        else:
            show_warning(message, category, filename, lineno, file, line)

    show_warning = warnings.showwarning
    with warnings.catch_warnings():
        warnings.showwarning = show
        yield
