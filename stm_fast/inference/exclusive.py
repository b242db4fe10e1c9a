"""Methods that one thread at a time may call."""

import threading
from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec, TypeVar

import torch


class Exclusive:
    """Base of objects that one thread uses at a time: methods with `one_at_a_time` refuse a second one."""

    def __init__(self) -> None:
        self._busy = threading.RLock()


P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S", bound=Exclusive)


def one_at_a_time(method: Callable[Concatenate[S, P], R]) -> Callable[Concatenate[S, P], R]:
    """Run a method in inference mode; make it raise while another thread is in one of the object's methods."""

    @wraps(method)
    def alone(self: S, /, *args: P.args, **kwargs: P.kwargs) -> R:
        if not self._busy.acquire(blocking=False):
            raise RuntimeError(
                f"{method.__name__} was called while another thread used this {type(self).__name__}: give each thread "
                "its own"
            )
        try:
            with torch.inference_mode():
                return method(self, *args, **kwargs)
        finally:
            self._busy.release()

    return alone
