"""Evictions: which frame is evicted when a memory is full."""

from dataclasses import dataclass
from numbers import Integral

from stm_fast.memory.frames import Role
from stm_fast.memory.policies.base import ObjectMemory
from stm_fast.memory.policies.novelty import distance


@dataclass(frozen=True)
class Oldest:
    """Evicts the oldest frame, so that memory is a sliding window over the last ones."""

    tracks_usage = False
    long_term_frames = 0.0

    def make_room(self, memory: ObjectMemory) -> None:
        """See `stm_fast.memory.policies.Eviction.make_room`."""
        memory.drop(min(memory.slots_of(Role.working), key=lambda slot: memory.slots[slot].frame))


@dataclass(frozen=True)
class LeastUsed:
    """Evicts the frame whose tokens were read least, on average over reads since it came; among equals, the oldest."""

    tracks_usage = True
    long_term_frames = 0.0

    def make_room(self, memory: ObjectMemory) -> None:
        """See `stm_fast.memory.policies.Eviction.make_room`."""
        working = memory.slots_of(Role.working)
        memory.drop(min(working, key=lambda slot: (memory.usage_of(slot), memory.slots[slot].frame)))


@dataclass(frozen=True)
class MostAlike:
    """Evicts the frame that is nearest to any other frame, so that the remaining ones are diverse.

    The last few frames stay in any case: they show the surroundings of the objects. See
    `stm_fast.memory.policies.distance`.

    Attributes:
        recent: number of working frames that stay.

    Raises:
        TypeError: `recent` is not a whole number.
        ValueError: `recent` is below 0.
    """

    recent: int = 5

    tracks_usage = False
    long_term_frames = 0.0

    def __post_init__(self) -> None:
        check_recent(self.recent)

    def make_room(self, memory: ObjectMemory) -> None:
        """See `stm_fast.memory.policies.Eviction.make_room`."""

        def nearest(slot: int) -> float:
            others = [other for other in range(len(memory.slots)) if other != slot]
            return min((distance(memory, slot, other) for other in others), default=0.0)

        memory.drop(min(older_frames(memory, self.recent), key=nearest))


def check_recent(recent: object) -> None:
    """Raise if this is not a number of frames."""
    if not isinstance(recent, Integral):
        raise TypeError(f"recent must be a whole number, got {recent!r}")
    if recent < 0:
        raise ValueError(f"recent must be at least 0, got {recent}")


def older_frames(memory: ObjectMemory, recent: int) -> list[int]:
    """Return the slots of working frames in order of time, without the most recent ones but at least one."""
    working = sorted(memory.slots_of(Role.working), key=lambda slot: memory.slots[slot].frame)
    return working[: max(1, len(working) - recent)]
