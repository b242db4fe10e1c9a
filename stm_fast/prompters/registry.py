"""Prompters by name: those of this package, and those that other packages register."""

from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from stm_fast.errors import ArgumentError
from stm_fast.prompters.hints import Hints

GROUP = "stm_fast.prompters"
"""Entry points of this group are prompters; each names a callable without arguments that makes one."""
_BUILT_IN = {
    "grabcut": "stm_fast.prompters.grab_cut:GrabCutPrompter",
    "sam2": "stm_fast.prompters.sam2:Sam2Prompter",
}


class Prompter(Protocol):
    """Segments one object in one frame from hints."""

    def __call__(
        self, image: NDArray[np.uint8], hints: Hints, mask: NDArray[np.bool_] | None = None
    ) -> NDArray[np.bool_]:
        """Segment an object.

        Args:
            image: RGB uint8 `(H, W, 3)`.
            hints: boxes and points of the object; they have been checked.
            mask: the object as it was found so far `(H, W)`, to be refined with the points; None for none.

        Returns:
            The mask `(H, W)`, bool.
        """
        ...


def available_prompters() -> tuple[str, ...]:
    """Return the names of all prompters, those of this package first.

    Whether what a prompter needs is installed shows when it is made.
    """
    return (*_BUILT_IN, *(name for name in _registered() if name not in _BUILT_IN))


def make_prompter(name: str = "grabcut") -> Prompter:
    """Make the prompter of a name.

    Args:
        name: one of `available_prompters`.

    Raises:
        ArgumentError: there is no such prompter, or it needs something that is not installed.
    """
    if name in _BUILT_IN:
        module, _, attribute = _BUILT_IN[name].partition(":")
        made: Prompter = getattr(import_module(module), attribute)()
        return made
    registered = _registered()
    if name not in registered:
        raise ArgumentError("prompter", f"must be one of {', '.join(available_prompters())}, got {name}")
    try:
        loaded: Prompter = registered[name].load()()
    except Exception as error:
        raise ArgumentError("prompter", f"{name} ({registered[name].value}) cannot be used: {error}") from error
    return loaded


def _registered() -> dict[str, EntryPoint]:
    return {point.name: point for point in sorted(entry_points(group=GROUP), key=lambda point: point.name)}
