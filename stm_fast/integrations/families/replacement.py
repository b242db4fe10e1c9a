"""One function or method of others and what takes its place."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from stm_fast.errors import IntegrationError

Function = Callable[..., Any]

TOLERANCE = 1e-3
"""How far a read of others may be from the fused one, relative to the largest number, to count as the same."""


@dataclass(frozen=True)
class Replacement:
    """`name` of `owner` becomes `ours`.

    Attributes:
        owner: the class of a method; the module that defines a function, which every module that imported it names too.
        name: of the function or method.
        original: what it is.
        ours: what it becomes.
    """

    owner: type | ModuleType
    name: str
    original: Function
    ours: Function

    @classmethod
    def of(cls, owner: type | ModuleType, name: str, make: Callable[[Function], Function]) -> "Replacement":
        """The replacement that `make` builds from the original; from what it replaced, where it is ours already."""
        present = vars(owner)[name]
        original = getattr(present, "stm_fast_replaces", present)
        ours = make(original)
        ours.stm_fast_replaces = original  # type: ignore[attr-defined]
        return cls(owner, name, original, ours)

    @property
    def label(self) -> str:
        """The dotted name of what is replaced."""
        inside = f".{self.owner.__name__}" if isinstance(self.owner, type) else ""
        return f"{self.original.__module__}{inside}.{self.name}"

    @property
    def is_ours(self) -> bool:
        """Whether ours, or one of an earlier patch, is in place."""
        return vars(self.owner)[self.name] is not self.original

    def instance(self, *args: object, **kwargs: object) -> Any:
        """An instance of the class whose method is replaced."""
        assert isinstance(self.owner, type)
        return self.owner(*args, **kwargs)

    def put(self) -> None:
        """Ours, wherever the original is."""
        self._exchange(self.original, self.ours)

    def take_back(self) -> None:
        """The original, wherever ours is."""
        self._exchange(self.ours, self.original)

    def _exchange(self, old: Function, new: Function) -> None:
        for place in self._places():
            for name, value in list(vars(place).items()):
                if value is old:
                    setattr(place, name, new)

    def _places(self) -> Iterator[type | ModuleType]:
        if isinstance(self.owner, type):
            yield self.owner
        else:
            yield from [module for module in list(sys.modules.values()) if isinstance(module, ModuleType)]


def defined_in(modules: Sequence[ModuleType], name: str, kind: type) -> dict[Any, None]:
    """The functions or classes that these modules name so, in order, each once."""
    found = (vars(module).get(name) for module in modules)
    return {value: None for value in found if isinstance(value, kind)}


def check_alike(label: str, theirs: Callable[[], Sequence[Tensor]], ours: Callable[[], Sequence[Tensor]]) -> None:
    """Run a read of others beside ours on the same few numbers.

    Raises:
        IntegrationError: one of them fails, or they give something else.
    """
    try:
        with _same_numbers():
            expected = theirs()
        with _same_numbers():
            found = ours()
    except Exception as error:
        reason = next(iter(str(error).splitlines()), "")
        raise IntegrationError(
            f"{label} is of a version that is not known: used as known versions are, it raised "
            f"{type(error).__name__}: {reason}"
        ) from error
    for read, wanted in zip(found, expected, strict=True):
        if read.shape != wanted.shape or not _close(read, wanted):
            raise IntegrationError(
                f"{label} is of a version that is not known: on the same numbers it does not give what the fused read "
                f"gives"
            )


@contextmanager
def _same_numbers() -> Iterator[None]:
    """A context of plain float32 on the CPU with the same random numbers each time; the caller's are left alone."""
    default = torch.get_default_dtype()
    with torch.no_grad(), torch.device("cpu"), torch.autocast("cpu", enabled=False), torch.random.fork_rng(devices=[]):
        torch.set_default_dtype(torch.float32)
        torch.default_generator.manual_seed(0)
        try:
            yield
        finally:
            torch.set_default_dtype(default)


def _close(read: Tensor, wanted: Tensor) -> bool:
    return bool((read - wanted).abs().max() <= TOLERANCE * wanted.abs().max())
