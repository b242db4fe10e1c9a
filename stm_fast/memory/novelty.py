"""What a frame adds to those in memory."""

from dataclasses import dataclass

import torch

from stm_fast.memory.arena import Arena, Role
from stm_fast.ops import memory_read

_LEAST_PRESENCE = 1.0
"""Tokens. An object that covers less than one location says little of itself, however different that is."""


def distance(arena: Arena, slot: int, other: int) -> float:
    """How differently two frames answer: what the keys of one read from the other, beside what they read from itself.

    The relative square difference is averaged over the tokens where the object is. Zero for a frame that says the same
    of it, about one or two for one that says something else, and zero for a frame that does not show the object.

    Args:
        arena: the memory; it keeps what was measured once.
        slot: of the frame.
        other: slot of the other frame.
    """
    pair = arena.slots[slot].frame, arena.slots[other].frame
    if pair not in arena.distances:
        arena.distances[pair] = _measured(arena, slot, other)
    return arena.distances[pair]


@dataclass(frozen=True)
class Novel:
    """Keeps a frame only if it adds something: no permanent or working frame is nearer than `least`.

    Attributes:
        least: least distance to the frames that are kept, see `distance`.

    Raises:
        ValueError: `least` is below 0.
    """

    least: float = 0.05

    def __post_init__(self) -> None:
        if not self.least >= 0:
            raise ValueError(f"least must be at least 0, got {self.least}")

    def admits(self, arena: Arena, slot: int) -> bool:
        """See `stm_fast.memory.policies.Admission.admits`."""
        kept = arena.slots_of(Role.permanent) + arena.slots_of(Role.working)
        return all(distance(arena, slot, other) >= self.least for other in kept)


def _measured(arena: Arena, slot: int, other: int) -> float:
    frame, memory = arena.tokens_of(slot), arena.tokens_of(other)
    said, own = (memory_read(frame.keys, read.keys, read.values).float() for read in (memory, frame))
    difference = (said - own).square().sum(1) / own.square().sum(1).clamp(min=torch.finfo(torch.float32).tiny)
    total = frame.presence.sum(1)
    return float(((frame.presence * difference).sum(1) / total.clamp(min=_LEAST_PRESENCE)).max())
