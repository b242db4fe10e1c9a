"""Patch other people's modules with the fused read, and undo it."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from stm_fast.errors import IntegrationError
from stm_fast.integrations.families import aot, stcn, stm, xmem
from stm_fast.integrations.families.replacement import Replacement
from stm_fast.integrations.targets import Target

FAMILIES = (stm, stcn, xmem, aot)

_LOCK = threading.RLock()
"""Held while reads are searched for, checked, replaced and restored."""

_HELD: dict[tuple[object, ...], Replacement] = {}
"""Installed replacements, by their place."""


class Patch:
    """Functions and methods of other people's code that the fused read replaces, until `undo`.

    Several patches may hold the same ones. The originals return when the last patch is undone.

    Attributes:
        replaced: the dotted names of what is replaced.
    """

    def __init__(self, replacements: Sequence[Replacement]) -> None:
        self._replacements = tuple(replacements)
        self.replaced = tuple(replacement.label for replacement in replacements)

    def undo(self) -> None:
        """Restore everywhere what no other patch holds, also in modules that were imported since.

        Reads that are running, in this thread or in others, complete. Undoing twice is harmless.
        """
        with _LOCK:
            replacements, self._replacements = self._replacements, ()
            _release(replacements)

    def __repr__(self) -> str:
        return f"Patch({', '.join(self.replaced)})"


def patch(target: object) -> Patch:
    """Patch the code that `target` belongs to with the fused read, for the whole process.

    Known reads are those of the official STM and of code that copied its `Memory` module, of STCN, XMem and Cutie, and
    the long-term and self-attention of AOT and DeAOT. Each is first compared with the fused read on small tensors; code
    that gives other results is refused. Two patches may hold the same code. Threads may patch at the same time.

    Args:
        target: a module that reads, a package whose modules are loaded, a class, a network (also one in
            `DataParallel`, `torch.compile` and the like), or an object that holds one, such as XMem's or Cutie's
            `InferenceCore`.

    Raises:
        IntegrationError: `target` has no known read, the results of a read differ from those of the known one, or
            `target` would still read as before.
    """
    with _LOCK:
        looked_at = Target(target)
        found = [replacement for family in FAMILIES for replacement in family.find(looked_at)]
        if not found:
            names = ", ".join(sorted({module.__name__ for module in looked_at.modules})) or "none"
            notes = "".join(f"; {note}" for note in dict.fromkeys(looked_at.notes))
            raise IntegrationError(
                f"target {looked_at.label} holds no known read (searched modules: {names}{notes}); "
                f"known are {', '.join(family.READS for family in FAMILIES)}; give the module that defines or imports "
                f"the read"
            )
        return Patch(_hold(found))


@contextmanager
def patched(target: object) -> Iterator[Patch]:
    """Patch during a `with` block; see `patch`."""
    patch_of_target = patch(target)
    try:
        yield patch_of_target
    finally:
        patch_of_target.undo()


def _hold(found: Sequence[Replacement]) -> list[Replacement]:
    """Install replacements, or take those already installed in their places; return those held."""
    held = [_HELD.setdefault(replacement.place, replacement) for replacement in found]
    for replacement in held:
        replacement.holders += 1
    try:
        for replacement in held:
            replacement.install()
    except BaseException:
        _release(held)
        raise
    # Only after all are installed, so that threads that read meanwhile find all of them.
    for replacement in held:
        replacement.in_force = True
    return held


def _release(replacements: Sequence[Replacement]) -> None:
    """Remove one holder from each, and restore those without holders."""
    for replacement in replacements:
        replacement.holders -= 1
    unheld = [replacement for replacement in reversed(replacements) if not replacement.holders]
    for replacement in unheld:
        replacement.in_force = False
    for replacement in unheld:
        replacement.restore()
        _HELD.pop(replacement.place, None)
