"""The modules, classes and objects that a target of `patch` consists of."""

import inspect
import sys
import types
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from stm_fast.errors import IntegrationError
from stm_fast.integrations.families.replacement import Replacement, original_of

MAX_DEPTH = 6
"""Depth to which a target is searched for the objects that it holds."""

_LIBRARIES = frozenset({*sys.stdlib_module_names, "torch", "numpy", "omegaconf", "stm_fast"})


class Target:
    """A target and the code that belongs to it.

    Attributes:
        label: name of the target in messages.
        modules: modules in which its code may name a read.
        parts: the objects that it consists of; empty for a module or a class.
        kinds: their classes; for a module, those that it defines.
        notes: why reads that were found cannot be replaced, for messages.
    """

    def __init__(self, target: object) -> None:
        name = getattr(target, "__name__", None)
        kind = type(target)
        self.label = repr(name) if isinstance(name, str) else f"of type {kind.__module__}.{kind.__qualname__}"
        self.parts: tuple[object, ...] = ()
        if isinstance(target, ModuleType):
            self.modules = (target, *_loaded(f"{target.__name__}."))
            names = {module.__name__ for module in self.modules}
            values = chain.from_iterable(vars(module).values() for module in self.modules)
            kinds = [value for value in values if isinstance(value, type) and value.__module__ in names]
        else:
            if isinstance(target, types.FunctionType | types.MethodType):
                target = getattr(target, "__self__", sys.modules.get(target.__module__))
            self.parts = () if isinstance(target, type) else tuple(_parts(target))
            found = (target,) if isinstance(target, type) else self.parts
            kinds = [part if isinstance(part, type) else type(part) for part in found]
            bases = [base for kind in kinds for base in kind.__mro__]
            homes = {base.__module__: None for base in bases if not is_library(base.__module__)}
            self.modules = tuple(sys.modules[name] for name in homes if name in sys.modules)
        self.kinds = tuple(dict.fromkeys(kinds))
        fixed = [
            kind
            for kind in (torch.jit.ScriptModule, torch.fx.GraphModule)
            if any(isinstance(part, kind) for part in self.parts)
        ]
        self.notes = [f"the code of its {kind.__name__} is fixed already" for kind in fixed]

    def classes(self, name: str) -> dict[type, None]:
        """Return the classes of this name in its modules, in order, without duplicates or classes of libraries."""
        found = [vars(module).get(name) for module in self.modules]
        found += [base for kind in self.kinds for base in kind.__mro__ if base.__name__ == name]
        return {value: None for value in found if isinstance(value, type) and not is_library(value.__module__)}

    def functions(self, name: str) -> dict[types.FunctionType, None]:
        """Return the functions of this name in its modules, in order and without duplicates."""
        found = [vars(module)[name] for module in self.modules if name in vars(module)]
        others = [type(value).__name__ for value in found if not isinstance(value, types.FunctionType)]
        self.notes += [f"its {name} is a {kind}, and only a function can be replaced" for kind in others]
        return {value: None for value in found if isinstance(value, types.FunctionType)}

    def uses(self, owner: type) -> bool:
        """Return whether it uses a class of networks. A target that holds networks uses only their classes."""
        networks = any(isinstance(part, nn.Module) for part in self.parts)
        used = not networks or any(issubclass(kind, owner) for kind in self.kinds)
        if not used:
            self.notes.append(f"none of its networks holds a {owner.__module__}.{owner.__qualname__}")
        return used

    def attributes(self, owner: type) -> set[str]:
        """Return the names of attributes in which its networks hold modules of a class."""
        networks = [part for part in self.parts if isinstance(part, nn.Module)]
        return {name for part in networks for name, child in part._modules.items() if isinstance(child, owner)}

    def relatives(self) -> "Target":
        """Return all loaded code of the same package, or, for scripts that import one another, of the same folder."""
        packages = {_package(module.__name__) for module in self.modules}
        roots = {root for module in self.modules if (root := _root(module)) is not None}
        relatives = Target(types.SimpleNamespace())
        relatives.label = self.label
        relatives.modules = tuple(
            module
            for name, module in list(sys.modules.items())
            if isinstance(module, ModuleType) and (_package(name) in packages or _root(module) in roots)
        )
        return relatives

    def with_overrides(self, owners: Iterable[type], name: str) -> Iterator[type]:
        """Yield the owners of a method, and those of its classes that override the method without calling it."""
        for owner in owners:
            yield owner
            heirs = [kind for kind in self.kinds if issubclass(kind, owner)]
            definers = {next(base for base in kind.__mro__ if name in vars(base)): kind for kind in heirs}
            for definer, kind in definers.items():
                if definer is not owner and not _mentions(kind, vars(definer)[name], {"super", owner.__name__}):
                    yield definer

    def refuse_hidden(self, replacement: Replacement) -> None:
        """Refuse an object that hides the replaced method with an attribute of its own.

        Raises:
            IntegrationError: there is one.
        """
        assert isinstance(replacement.owner, type)
        for part in self.parts:
            if isinstance(part, replacement.owner) and replacement.name in getattr(part, "__dict__", {}):
                raise IntegrationError(
                    f"target {self.label} holds a {type(part).__name__} with a {replacement.name} of its own, which "
                    f"hides {replacement.label} and would not change; patch before it is wrapped, or wrap the network"
                )

    def refuse_bypasses(self, entries: Iterable[str], names: Iterable[str]) -> None:
        """Refuse a class that overrides a reading method with one that does not use a known read.

        Args:
            entries: methods of the known classes that read.
            names: functions and attributes with which they read.

        Raises:
            IntegrationError: there is one.
        """
        wanted = {*names}
        for kind in self.kinds:
            for entry in entries:
                definers = [base for base in kind.__mro__ if entry in vars(base)]
                reading = [base for base in definers[1:] if _mentions(base, vars(base)[entry], wanted)]
                if reading and not _mentions(kind, vars(definers[0])[entry], wanted | {"super", reading[0].__name__}):
                    raise IntegrationError(
                        f"target {self.label} reads with {definers[0].__module__}.{definers[0].__qualname__}.{entry}, "
                        f"which overrides that of {reading[0].__name__} and uses none of "
                        f"{', '.join(sorted(wanted))}: it would not change"
                    )


