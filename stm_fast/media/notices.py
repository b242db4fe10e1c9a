"""Notices: what a reader did to make an input usable, told as warnings of a class of their own."""

import sys
import warnings

_PASSED_OVER = (__name__.partition(".")[0], "collections", "contextlib")
"""Packages between a reader and the user's line; `next` of a tracker is in `collections.abc`."""


class MediaNotice(UserWarning):
    """An input was usable, but not as it was; the message is one sentence that says what was done."""


def notice(message: str) -> None:
    """Tell the caller's user one sentence; the command line prints it, a library user filters it as a warning."""
    _warn(message)


def _warn(message: str) -> None:
    """Warn of a line outside this package, where there is one: it is the user's, who can tell which input it reads."""
    frame, level = sys._getframe(), 1
    while frame.f_globals.get("__name__", "").partition(".")[0] in _PASSED_OVER:
        if frame.f_back is None:
            break
        frame, level = frame.f_back, level + 1
    warnings.warn(message, MediaNotice, stacklevel=level)


class Notices:
    """Gives each notice about one input once, however often the input is read."""

    def __init__(self) -> None:
        self._given: set[str] = set()

    def __call__(self, message: str) -> None:
        """Tell the caller's user one sentence, the first time."""
        if message not in self._given:
            self._given.add(message)
            _warn(message)
