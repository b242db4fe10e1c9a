"""Protocols: what policies see of a memory, and their parts."""

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor

from stm_fast.memory.frames import Role, Slot
from stm_fast.memory.tokens import Tokens


class ObjectMemory(Protocol):
    """The memory of one object, as its policy sees and changes it.

    With `Oldest` and no admission, and where objects share their keys, it is the memory of all objects that joined in
    one frame. See `stm_fast.memory.tokens.Tokens` for the numbers of rows O and K.
    """

    @property
    def slots(self) -> Sequence[Slot]:
        """The frame in each slot, with its role."""
        ...

    @property
    def uncertainty(self) -> float:
        """Uncertainty of the object in the last frame, see `stm_fast.memory.policies.uncertainty`; NaN if unknown.

        Of several objects, it is the mean of those that are known.
        """
        ...

    @property
    def distances(self) -> dict[tuple[int, int], float]:
        """Measured distances between frames in memory, by pairs of frame numbers; part of a saved state."""
        ...

    @property
    def notes(self) -> dict[str, float]:
        """Other numbers that the policy keeps, by name; part of a saved state."""
        ...

    @property
    def tokens_per_frame(self) -> int:
        """Number of tokens of a frame."""
        ...

    @property
    def prototypes(self) -> Tokens:
        """Prototypes of evicted frames."""
        ...

    @property
    def prototype_room(self) -> int:
        """Largest number of prototypes."""
        ...

    def slots_of(self, role: Role) -> list[int]:
        """Return the slots whose frames have a role."""
        ...

    def tokens_of(self, slot: int) -> Tokens:
        """Return the tokens of the frame in a slot."""
        ...

    def usage_of(self, slot: int) -> float:
        """Return the share of what a location reads that comes from a slot, averaged over reads since it came."""
        ...

    def rates_of(self, tokens: Tokens) -> Tensor:
        """Return how much each token was used per read since it came, `(K, n)`."""
        ...

    def drop(self, slot: int) -> None:
        """Evict the frame in a slot. The last frame takes the slot."""
        ...

    def consolidate(self, slots: Sequence[int], prototypes: Tokens) -> None:
        """Evict the frames in some slots, and replace all prototypes with these."""
        ...


class Admission(Protocol):
    """Decides whether a frame that may stay is kept."""

    def admits(self, memory: ObjectMemory, slot: int) -> bool:
        """Return whether the frame in a slot, which is the last one that came, is worth its room."""
        ...


class Eviction(Protocol):
    """Makes room in a full memory."""

    @property
    def tracks_usage(self) -> bool:
        """Whether reads measure the usage of each token, which takes a fifth of their time."""
        ...

    @property
    def long_term_frames(self) -> float:
        """Room for prototypes of evicted frames, for each object, in frames; 0 for none."""
        ...

    def make_room(self, memory: ObjectMemory) -> None:
        """Evict at least one working frame, and no frame of another role. The memory has a working frame."""
        ...
