"""What goes when a memory is full, by what its frames were good for."""

import math
from dataclasses import dataclass
from numbers import Integral

from stm_fast.memory.arena import Arena, Role
from stm_fast.memory.novelty import distance


@dataclass(frozen=True)
class LeastUsed:
    """That frame goes whose tokens were read least, on average over the reads since it came; of equals the oldest."""

    tracks_usage = True
    long_term_frames = 0.0

    def make_room(self, arena: Arena) -> None:
        """See `stm_fast.memory.policies.Eviction.make_room`."""
        working = arena.slots_of(Role.working)
        arena.drop(min(working, key=lambda slot: (arena.usage_of(slot), arena.slots[slot].frame)))


@dataclass(frozen=True)
class MostAlike:
    """That frame goes whose nearest other frame says most nearly the same: what stays is as diverse as it can be.

    The last few frames that were kept stay whatever they say: they show what is around the objects.
    See `stm_fast.memory.novelty.distance`.

    Attributes:
        recent: working frames that stay.

    Raises:
        TypeError: `recent` is not a whole number.
        ValueError: it is below 0.
    """

    recent: int = 5

    tracks_usage = False
    long_term_frames = 0.0

    def __post_init__(self) -> None:
        _check_recent(self.recent)

    def make_room(self, arena: Arena) -> None:
        """See `stm_fast.memory.policies.Eviction.make_room`."""

        def nearest(slot: int) -> float:
            others = [other for other in range(len(arena.slots)) if other != slot]
            return min((distance(arena, slot, other) for other in others), default=0.0)

        arena.drop(min(_but_the_last(arena, self.recent), key=nearest))


@dataclass(frozen=True)
class LongTerm:
    """Frames become prototypes when the working memory is full (XMem, Cheng and Schwing, ECCV 2022, section 3.3).

    Of the working frames all but the last few become prototypes: those tokens that were used most, each with the value
    that its key reads from all of them. When there are more prototypes than there is room for, those used least go.

    XMem chooses by usage alone. Most locations are background, and an object that is away is not used at all: here a
    share of the prototypes is left to tokens of the object. Its numbers are those of frames at 480p, 128 prototypes and
    room for 10,000 beside 1,620 tokens a frame. Here they go with the size of frames.

    Attributes:
        recent: working frames that stay.
        prototypes: from one consolidation, for each object, as a share of the tokens of a frame; more than 8 are
            rounded down to a multiple of 8.
        long_term_frames: room for prototypes, for each object, in frames.
        object_share: part of the prototypes left to tokens where the object is.

    Raises:
        TypeError: `recent` is not a whole number.
        ValueError: a number out of its range.
    """

    recent: int = 3
    prototypes: float = 0.08
    long_term_frames: float = 6.0
    object_share: float = 0.1

    tracks_usage = True

    def __post_init__(self) -> None:
        _check_recent(self.recent)
        if not self.long_term_frames < math.inf:
            raise ValueError(f"long_term_frames must be finite, got {self.long_term_frames}")
        if not 0 < self.prototypes <= self.long_term_frames:
            raise ValueError(
                f"prototypes must be above 0 and at most long_term_frames ({self.long_term_frames}), got "
                f"{self.prototypes}"
            )
        if not 0 <= self.object_share <= 1:
            raise ValueError(f"object_share must be between 0 and 1, got {self.object_share}")

    def make_room(self, arena: Arena) -> None:
        """See `stm_fast.memory.policies.Eviction.make_room`."""
        prototypes = max(1, round(self.prototypes * arena.tokens_per_frame))
        arena.consolidate(_but_the_last(arena, self.recent), prototypes, self.object_share)


def _check_recent(recent: object) -> None:
    if not isinstance(recent, Integral):
        raise TypeError(f"recent must be a whole number, got {recent!r}")
    if recent < 0:
        raise ValueError(f"recent must be at least 0, got {recent}")


def _but_the_last(arena: Arena, recent: int) -> list[int]:
    """Slots of the working frames in order of time without the last few, at least one."""
    working = sorted(arena.slots_of(Role.working), key=lambda slot: arena.slots[slot].frame)
    return working[: max(1, len(working) - recent)]
