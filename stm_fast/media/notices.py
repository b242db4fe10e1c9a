"""Notices: warnings that say what was assumed of an input, or what was done to make it usable."""

import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_PASSED_OVER = (__name__.partition(".")[0], "collections", "contextlib", "functools")
"""Packages to skip in search of the user's line; `next` of a track is in `collections.abc`."""


class MediaNotice(UserWarning):
    """Warns that an input could not be used as it is. The message says in one sentence what was done."""


def notice(message: str) -> None:
    """Give a notice of one sentence. The command line prints it; users of the library can filter it as a warning."""
    _warn(message)


@contextmanager
def heard_by(listener: Callable[[str], None]) -> Iterator[None]:
    """Give the notices of this thread to a function, instead of as warnings, until the block ends."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


_listener: ContextVar[Callable[[str], None] | None] = ContextVar("listener", default=None)


def _warn(message: str) -> None:
    """Warn at the first line outside this package, which is the user's and shows the input."""
    if (listener := _listener.get()) is not None:
        listener(message)
        return
    frame, level = sys._getframe(), 1
    while frame.f_globals.get("__name__", "").partition(".")[0] in _PASSED_OVER:
        if frame.f_back is None:
            break
        frame, level = frame.f_back, level + 1
    warnings.warn(message, MediaNotice, stacklevel=level)


class Notices:
    """Gives each notice about an input once, however often the input is read."""

    def __init__(self) -> None:
        self._given: set[str] = set()

    def __call__(self, message: str) -> None:
        """Give a notice of one sentence, the first time."""
        if message not in self._given:
            self._given.add(message)
            _warn(message)
