"""Exceptions that stm-fast raises besides `TypeError` and `ValueError`.

Every message is one sentence that names the argument, what was seen and what is allowed. The command line prints the
message and exits with the exception's `exit_code`.
"""


class StmFastError(Exception):
    """Base of all errors below."""

    exit_code = 1


class ArgumentError(StmFastError, ValueError):
    """An argument is out of range.

    Attributes:
        argument: its name; on the command line it is an option, with hyphens.
        problem: the rest of the sentence: what is allowed, and what was seen.
    """

    def __init__(self, argument: str, problem: str) -> None:
        super().__init__(f"{argument} {problem}")
        self.argument, self.problem = argument, problem


class OutputError(StmFastError, ValueError):
    """Results cannot go into a folder, because an input lies there."""


class BackendUnavailableError(StmFastError):
    """A backend named by the caller cannot serve the call; the message says why."""


class WeightsError(StmFastError):
    """A file of weights is missing, unreadable, or has wrong or missing entries."""


class RunStateError(StmFastError):
    """A run state on disk is missing or damaged, or belongs to another model, other settings or another version."""


class MediaError(StmFastError):
    """A video, picture or mask cannot be read or written, or does not fit the rest of the input."""

    exit_code = 2


class IntegrationError(StmFastError):
    """The fused read cannot be put into other code; the message says why."""


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or its type if it has none."""
    return next(iter(str(error).splitlines()), type(error).__name__)
