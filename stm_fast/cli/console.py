"""How commands print: results on stdout, everything else on stderr, and a sentence for each error.

Exit codes: 0 success; 1 an error in options, weights or installation; 2 an input or command line that cannot be used;
3 the system refused (disk full, no permission, out of memory); 130 interrupted.
"""

import inspect
import logging
import os
import sys
from collections.abc import Callable
from functools import wraps
from typing import Annotated, Any, ParamSpec, TypeVar

import typer
from rich.console import Console
from typer.core import TyperGroup

from stm_fast.cli import logs
from stm_fast.cli.signatures import Parameter, with_parameters
from stm_fast.errors import ArgumentError, StmFastError
from stm_fast.tracking.claims import release

DEBUG_VARIABLE = "STM_FAST_DEBUG"
OPTION_ERROR, SYSTEM_ERROR, INTERRUPTED = 1, 3, 130
JSON_FLAG = "--log-json"
MESSAGE_PANEL = "Messages"

stdout = Console(highlight=False, emoji=False)
_logger = logging.getLogger(__name__)

P = ParamSpec("P")
R = TypeVar("R")


class Interrupted(StmFastError):
    """The user stopped a command; the message says what is done and how to resume."""

    exit_code = INTERRUPTED


class Commands(TyperGroup):
    """A group of commands that reports a command line it cannot parse as JSON, if it has `--log-json`."""

    def main(self, *args: Any, **extra: Any) -> Any:
        """Run a command line; see `click.Command.main`."""
        given = args[0] if args else extra.get("args")
        if JSON_FLAG not in (sys.argv[1:] if given is None else given) or not extra.get("standalone_mode", True):
            return super().main(*args, **extra)
        try:
            code = super().main(*args, **extra | {"standalone_mode": False})
        except Exception as error:
            message: Callable[[], str] | None = getattr(error, "format_message", None)
            if message is None:
                raise
            code = getattr(error, "exit_code", 2)
            logs.json_error(message(), code)
        sys.exit(code if isinstance(code, int) else 0)


def with_sentences(command: Callable[P, R]) -> Callable[P, R]:
    """Make a command print notices and errors as sentences, and exit with a code instead of a traceback.

    Errors are those of `stm_fast.errors`, of the system and of memory that ran out; any other exception is a bug and
    passes. The command also takes the options `--quiet`, `--verbose` and `--log-json`, see `stm_fast.cli.logs`. If the
    environment variable `STM_FAST_DEBUG` is set (`stm-fast --debug`), all exceptions pass.
    """

    @wraps(command)
    def run(*args: Any, context: typer.Context | None = None, **kwargs: Any) -> R:
        loudness = _asked(context, kwargs)
        with logs.listening(loudness):
            try:
                if loudness.quiet and loudness.verbose:
                    raise ArgumentError("quiet", "and --verbose exclude each other")
                return command(*args, **kwargs)
            except (Exception, KeyboardInterrupt) as error:
                found = _sentence(error)
                debugging = bool(os.environ.get(DEBUG_VARIABLE))
                if found is None or debugging:
                    _logger.critical("%r", error, exc_info=error, extra={"event": logs.CRASH})
                    if debugging or not loudness.log_json:
                        raise
                    raise typer.Exit(OPTION_ERROR) from error
                sentence, code = found
                event = logs.INTERRUPTION if code == INTERRUPTED else logs.ERROR
                _logger.error("%s", sentence, extra={"event": event, "fields": {"exit_code": code}})
                raise typer.Exit(code) from error
            finally:
                release()

    return _with_shared_options(run, command)


def takes_loudness(callback: Callable[..., None]) -> Callable[..., None]:
    """Accept the options that all commands share before a command's name as well; decorates a group's callback."""

    @wraps(callback)
    def run(*args: Any, context: typer.Context, **kwargs: Any) -> None:
        context.meta[__name__] = _asked(context, kwargs)
        callback(*args, **kwargs)

    return _with_shared_options(run, callback)


def say(message: str) -> None:
    """Print a message that is not a result."""
    _logger.info("%s", message)


_SHARED = {
    "quiet": typer.Option("--quiet", "-q", help="Print only results and errors.", rich_help_panel=MESSAGE_PANEL),
    "verbose": typer.Option("--verbose", "-v", help="Print details too.", rich_help_panel=MESSAGE_PANEL),
    "log_json": typer.Option(
        JSON_FLAG, help="Print messages and progress as JSON, one object per line.", rich_help_panel=MESSAGE_PANEL
    ),
}


def _with_shared_options(run: Callable[..., R], command: Callable[..., Any]) -> Callable[..., R]:
    """Give typer a signature of the command's own parameters, the shared options and the context."""
    # Typer's help keeps single newlines, and a narrower terminal would break the lines once more.
    paragraphs = inspect.cleandoc(command.__doc__ or "").split("\n\n")
    run.__doc__ = "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs) or None
    shared = {name: Parameter(Annotated[bool, option], default=False) for name, option in _SHARED.items()}
    return with_parameters(run, command, {**shared, "context": Parameter(typer.Context)})


def _asked(context: typer.Context | None, options: dict[str, Any]) -> logs.Loudness:
    """Take the shared options out of a command's; those before its name count too."""
    own = logs.Loudness(**{name: options.pop(name, False) for name in _SHARED})
    before: logs.Loudness = logs.Loudness() if context is None else context.meta.get(__name__, logs.Loudness())
    return own | before


def _sentence(error: BaseException) -> tuple[str, int] | None:
    """Return the message and the exit code of an error; None for an exception that is a bug."""
    if isinstance(error, KeyboardInterrupt):
        return "Interrupted.", INTERRUPTED
    if isinstance(error, ArgumentError):
        return f"--{error.argument.replace('_', '-')} {error.problem}", error.exit_code
    if isinstance(error, StmFastError):
        return str(error), error.exit_code
    if isinstance(error, OSError):
        place = f": {error.filename}" if error.filename else ""
        return f"{error.strerror or error}{place}; files written before are complete", SYSTEM_ERROR
    if _ran_out_of_memory(error):
        remedies = "--memory long-term, --memory-limit, --offload disk (all also with --resume) or a smaller --size"
        return f"out of memory: try {remedies}", SYSTEM_ERROR
    return None


def _ran_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError) or "torch" not in sys.modules:
        return isinstance(error, MemoryError)
    from stm_fast.ops.failures import is_out_of_memory

    return is_out_of_memory(error)
