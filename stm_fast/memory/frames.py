"""The frame table: which frames are in memory, and in which role."""

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields, replace
from enum import Enum
from typing import Any


class Role(str, Enum):
    """Why a token is in memory."""

    permanent = "permanent"
    """Its frame was annotated or chosen, and stays."""
    working = "working"
    """Its frame stays until the policy evicts it."""
    temporary = "temporary"
    """Its frame is the previous one. The policy decides whether it stays when the next one comes."""
    long_term = "long-term"
    """It is a prototype of frames that were evicted."""
    stored = "stored"
    """Its frame stays and has moved to a store."""


@dataclass(frozen=True)
class Slot:
    """The frame in a slot.

    Attributes:
        frame: its number.
        role: why it is in memory.
        rank: number of the process that holds its tokens, see `Shard`.
    """

    frame: int
    role: Role
    rank: int = 0


@dataclass(frozen=True)
class Shard:
    """The part of a shared memory that this process holds.

    Attributes:
        rank: number of this process.
        size: number of processes.
        begin: rank that takes the first frame.
    """

    rank: int = 0
    size: int = 1
    begin: int = 0


WHOLE = Shard()
"""The whole of a memory that is not shared."""


class FrameTable:
    """Which frames are in memory, in which role, and what policies note about them.

    Frames are in slots, not ordered by time. Processes that share a memory have the same table. A new frame goes to the
    process that holds fewest, so that processes take turns: of F slots, none holds more than F / size, rounded up. A
    process can hold more only for a while after the bound has shrunk.

    Args:
        shard: which of the frames this process holds.
        max_slots: bound on the number of slots; None for no bound.

    Attributes:
        slots: the frame in each slot.
        keeps_temporary: whether the temporary frame may stay when the next one comes.
        uncertainty: uncertainty of the object in the last frame, see `stm_fast.memory.policies.uncertainty`, or its
            mean over the objects of which it is known; NaN where unknown.
        distances: distances between pairs of frames, by their numbers, see `stm_fast.memory.policies.distance`.
        notes: other numbers that a policy keeps, by name.
    """

    def __init__(self, shard: Shard = WHOLE, max_slots: int | None = None) -> None:
        self.shard = shard
        self.max_slots = max_slots
        self.slots: list[Slot] = []
        self.keeps_temporary = False
        self.uncertainty = math.nan
        self.distances: dict[tuple[int, int], float] = {}
        self.notes: dict[str, float] = {}

    def __len__(self) -> int:
        return len(self.slots)

    @property
    def frames(self) -> tuple[int, ...]:
        """Numbers of the frames, in the order of their slots."""
        return tuple(slot.frame for slot in self.slots)

    @property
    def frames_here(self) -> tuple[int, ...]:
        """Numbers of the frames that this process holds, in the order in which they lie in its storage."""
        return tuple(slot.frame for slot in self.slots if slot.rank == self.shard.rank)

    @property
    def held_here(self) -> int:
        """Number of frames that this process holds."""
        return len(self.slots) if self.shard.size == 1 else len(self.frames_here)

    @property
    def max_here(self) -> int | None:
        """Bound on the number of frames that this process holds; None for no bound."""
        return None if self.max_slots is None else -(-self.max_slots // self.shard.size)

    def slots_of(self, role: Role) -> list[int]:
        """Return the slots whose frames have a role."""
        return [number for number, slot in enumerate(self.slots) if slot.role is role]

    def slot_of(self, frame: int) -> int | None:
        """Return the slot of a frame; None if it has none."""
        return next((number for number, slot in enumerate(self.slots) if slot.frame == frame), None)

    def place_of(self, slot: int) -> int | None:
        """Return the place of a slot's frame among those that this process holds; None if another process holds it."""
        if self.shard.size == 1:
            return slot
        if self.slots[slot].rank != self.shard.rank:
            return None
        return sum(other.rank == self.shard.rank for other in self.slots[:slot])

    def successor_of(self, slot: int) -> int:
        """Return the slot whose frame replaces this one's when it is removed: the last slot of the same rank."""
        rank = self.slots[slot].rank
        return max(number for number, other in enumerate(self.slots) if other.rank == rank)

    def next_rank(self) -> int:
        """Return the rank that takes the next frame."""
        size, begin = self.shard.size, self.shard.begin
        held = [sum(slot.rank == rank for slot in self.slots) for rank in range(size)]
        return min(range(size), key=lambda rank: (held[rank], (rank - begin) % size))

    def add(self, frame: int) -> int:
        """Add a frame as the temporary one and return its slot."""
        self.slots.append(Slot(frame, Role.temporary, self.next_rank()))
        return len(self.slots) - 1

    def assign(self, slot: int, role: Role) -> None:
        """Give the frame in a slot a role."""
        self.slots[slot] = replace(self.slots[slot], role=role)

    def remove(self, slot: int) -> None:
        """Remove the frame in a slot; the frame of `successor_of` takes the slot.

        The change is atomic: even after an interruption, each frame is in one slot.
        """
        successor = self.successor_of(slot)
        slots = list(self.slots)
        slots[slot] = slots[successor]
        del slots[successor]
        self.slots = slots
        self._forget_distances({other.frame for other in slots})

    def forget_distances(self, frame: int) -> None:
        """Forget the distances of a frame whose tokens change."""
        self._forget_distances({slot.frame for slot in self.slots} - {frame})

    def clear(self) -> None:
        """Remove all frames."""
        self.slots = []

    def renumber(self, by: int) -> None:
        """Add `by` to the numbers of all frames."""
        self.slots = [replace(slot, frame=slot.frame + by) for slot in self.slots]
        self.distances = {(one + by, other + by): far for (one, other), far in self.distances.items()}

    def state(self) -> dict[str, Any]:
        """Return what `from_state` needs, in types of JSON."""
        state = {
            "slots": [{"frame": slot.frame, "role": slot.role.value} for slot in self.slots],
            "distances": [[*pair, far] for pair, far in self.distances.items()],
            "uncertainty": None if math.isnan(self.uncertainty) else self.uncertainty,
            "notes": dict(self.notes),
            "candidate": self.keeps_temporary,
            "max_slots": self.max_slots,
        }
        if self.shard.size == 1:
            return state
        return state | asdict(self.shard) | {"owners": [slot.rank for slot in self.slots]}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> "FrameTable":
        """Return the table whose `state` this is."""
        shard = Shard(*(state[field.name] for field in fields(Shard))) if "owners" in state else WHOLE
        table = cls(shard, state["max_slots"])
        ranks = state.get("owners", [0] * len(state["slots"]))
        table.slots = [
            Slot(slot["frame"], Role(slot["role"]), rank) for slot, rank in zip(state["slots"], ranks, strict=True)
        ]
        table.distances = {(one, other): far for one, other, far in state["distances"]}
        table.uncertainty = math.nan if state["uncertainty"] is None else state["uncertainty"]
        table.notes = dict(state["notes"])
        table.keeps_temporary = state["candidate"]
        return table

    def _forget_distances(self, staying: Iterable[int]) -> None:
        """Keep only the distances between these frames."""
        if self.distances:
            here = frozenset(staying)
            self.distances = {pair: far for pair, far in self.distances.items() if here.issuperset(pair)}
