"""Admissions: which frames are worth their room in memory."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from stm_fast.memory.frames import Role
from stm_fast.memory.policies.base import Admission, ObjectMemory
from stm_fast.memory.policies.novelty import distance

_FIRST = 5
"""Number of first frames that set the usual uncertainty together, however far apart."""
_NEAR = 20
"""Number of frames, roughly, that the usual uncertainty is a mean of."""
_FAR = 200
"""The same for frames that are far from it."""
_USUAL, _COUNTED, _FULL = "usual uncertainty", "frames near it", "memory was full"


def uncertainty(probabilities: Tensor) -> Tensor:
    """Return how unsure the network was of objects.

    This is Σ p(1 − p) / √Σ p, where p is the probability that a pixel is the object's. Unsure pixels lie along the
    outline, and an outline grows with the square root of the area: an object that only comes nearer or moves away is as
    uncertain as before. Long and ragged shapes are more uncertain than round ones: a 1:4 bar 1.4 times. A region that
    the network hesitates to call an object at all is several times as uncertain, unless it is hardly wider than its
    outline.

    Args:
        probabilities: probabilities of O objects, `(O, H, W)`.

    Returns:
        `(O,)`, float32 at least; NaN for an object without a pixel of probability above 0.5.
    """
    probabilities = probabilities.to(torch.promote_types(probabilities.dtype, torch.float32))
    area = probabilities.sum((1, 2))
    unsure = (probabilities * (1 - probabilities)).sum((1, 2))
    return torch.where(probabilities.amax((1, 2)) > 0.5, unsure / area.sqrt(), torch.nan)


@dataclass(frozen=True)
class Certain:
    """Keeps a frame only if the network was about as certain of it as usual.

    When an object is gone, the network often takes something else for it, with some hesitation; once that is in memory,
    it does so again with less hesitation. A frame whose `uncertainty` is more than `most` times the usual one is
    evicted when it is no longer the previous frame. The usual uncertainty is a running geometric mean over the frames
    that might have stayed. The first few set it together, so that no single one is the standard. Later frames that are
    more than `most` times above or below it have little weight; a level that lasts for a few hundred frames becomes the
    usual one.

    Frames of unknown uncertainty stay: those without the object, and those whose masks were given.

    Attributes:
        most: largest uncertainty of a frame that is kept, as a multiple of the usual one.

    Raises:
        ValueError: `most` is below 1.
    """

    most: float = 1.75

    def __post_init__(self) -> None:
        if not self.most >= 1:
            raise ValueError(f"most must be at least 1, got {self.most}")

    def admits(self, memory: ObjectMemory, slot: int) -> bool:
        """See `stm_fast.memory.policies.Admission.admits`."""
        if not (math.isfinite(memory.uncertainty) and memory.uncertainty > 0):
            return True
        found = math.log(memory.uncertainty)
        usual, counted = memory.notes.get(_USUAL, found), memory.notes.get(_COUNTED, 0)
        above, limit = found - usual, math.log(self.most)
        near = counted < _FIRST or abs(above) <= limit
        memory.notes[_USUAL] = usual + above / (min(counted + 1, _NEAR) if near else _FAR)
        memory.notes[_COUNTED] = counted + near
        return above <= limit


@dataclass(frozen=True)
class WhenFull:
    """Admits every frame until a memory has been full, and then asks another admission.

    The other admission sees all frames from the start, so that it knows what is usual.

    Attributes:
        admission: the other admission.
        frames: number of frames that fill the memory of an object, the previous one included.
    """

    admission: Admission
    frames: int

    def admits(self, memory: ObjectMemory, slot: int) -> bool:
        """See `stm_fast.memory.policies.Admission.admits`."""
        admitted = self.admission.admits(memory, slot)
        if len(memory.slots) >= self.frames:
            memory.notes[_FULL] = 1.0
        return admitted or _FULL not in memory.notes


@dataclass(frozen=True)
class Novel:
    """Keeps a frame only if it adds something: no permanent or working frame is nearer than `least`.

    Attributes:
        least: smallest distance to the frames that are kept, see `stm_fast.memory.policies.distance`.

    Raises:
        ValueError: `least` is below 0.
    """

    least: float = 0.05

    def __post_init__(self) -> None:
        if not self.least >= 0:
            raise ValueError(f"least must be at least 0, got {self.least}")

    def admits(self, memory: ObjectMemory, slot: int) -> bool:
        """See `stm_fast.memory.policies.Admission.admits`."""
        kept = memory.slots_of(Role.permanent) + memory.slots_of(Role.working)
        return all(distance(memory, slot, other) >= self.least for other in kept)
