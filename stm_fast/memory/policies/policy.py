"""Which frames a memory keeps (STM paper, section 3.6)."""

from dataclasses import dataclass, field
from numbers import Integral

from stm_fast.errors import ArgumentError
from stm_fast.memory.policies.base import Admission, Eviction, ObjectMemory
from stm_fast.memory.policies.eviction import Oldest
from stm_fast.memory.tokens import TOKEN_ALIGNMENT, aligned


@dataclass(frozen=True)
class MemoryPolicy:
    """Decides which frames stay in memory and how many.

    Two kinds of frames are *kept*: annotated ones, whose masks were given rather than predicted (above all the first
    frame), and every `every`-th one. The previous frame is in memory as well, until the next one takes its place.

    Objects that join later have a separate memory with separate bounds, except for `max_bytes`. With an admission, or
    an eviction other than `Oldest`, each object has its own, unless objects share their keys.

    When a memory is full, `eviction` chooses a periodic frame to evict. Annotated frames are evicted only if there are
    no others and the bound is still reached; the very first one is evicted last.

    Attributes:
        every: distance between periodic frames, counted from frame 0; None for no periodic frames.
        keep_first: whether annotated frames stay; otherwise they are treated like all others.
        keep_previous: whether the previous frame is always in memory.
        max_frames: bound on the number of frames of an object, the previous one included; None for no bound.
        max_tokens: bound on the number of memory tokens of an object, prototypes included.
        max_bytes: bound on the bytes of all objects together.
        admission: which periodic frames are worth keeping; None for all.
        eviction: which of them is evicted when the memory is full.

    Raises:
        TypeError: a number is not whole.
        ValueError: a number is below its minimum, or `keep_first` and `keep_previous` are both False, so that an object
            that appears later would not be remembered.
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
        """Number of frames that the policy cannot do without."""
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
        """Whether the policy looks at more than frame numbers, and so judges objects with keys of their own apart."""
        return self.admission is not None or not isinstance(self.eviction, Oldest)

    def long_term_tokens(self, tokens_per_frame: int) -> int:
        """Return the room for prototypes of an object, in tokens: a multiple of `TOKEN_ALIGNMENT`."""
        frames = self.eviction.long_term_frames
        return aligned(max(1, round(frames * tokens_per_frame))) if frames else 0

    def memorises(self, index: int, *, annotated: bool) -> bool:
        """Return whether frame `index` enters the memory at all."""
        return self.keep_previous or self.keeps(index, annotated=annotated)

    def keeps(self, index: int, *, annotated: bool) -> bool:
        """Return whether frame `index` may stay when it is no longer the previous one."""
        return self.pins(annotated=annotated) or (self.every is not None and index % self.every == 0)

    def pins(self, *, annotated: bool) -> bool:
        """Return whether a frame stays even when the memory is full."""
        return self.keep_first and annotated

    def admits(self, memory: ObjectMemory, slot: int) -> bool:
        """Return whether a frame that may stay does."""
        return self.admission is None or self.admission.admits(memory, slot)

    def max_slots(self, tokens_per_frame: int, bytes_per_token: int, objects: int, processes: int = 1) -> int | None:
        """Return the bound on the number of frames of each object; None for no bound.

        Args:
            tokens_per_frame: number of tokens of a frame, of one object.
            bytes_per_token: bytes of a token, of all objects together.
            objects: number of objects.
            processes: number of processes that share the memory; `max_tokens` and `max_bytes` bound what each holds.

        Raises:
            ArgumentError: a bound leaves no room for the frames that the policy cannot do without.
        """
        bounds = [] if self.max_frames is None else [self.max_frames]
        long_term = self.long_term_tokens(tokens_per_frame)
        # Tokens are counted as they are, bytes as they are allocated.
        for name, bound, unit, step in (
            ("max_tokens", self.max_tokens, 1, 1),
            ("max_bytes", self.max_bytes, bytes_per_token, TOKEN_ALIGNMENT),
        ):
            if bound is None:
                continue
            slots = (bound // (unit * step) * step - long_term) // tokens_per_frame
            if slots < self.min_frames:
                needed = unit * aligned(self.min_frames * tokens_per_frame + long_term, step)
                raise ArgumentError(
                    name, f"must be at least {needed} for {objects} objects at this size of frames, got {bound}"
                )
            bounds.append(slots * processes)
        return min(bounds, default=None)
