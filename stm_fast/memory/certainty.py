"""How sure the network was of what it saw."""

from dataclasses import dataclass

import torch
from torch import Tensor

from stm_fast.memory.arena import Arena, Role
from stm_fast.memory.tokens import Tokens

_LEAST_PRESENCE = 1.0
"""Tokens. Of an object that covers less than one location there is nothing to be sure of."""


def doubt(tokens: Tokens) -> Tensor:
    """How unsure the network was of each object of a frame, beside how much of it there is.

    Σ p(1 − p) / Σ p over pixels, where p is the probability that a pixel is the object's: 0 for a mask that was given,
    some hundredths for an outline, much more for something that the network hesitates to take for the object.

    Args:
        tokens: of the frame.

    Returns:
        `(O,)`, from 0 to 1; NaN for an object that covers less than one location.
    """
    presence = tokens.presence.sum(1)
    there = presence >= _LEAST_PRESENCE
    return (tokens.doubt.sum(1) / presence.clamp(min=_LEAST_PRESENCE)).masked_fill(~there, torch.nan)


@dataclass(frozen=True)
class Certain:
    """Keeps a frame only if the network was about as sure of it as of the working frames.

    What takes an object's place when it is gone is mostly found with some hesitation; once remembered, it is found
    with less, again and again. A frame whose `doubt` is above `most` times the median of those of the working frames
    is in memory as the previous one only. Small objects and blurred ones have much doubt in all frames, hence a ratio.

    Attributes:
        most: doubt of a frame that is kept, as a multiple of the median of the working frames.

    Raises:
        ValueError: `most` is below 1.
    """

    most: float = 2.0

    def __post_init__(self) -> None:
        if self.most < 1:
            raise ValueError(f"most must be at least 1, got {self.most}")

    def admits(self, arena: Arena, slot: int) -> bool:
        """See `stm_fast.memory.policies.Admission.admits`."""
        kept = [doubt(arena.tokens_of(other)) for other in arena.slots_of(Role.working)]
        if not kept:
            return True
        known = torch.stack(kept)
        # Masks that were given say nothing of how sure the network is.
        usual = known.masked_fill(known == 0, torch.nan).nanquantile(0.5, 0)
        return not bool((doubt(arena.tokens_of(slot)) > self.most * usual).any())
