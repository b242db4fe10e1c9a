"""Long-term memory: old frames become a few prototypes (XMem, Cheng and Schwing, ECCV 2022, section 3.3)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from stm_fast.memory.policies.base import ObjectMemory
from stm_fast.memory.policies.eviction import check_recent, older_frames
from stm_fast.memory.tokens import TOKEN_ALIGNMENT, Tokens, by_key, gathered, joined
from stm_fast.ops import memory_read


@dataclass(frozen=True)
class LongTerm:
    """Turns the older working frames into prototypes when the memory is full.

    The most used tokens of these frames become prototypes, each with the value that its key reads from all of these
    frames. When there is no room for all prototypes, the least used ones are dropped.

    XMem chooses by usage alone. But most locations are background, and tokens of an absent object are not used at all.
    So here a share of the prototypes is reserved for tokens of the object. XMem has 128 prototypes and room for 10,000
    beside 1,620 tokens per frame, at 480p. Here these numbers are proportional to the tokens per frame.

    Objects that share their keys share prototypes too, as if they were one object.

    Attributes:
        recent: number of working frames that stay.
        prototypes: number made for each object by one consolidation, as a share of the tokens of a frame. If it is
            above 8, it is rounded down to a multiple of 8.
        long_term_frames: room for prototypes, for each object, in frames.
        object_share: share of the prototypes reserved for tokens where the object is.

    Raises:
        TypeError: `recent` is not a whole number.
        ValueError: a number is out of its range.
    """

    recent: int = 3
    prototypes: float = 0.08
    long_term_frames: float = 6.0
    object_share: float = 0.1

    tracks_usage = True

    def __post_init__(self) -> None:
        check_recent(self.recent)
        if not self.long_term_frames < math.inf:
            raise ValueError(f"long_term_frames must be finite, got {self.long_term_frames}")
        if not 0 < self.prototypes <= self.long_term_frames:
            raise ValueError(
                f"prototypes must be above 0 and at most long_term_frames ({self.long_term_frames}), got "
                f"{self.prototypes}"
            )
        if not 0 <= self.object_share <= 1:
            raise ValueError(f"object_share must be between 0 and 1, got {self.object_share}")

    def make_room(self, memory: ObjectMemory) -> None:
        """See `stm_fast.memory.policies.Eviction.make_room`."""
        slots = older_frames(memory, self.recent)
        prototypes = max(1, round(self.prototypes * memory.tokens_per_frame))
        memory.consolidate(slots, _consolidated(memory, slots, prototypes, self.object_share))


def _consolidated(memory: ObjectMemory, slots: Sequence[int], prototypes: int, object_share: float) -> Tokens:
    """Return the prototypes of some frames and, as far as there is room, the existing ones.

    Args:
        memory: holds the frames.
        slots: of the frames.
        prototypes: number of new ones for each object. If it is above `TOKEN_ALIGNMENT`, it is rounded down to a
            multiple of that, so that reads begin at an aligned token.
        object_share: share of the prototypes reserved for tokens where the object is, as long as there are any.
    """
    frames = joined([memory.tokens_of(slot) for slot in slots])
    prototypes = min(prototypes, frames.number, memory.prototype_room)
    if prototypes > TOKEN_ALIGNMENT:
        prototypes -= prototypes % TOKEN_ALIGNMENT
    chosen = _most_used(frames, memory.rates_of(frames), prototypes, object_share)
    values = memory_read(chosen.keys, frames.keys, by_key(frames.keys, frames.values)).flatten(0, 1)
    older, room = memory.prototypes, memory.prototype_room - prototypes
    if older.number > room:
        older = _most_used(older, memory.rates_of(older), room, object_share)
    return joined([chosen._replace(values=values), older])


def _most_used(tokens: Tokens, rates: Tensor, count: int, object_share: float) -> Tokens:
    """Return the tokens that were used most, a share of them where the object is.

    Args:
        tokens: to choose from.
        rates: how much each was used, `(K, n)`.
        count: number of tokens to return.
        object_share: share of them that is where the object is.
    """
    of_object = rates.masked_fill(tokens.presence < 0.5, -1)
    reserved = of_object.topk(min(int(object_share * count), tokens.number)).indices
    first = torch.zeros_like(rates).scatter_(1, reserved, 1) * (of_object >= 0)
    return gathered(tokens, (rates + first * (rates.amax() + 1)).topk(count).indices)
