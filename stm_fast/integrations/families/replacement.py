"""One function or method of others and what takes its place."""

import sys
from collections.abc import Callable, Iterator
from functools import wraps
from types import ModuleType
from typing import Any

Function = Callable[..., Any]

_ORIGINALS: dict[int, Function] = {}
"""What each of our functions stands in for, by its id; an attribute of it would be copied by `functools.wraps`."""


class Replacement:
    """`name` of `owner` becomes `ours`, which is `fused` while it is in force and the original otherwise.

    So what others took of ours meanwhile, such as a bound method, is the original again once it is taken back.

    Attributes:
        owner: the class of a method; the module that defines a function, which every module that imported it names too.
        name: of the function or method.
        original: what it is.
        fused: the read that stands in for it.
        ours: what it becomes.
        in_force: whether ours reads as `fused` does. Once taken back it never does again.
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
        """The same for all replacements of one original in one place."""
        return self.owner, self.name, self.original

    def instance(self, *args: object, **kwargs: object) -> Any:
        """An instance of the class whose method is replaced."""
        assert isinstance(self.owner, type)
        return self.owner(*args, **kwargs)

    def put(self) -> None:
        """Ours, wherever the original is; it still reads as the original does."""
        _ORIGINALS[id(self.ours)] = self.original
        self._exchange(self.original, self.ours)

    def take_back(self) -> None:
        """The original, wherever ours is."""
        self._exchange(self.ours, self.original)
        _ORIGINALS.pop(id(self.ours), None)

    def _exchange(self, old: Function, new: Function) -> None:
        # The owner first: a module that is being imported takes its functions from there.
        for place in self._places():
            for name, value in list(vars(place).items()):
                if value is old:
                    setattr(place, name, new)

    def _places(self) -> Iterator[type | ModuleType]:
        yield self.owner
        if not isinstance(self.owner, type):
            yield from [module for module in list(sys.modules.values()) if isinstance(module, ModuleType)]


def original_of(function: Function) -> Function:
    """What a function of ours that is in place stands in for; any other function itself."""
    return _ORIGINALS.get(id(function), function)
