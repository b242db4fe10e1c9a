"""Changes that signals do not cut in two."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

_SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGCHLD") if hasattr(signal, name)]


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Hold back signals that raise errors until the block ends; then handle them as they were before.

    They are SIGINT, SIGTERM, and SIGCHLD, at which torch raises an error if a process of its loader was killed.

    In other threads than the main one, which signals do not reach, this does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    held: list[int] = []
    before: dict[int, Any] = {}

    def hold(number: int, frame: FrameType | None) -> None:
        held.append(number)

    for each in _SIGNALS:
        if signal.getsignal(each) is not None:  # a handler in C cannot be put back
            before[each] = signal.signal(each, hold)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    for number in dict.fromkeys(held):
        signal.raise_signal(number)
