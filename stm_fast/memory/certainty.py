"""How sure the network was of what it saw."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from stm_fast.memory.arena import Arena

_FIRST = 5
_KEPT = 20
_REFUSED = 200
"""Over about how many of the frames that were kept, and of those that were not, the usual doubt is a mean; and how many
count in full at first, kept or not."""


def doubt(probabilities: Tensor) -> Tensor:
    """How unsure the network was of objects, as a width of their outlines in pixels.

    Σ p(1 − p) / √Σ p, where p is the probability that a pixel is the object's. An outline has as much to be unsure of
    as it is long, so that an object which only comes nearer or goes away has the same doubt. What the network hesitates
    to take for an object at all has several times as much, unless it is hardly wider than its outline.

    Args:
        probabilities: of O objects, `(O, H, W)`.

    Returns:
        `(O,)`, float32 at least; NaN for an object without a pixel that is more likely its own than not.
    """
    area = probabilities.sum((1, 2))
    unsure = (probabilities * (1 - probabilities)).sum((1, 2))
    return torch.where(probabilities.amax((1, 2)) > 0.5, unsure / area.sqrt(), torch.nan)


@dataclass(frozen=True)
class Certain:
    """Keeps a frame only if the network was about as sure of it as it usually is.

    What takes an object's place when it is gone is mostly found with some hesitation; once remembered, it is found with
    less, again and again. A frame of which the `doubt` is more than `most` times the usual one does not stay when it is
    no longer the previous one. The usual doubt is a running geometric mean over the frames that might have stayed. The
    first few count alike, so that none of them is the standard alone. Of later ones, those that are refused count
    little, but count: what stays doubtful for some hundred of them is the usual.

    Frames of which the doubt is not known stay: those without the object, and those whose masks were given.

    Attributes:
        most: doubt of a frame that is kept, as a multiple of the usual one.

    Raises:
        ValueError: `most` is below 1.
    """

    most: float = 1.75

    def __post_init__(self) -> None:
        if self.most < 1:
            raise ValueError(f"most must be at least 1, got {self.most}")

    def admits(self, arena: Arena, slot: int) -> bool:
        """See `stm_fast.memory.policies.Admission.admits`."""
        known = [each for each in arena.doubts if each > 0]
        if not known:
            return True
        found = math.log(max(known))
        usual, counted = arena.notes.get("usual doubt", found), arena.notes.get("counted frames", 0)
        admitted = found <= usual + math.log(self.most)
        counts = admitted or counted < _FIRST
        step = 1 / min(counted + 1, _KEPT) if counts else 1 / _REFUSED
        arena.notes["usual doubt"] = usual + step * (found - usual)
        arena.notes["counted frames"] = counted + counts
        return admitted