def is_library(name: str) -> bool:
    """Return whether a module belongs to a library without reads."""
    return _package(name) in _LIBRARIES


def _package(name: str) -> str:
    return name.split(".")[0]


def _loaded(prefix: str) -> list[ModuleType]:
    modules = list(sys.modules.items())
    return [module for name, module in modules if name.startswith(prefix) and isinstance(module, ModuleType)]


def _root(module: ModuleType) -> Path | None:
    """Return the folder from which a script's module is imported, or None for libraries and installed packages."""
    file = getattr(module, "__file__", None)
    if not isinstance(file, str) or is_library(module.__name__):
        return None
    path = Path(file)
    if {"site-packages", "dist-packages"} & {*path.parts}:
        return None
    depth = module.__name__.count(".") + (path.name == "__init__.py")
    return path.parents[depth] if depth < len(path.parents) else None


def _parts(target: object) -> Iterator[object]:
    """Yield a target and what it holds, each once: modules of networks, items of containers, other attributes."""
    level, seen = [target], {id(target)}
    for _ in range(MAX_DEPTH):
        yield from level
        held = {id(value): value for part in level for value in _held(part, part is target)}
        level = [value for key, value in held.items() if key not in seen]
        seen.update(held)


def _held(part: Any, is_target: bool) -> list[object]:
    values: list[object] = list(part.modules()) if isinstance(part, nn.Module) else []
    if isinstance(part, dict):
        values += part.values()
    elif isinstance(part, list | tuple | set | frozenset):
        values += part
    elif is_target or isinstance(part, types.SimpleNamespace) or not is_library(type(part).__module__):
        values += getattr(part, "__dict__", {}).values()
    return [value for value in values if _may_hold(value)]


def _may_hold(value: object) -> bool:
    return isinstance(value, nn.Module | dict | list | tuple | set | frozenset | type | types.SimpleNamespace) or (
        hasattr(value, "__dict__") and not is_library(type(value).__module__)
    )


def _mentions(kind: type, method: object, names: set[str]) -> bool:
    """Return whether a method, or one that it calls on its class, uses one of `names`; True if code is hidden."""
    waiting, seen = [method], set[str]()
    while waiting:
        called: Any = waiting.pop()
        function = inspect.unwrap(original_of(getattr(called, "__func__", called)))
        if not isinstance(function, types.FunctionType):
            return True
        mentioned = _names(function.__code__)
        if mentioned & names:
            return True
        named = [inspect.getattr_static(kind, name, None) for name in mentioned - seen]
        methods = [value for value in named if isinstance(value, types.FunctionType | staticmethod | classmethod)]
        waiting += [value for value in methods if not is_library(value.__module__)]
        seen |= mentioned
    return False


def _names(code: types.CodeType) -> set[str]:
    """Return the names that a function and its inner functions use."""
    inner = [_names(constant) for constant in code.co_consts if isinstance(constant, types.CodeType)]
    return {*code.co_names, *code.co_freevars}.union(*inner)
