"""Putting the fused read into modules of others, and taking it out again."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from stm_fast.errors import IntegrationError
from stm_fast.integrations.families import aot, stcn, stm, xmem
from stm_fast.integrations.families.replacement import Replacement
from stm_fast.integrations.targets import Target

FAMILIES = (stm, stcn, xmem, aot)

_LOCK = threading.RLock()
"""Held while reads are looked for, checked, put and taken back."""

_HELD: dict[tuple[object, ...], Replacement] = {}
"""What is in place now, by its place."""


class Patch:
    """A hold on functions and methods of others that the fused read stands in for, until `undo`.

    Several patches may hold the same ones; the originals return when the last of them is undone.

    Attributes:
        replaced: the dotted names of what it holds.
    """

    def __init__(self, replacements: Sequence[Replacement]) -> None:
        self._replacements = tuple(replacements)
        self.replaced = tuple(replacement.label for replacement in replacements)

    def undo(self) -> None:
        """Let go; what no other patch holds becomes the original everywhere, also in modules that were imported since.

        A read that is under way, in this thread or in another, ends properly. Undoing twice does nothing more.
        """
        with _LOCK:
            replacements, self._replacements = self._replacements, ()
            _release(replacements)

    def __repr__(self) -> str:
        return f"Patch({', '.join(self.replaced)})"


def patch(target: object) -> Patch:
    """Put the fused read into the code that `target` belongs to, for the whole process.

    Known are the reads of the official STM and of code that took over its `Memory` module, STCN, XMem, Cutie, and the
    long-term and self-attention of AOT and DeAOT. Each is run beside the fused read on a few numbers first; code that
    does something else is refused. What is patched already is held by both patches. Threads may patch at once.

    Args:
        target: a module that reads, a package whose modules are loaded, a class, a network (also one in
            `DataParallel`, `torch.compile` and the like), or an object that holds one, such as XMem's or Cutie's
            `InferenceCore`.

    Raises:
        IntegrationError: no known read is found in `target`, one does not behave as the one that is known, or `target`
            would still read as before.
    """
    with _LOCK:
        looked_at = Target(target)
        found = [replacement for family in FAMILIES for replacement in family.find(looked_at)]
        if not found:
            names = ", ".join(sorted({module.__name__ for module in looked_at.modules})) or "none"
            notes = "".join(f"; {note}" for note in dict.fromkeys(looked_at.notes))
            raise IntegrationError(
                f"target {looked_at.label} holds no read that is known (looked into modules: {names}{notes}); "
                f"known are {', '.join(family.READS for family in FAMILIES)}; give the module that defines or imports "
                f"the read"
            )
        return Patch(_hold(found))


@contextmanager
def patched(target: object) -> Iterator[Patch]:
    """`patch` for the length of a `with` block."""
    patch_of_target = patch(target)
    try:
        yield patch_of_target
    finally:
        patch_of_target.undo()


def _hold(found: Sequence[Replacement]) -> list[Replacement]:
    """What is held in the places of these: the replacements that are there already, or these once put."""
    held = [_HELD.setdefault(replacement.place, replacement) for replacement in found]
    for replacement in held:
        replacement.holders += 1
    try:
        for replacement in held:
            replacement.put()
    except BaseException:
        _release(held)
        raise
    # Only now, one after another: threads that read meanwhile find all of them in place.
    for replacement in held:
        replacement.in_force = True
    return held


def _release(replacements: Sequence[Replacement]) -> None:
    """Take one holder from each, and back those that are left with none."""
    for replacement in replacements:
        replacement.holders -= 1
    unheld = [replacement for replacement in reversed(replacements) if not replacement.holders]
    for replacement in unheld:
        replacement.in_force = False
    for replacement in unheld:
        replacement.take_back()
        _HELD.pop(replacement.place, None)
