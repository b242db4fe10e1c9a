"""One function or method of other people's code, and its replacement."""

import sys
from collections.abc import Callable, Iterator
from functools import wraps
from types import ModuleType
from typing import Any

Function = Callable[..., Any]

_ORIGINALS: dict[int, Function] = {}
"""The original of each of our functions, by its id. `functools.wraps` would copy an attribute of the function."""


class Replacement:
    """Replaces `name` of `owner` with `ours`, which calls `fused` while it is in force and the original otherwise.

    So references to ours that other code keeps, such as bound methods, call the original after `restore`.

    Attributes:
        owner: the class of a method, or the module that defines a function.
        name: name of the function or method.
        original: the function that is replaced.
        fused: the read that replaces it.
        ours: the function that is installed.
        in_force: whether ours calls `fused`; never again once restored.
        holders: how many patches hold it.
    """

    def __init__(self, owner: type | ModuleType, name: str, make: Callable[["Replacement"], Function]) -> None:
        present = vars(owner)[name]
        self.owner, self.name = owner, name
        self.original: Function = _ORIGINALS.get(id(present), present)
        self.fused = make(self)
        self.in_force, self.holders = False, 0

        @wraps(self.original)
        def ours(*args: Any, **kwargs: Any) -> Any:
            return self.fused(*args, **kwargs) if self.in_force else self.original(*args, **kwargs)

        self.ours: Function = ours

    @property
    def label(self) -> str:
        """The dotted name of what is replaced."""
        inside = f".{self.owner.__name__}" if isinstance(self.owner, type) else ""
        return f"{self.original.__module__}{inside}.{self.name}"

    @property
    def place(self) -> tuple[object, ...]:
        """A key, equal for all replacements of one original in one place."""
        return self.owner, self.name, self.original

    def instance(self, *args: object, **kwargs: object) -> Any:
        """Return an instance of the class whose method is replaced."""
        assert isinstance(self.owner, type)
        return self.owner(*args, **kwargs)

    def install(self) -> None:
        """Put ours wherever the original is; it calls the original until it is in force."""
        _ORIGINALS[id(self.ours)] = self.original
        self._exchange(self.original, self.ours)

    def restore(self) -> None:
        """Put the original wherever ours is."""
        self._exchange(self.ours, self.original)
        _ORIGINALS.pop(id(self.ours), None)

    def _exchange(self, old: Function, new: Function) -> None:
        # The owner comes first: a module that is being imported takes its functions from there.
        for place in self._places():
            for name, value in list(vars(place).items()):
                if value is old:
                    setattr(place, name, new)

    def _places(self) -> Iterator[type | ModuleType]:
        yield self.owner
        if not isinstance(self.owner, type):
            yield from [module for module in list(sys.modules.values()) if isinstance(module, ModuleType)]


def original_of(function: Function) -> Function:
    """Return the original if a function is ours and installed; return any other function unchanged."""
    return _ORIGINALS.get(id(function), function)
