"""Which frames a memory keeps (STM paper, section 3.5 and table 4), and what goes when it is full."""

from __future__ import annotations

from dataclasses import dataclass, field
from numbers import Integral
from typing import TYPE_CHECKING, Protocol

from stm_fast.errors import ArgumentError
from stm_fast.memory.tokens import TOKEN_ALIGNMENT, aligned

if TYPE_CHECKING:
    from stm_fast.memory.arena import Arena


class Admission(Protocol):
    """Decides whether a frame that may stay does."""

    def admits(self, arena: Arena, slot: int) -> bool:
        """Whether the frame in a slot, the last one that came, is worth its room."""
        ...


class Eviction(Protocol):
    """Makes room in a memory that is full."""

    @property
    def tracks_usage(self) -> bool:
        """Reads measure how much each token is used, which costs a fifth of their time."""
        ...

    @property
    def long_term_frames(self) -> float:
        """Room for prototypes of frames that have gone, for each object, in frames; 0 for none."""
        ...

    def make_room(self, arena: Arena) -> None:
        """Takes at least one working frame out of a memory that has some. Others are not for it to touch."""
        ...


@dataclass(frozen=True)
class Oldest:
    """The oldest frame goes: a window slides over the last ones."""

    tracks_usage = False
    long_term_frames = 0.0

    def make_room(self, arena: Arena) -> None:
        """See `Eviction.make_room`."""
        from stm_fast.memory.arena import Role

        arena.drop(min(arena.slots_of(Role.working), key=lambda slot: arena.slots[slot].frame))


@dataclass(frozen=True)
class MemoryPolicy:
    """Which frames stay in memory, and how many.

    Two kinds of frames are *kept*: annotated ones, whose masks were given rather than predicted (the first frame above
    all), and every `every`-th one. The previous frame is in memory besides, until the next one takes its place.

    Objects that join later have a memory of their own, to which all bounds but `max_bytes` apply by itself. With an
    admission or another eviction than `Oldest`, each object has one.

    In a memory that is full, `eviction` chooses which periodic frame goes. Annotated frames never fade: they go only
    when there are no others and the bound is reached nevertheless, and the very first one last.

    Attributes:
        every: distance between periodic frames, counted from frame 0; None for none.
        keep_first: annotated frames stay. Otherwise they are frames like all others.
        keep_previous: the previous frame is always in memory.
        max_frames: bound on the number of frames of an object, the previous one included; None for no bound.
        max_tokens: bound on the number of memory tokens of an object, long-term ones included.
        max_bytes: bound on the bytes of all objects together.
        admission: which periodic frames are worth keeping; None for all.
        eviction: which of them go when the memory is full.

    Raises:
        TypeError: a number that is not whole.
        ValueError: a number below its minimum, or neither `keep_first` nor `keep_previous`: an object that appears
            later would not be remembered.
    """

    every: int | None = 5
    keep_first: bool = True
    keep_previous: bool = True
    max_frames: int | None = None
    max_tokens: int | None = None
    max_bytes: int | None = None
    admission: Admission | None = None
    eviction: Eviction = field(default_factory=Oldest)

    def __post_init__(self) -> None:
        for name in ("every", "max_frames", "max_tokens", "max_bytes"):
            number = getattr(self, name)
            if number is not None and not isinstance(number, Integral):
                raise TypeError(f"{name} must be a whole number or None, got {number!r}")
        if self.every is not None and self.every < 1:
            raise ValueError(f"every must be at least 1 or None, got {self.every}")
        if not (self.keep_first or self.keep_previous):
            raise ValueError("one of keep_first and keep_previous must be True, got False for both")
        if self.max_frames is not None and self.max_frames < self.min_frames:
            raise ValueError(
                f"max_frames must be at least {self.min_frames} with this policy or None, got {self.max_frames}"
            )
        for name in ("max_tokens", "max_bytes"):
            bound = getattr(self, name)
            if bound is not None and bound < 1:
                raise ValueError(f"{name} must be at least 1 or None, got {bound}")

    @property
    def min_frames(self) -> int:
        """Frames that the policy cannot do without."""
        return self.keep_first + self.keep_previous

    @property
    def bounded(self) -> bool:
        """Whether there is a bound on the memory."""
        return not (self.max_frames is None and self.max_tokens is None and self.max_bytes is None)

    @property
    def tracks_usage(self) -> bool:
        """Whether reads measure how much each token is used."""
        return self.eviction.tracks_usage

    @property
    def looks_at_tokens(self) -> bool:
        """Whether more than the numbers of frames decides what stays; it does so for each object by itself."""
        return self.admission is not None or not isinstance(self.eviction, Oldest)

    def long_term_tokens(self, tokens_per_frame: int) -> int:
        """Room for long-term tokens of an object, beside frames of so many: a multiple of `TOKEN_ALIGNMENT`."""
        frames = self.eviction.long_term_frames
        return aligned(max(1, round(frames * tokens_per_frame))) if frames else 0

    def memorises(self, index: int, *, annotated: bool) -> bool:
        """Whether frame `index` enters the memory at all."""
        return self.keep_previous or self.keeps(index, annotated=annotated)

    def keeps(self, index: int, *, annotated: bool) -> bool:
        """Whether frame `index` may stay when it is no longer the previous one."""
        return self.pins(annotated=annotated) or (self.every is not None and index % self.every == 0)

    def pins(self, *, annotated: bool) -> bool:
        """Whether a frame stays even when the memory is full."""
        return self.keep_first and annotated

    def admits(self, arena: Arena, slot: int) -> bool:
        """Whether a frame that may stay does."""
        return self.admission is None or self.admission.admits(arena, slot)

    def max_slots(self, tokens_per_frame: int, bytes_per_token: int, objects: int) -> int | None:
        """The bound on the number of frames of each object, for frames and objects of which so much is known.

        Args:
            tokens_per_frame: of one object.
            bytes_per_token: of one object.
            objects: how many there are.

        Returns:
            The bound, or None for no bound.

        Raises:
            ArgumentError: a bound leaves no room for the frames that the policy cannot do without.
        """
        bounds = [] if self.max_frames is None else [self.max_frames]
        of_objects = objects * bytes_per_token
        long_term = self.long_term_tokens(tokens_per_frame)
        # Tokens are counted as they are, bytes as they are allocated.
        for name, bound, unit, step in (
            ("max_tokens", self.max_tokens, 1, 1),
            ("max_bytes", self.max_bytes, of_objects, TOKEN_ALIGNMENT),
        ):
            if bound is None:
                continue
            slots = (bound // (unit * step) * step - long_term) // tokens_per_frame
            if slots < self.min_frames:
                least = unit * aligned(self.min_frames * tokens_per_frame + long_term, step)
                raise ArgumentError(
                    name, f"must be at least {least} for {objects} objects at this size of frames, got {bound}"
                )
            bounds.append(slots)
        return min(bounds, default=None)
