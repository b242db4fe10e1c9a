"""How much two frames in memory differ."""

import torch

from stm_fast.memory.policies.base import ObjectMemory
from stm_fast.memory.tokens import by_key
from stm_fast.ops import memory_read

_MIN_PRESENCE = 1.0
"""Minimum area in tokens. An object that covers less than one location says little about itself."""


def distance(memory: ObjectMemory, slot: int, other: int) -> float:
    """Return how differently the keys of a frame read from another frame and from their own.

    The relative squared difference of the two readouts is averaged over the tokens where the object is. It is zero if
    the other frame says the same about the object, about one or two if it says something else, and zero if the frame
    does not show the object. Of several objects, the one with the largest difference counts.

    Args:
        memory: holds both frames, and keeps the distances that were measured.
        slot: slot of the frame.
        other: slot of the other frame.
    """
    pair = memory.slots[slot].frame, memory.slots[other].frame
    if pair not in memory.distances:
        memory.distances[pair] = _measure(memory, slot, other)
    return memory.distances[pair]


def _measure(memory: ObjectMemory, slot: int, other: int) -> float:
    frame, reference = memory.tokens_of(slot), memory.tokens_of(other)
    readout, own = (
        memory_read(frame.keys, read.keys, by_key(read.keys, read.values)).flatten(0, 1).float()
        for read in (reference, frame)
    )
    difference = (readout - own).square().sum(1) / own.square().sum(1).clamp(min=torch.finfo(torch.float32).tiny)
    total = frame.presence.sum(1)
    return float(((frame.presence * difference).sum(1) / total.clamp(min=_MIN_PRESENCE)).max())
