"""Notices: what a reader did to make an input usable, told as warnings of a class of their own."""

import warnings


class MediaNotice(UserWarning):
    """An input was usable, but not as it was; the message is one sentence that says what was done."""


def notice(message: str) -> None:
    """Tell the caller's user one sentence; the command line prints it, a library user filters it as a warning."""
    warnings.warn(message, MediaNotice, stacklevel=3)


class Notices:
    """Gives each notice about one input once, however often the input is read."""

    def __init__(self) -> None:
        self._given: set[str] = set()

    def __call__(self, message: str) -> None:
        """Tell the caller's user one sentence, the first time."""
        if message not in self._given:
            self._given.add(message)
            warnings.warn(message, MediaNotice, stacklevel=3)
