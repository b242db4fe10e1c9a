"""Notices: what a reader did to make an input usable, told as warnings of a class of their own."""

import warnings


class MediaNotice(UserWarning):
    """An input was usable, but not as it was; the message is one sentence that says what was done."""


def notice(message: str) -> None:
    """Tell the caller's user one sentence; the command line prints it, a library user filters it as a warning."""
    warnings.warn(message, MediaNotice, stacklevel=3)
