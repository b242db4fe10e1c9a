"""Putting the fused read into modules of others, and taking it out again."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from torch import nn

from stm_fast.errors import IntegrationError
from stm_fast.integrations.families import aot, stcn, stm, xmem
from stm_fast.integrations.families.replacement import Replacement

FAMILIES = (stm, stcn, xmem, aot)


class Patch:
    """Functions and methods of others that the fused read stands in for, until `undo`.

    Attributes:
        replaced: their dotted names.
    """

    def __init__(self, replacements: list[Replacement]) -> None:
        self._replacements = replacements
        self.replaced = tuple(replacement.label for replacement in replacements)
        for replacement in replacements:
            replacement.put()

    def undo(self) -> None:
        """Put the originals back wherever ours are, also in modules that were imported since. Twice is once."""
        for replacement in self._replacements:
            replacement.take_back()

    def __repr__(self) -> str:
        return f"Patch({', '.join(self.replaced)})"


def patch(target: object) -> Patch:
    """Put the fused read into the code that `target` belongs to, for the whole process.

    Known are the reads of the official STM and of code that took over its `Memory` module, STCN, XMem, Cutie, and the
    long-term and self-attention of AOT and DeAOT. Each is run beside the fused read on a few numbers first; code that
    does something else is refused. What is patched already stays so.

    Args:
        target: a module that reads, a package whose modules are loaded, a network, or an object that holds one, such
            as XMem's or Cutie's `InferenceCore`.

    Raises:
        IntegrationError: no known read is found in `target`, or it does not behave as the one that is known.
    """
    modules = list(_modules_of(target))
    found = [replacement for family in FAMILIES for replacement in family.find(modules)]
    if not found:
        names = ", ".join(sorted({module.__name__ for module in modules})) or "none"
        raise IntegrationError(
            f"target {_named(target)} holds no read that is known (looked into modules: {names}); known are "
            f"{', '.join(family.READS for family in FAMILIES)}; give the module that defines or imports the read"
        )
    return Patch([replacement for replacement in found if not replacement.is_ours])


@contextmanager
def patched(target: object) -> Iterator[Patch]:
    """`patch` for the length of a `with` block."""
    patch_of_target = patch(target)
    try:
        yield patch_of_target
    finally:
        patch_of_target.undo()


def _modules_of(target: object) -> Iterator[ModuleType]:
    """The modules in which the code of `target` may name a read."""
    if isinstance(target, ModuleType):
        prefix = f"{target.__name__}."
        yield target
        yield from [module for name, module in list(sys.modules.items()) if name.startswith(prefix) and module]
        return
    holders: list[Any] = [target]
    if not isinstance(target, type):
        holders += vars(target).values() if hasattr(target, "__dict__") else []
    parts = [part for holder in holders for part in (holder.modules() if isinstance(holder, nn.Module) else [holder])]
    kinds = {part if isinstance(part, type) else type(part): None for part in parts}
    names = {kind.__module__: None for kind in kinds}
    yield from [sys.modules[name] for name in names if name in sys.modules and not _is_of_others(name)]


def _is_of_others(name: str) -> bool:
    """Whether a module is a library's in which no read can be."""
    return name.split(".")[0] in ("builtins", "torch", "numpy", "collections", "omegaconf", "stm_fast")


def _named(target: object) -> str:
    name = getattr(target, "__name__", None)
    return repr(name) if isinstance(name, str) else f"of type {type(target).__module__}.{type(target).__qualname__}"
