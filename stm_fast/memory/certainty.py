"""How sure the network was of what it saw."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from stm_fast.memory.arena import Arena
from stm_fast.memory.policies import Admission

_FIRST = 5
"""Frames that set together what is usual, near one another or not."""
_NEAR = 20
"""About how many frames the usual uncertainty is a mean over."""
_FAR = 200
"""The same, for those that are far from it."""
_FULL = "memory was full"


def uncertainty(probabilities: Tensor) -> Tensor:
    """How unsure the network was of objects.

    Σ p(1 − p) / √Σ p, where p is the probability that a pixel is the object's. An outline has as much to be unsure of
    as it is long, so that an object which only comes nearer or goes away is as uncertain as before; long and ragged
    shapes are more so than round ones, a bar of one to four 1.4 times. What the network hesitates to take for an object
    at all is several times as uncertain, unless it is hardly wider than its outline.

    Args:
        probabilities: of O objects, `(O, H, W)`.

    Returns:
        `(O,)`, float32 at least; NaN for an object without a pixel that is more likely its own than not.
    """
    probabilities = probabilities.to(torch.promote_types(probabilities.dtype, torch.float32))
    area = probabilities.sum((1, 2))
    unsure = (probabilities * (1 - probabilities)).sum((1, 2))
    return torch.where(probabilities.amax((1, 2)) > 0.5, unsure / area.sqrt(), torch.nan)


@dataclass(frozen=True)
class Certain:
    """Keeps a frame only if the network was about as sure of it as it usually is.

    What takes an object's place when it is gone is mostly found with some hesitation; once remembered, it is found with
    less, again and again. A frame whose `uncertainty` is more than `most` times the usual one does not stay when it is
    no longer the previous one. The usual one is a running geometric mean over the frames that might have stayed. The
    first few set it together, so that none of them is the standard alone. Later ones that are more than `most` times
    above or below it count little, but count: whatever lasts for a few hundred of them is the usual.

    Frames whose uncertainty is not known stay: those without the object, and those whose masks were given.

    Attributes:
        most: uncertainty of a frame that is kept, as a multiple of the usual one.

    Raises:
        ValueError: `most` is below 1.
    """

    most: float = 1.75

    def __post_init__(self) -> None:
        if not self.most >= 1:
            raise ValueError(f"most must be at least 1, got {self.most}")

    def admits(self, arena: Arena, slot: int) -> bool:
        """See `stm_fast.memory.policies.Admission.admits`."""
        if not (math.isfinite(arena.uncertainty) and arena.uncertainty > 0):
            return True
        found = math.log(arena.uncertainty)
        usual, counted = arena.notes.get("usual uncertainty", found), arena.notes.get("frames near it", 0)
        above, most = found - usual, math.log(self.most)
        near = counted < _FIRST or abs(above) <= most
        arena.notes["usual uncertainty"] = usual + above / (min(counted + 1, _NEAR) if near else _FAR)
        arena.notes["frames near it"] = counted + near
        return above <= most


@dataclass(frozen=True)
class WhenFull:
    """Asks another admission once a memory has been full; before, every frame stays.

    The other one sees all frames, so that it knows what is usual when its word begins to count.

    Attributes:
        admission: the other one.
        frames: that fill the memory of an object, the previous one included.
    """

    admission: Admission
    frames: int

    def admits(self, arena: Arena, slot: int) -> bool:
        """See `stm_fast.memory.policies.Admission.admits`."""
        admitted = self.admission.admits(arena, slot)
        if len(arena.slots) >= self.frames:
            arena.notes[_FULL] = 1.0
        return admitted or _FULL not in arena.notes
