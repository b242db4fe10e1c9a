"""What an object remembers, or some that joined together: frames and prototypes, in one block for one read."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from enum import Enum
from typing import Any

import torch
from torch import Tensor

from stm_fast.memory.parts import Part, read_in_parts
from stm_fast.memory.policies import MemoryPolicy
from stm_fast.memory.tokens import TOKEN_ALIGNMENT, TokenBlock, Tokens, aligned, gathered, joined
from stm_fast.ops import autograd, memory_read, similarity

_FIRST_CAPACITY = 8
_GROWTH = 1.5
_SLOTS_AT_ONCE = 8


class Role(str, Enum):
    """Why a token is in memory."""

    permanent = "permanent"
    """Its frame stays: it was annotated, or chosen."""
    working = "working"
    """Its frame is kept until the policy lets another one have its place."""
    temporary = "temporary"
    """Its frame was the last one, and stays or goes when the next one comes."""
    long_term = "long-term"
    """It is a prototype of frames that have gone."""
    stored = "stored"
    """Its frame stays, and has moved to a store."""


@dataclass(frozen=True)
class Slot:
    """The frame in a slot."""

    frame: int
    role: Role


@dataclass(frozen=True)
class Holding:
    """Something in memory.

    Attributes:
        frame: its number; None for prototypes.
        role: why it is there.
        tokens: of each object.
        usage: share of what a location reads that comes from here, on average over objects and over the reads since it
            came; None if the policy does not measure it.
    """

    frame: int | None
    role: Role
    tokens: int
    usage: float | None = None


class Arena:
    """Keys and values of O objects that joined in the same frame, kept by a policy; of one, if it looks at tokens.

    Frames lie in slots one after the other, in no order of time, which a softmax over all of them does not see.
    Long-term prototypes lie before the first slot, the last of them next to it: whatever there is of both is one range
    of tokens, and one read. A block without bound grows by half when it is full, so a frame costs one copy of itself
    and, on average, at most three more; one with a bound is allocated once.

    Policies look at `slots`, `usage_of`, `tokens_of`, `distances` and `uncertainty`, and act by `drop` and
    `consolidate`.

    Args:
        policy: which frames stay.
        first: tokens of the first frame; nothing is written yet.
        grid: height and width of a frame in tokens.
        value_dtype: what values are stored in; None for the dtype they come in.
        max_slots: bound on the number of slots; None for none. See `limit`.

    Attributes:
        slots: the frame in each slot.
        distances: how far frames are from one another, by pairs of their numbers; kept here for policies that measure
            it, see `stm_fast.memory.novelty`.
        uncertainty: of the object in the last frame, see `stm_fast.memory.certainty`; NaN if it is not known.
        notes: what else a policy keeps of the video, by names of its own.
        reads: number of reads so far.
    """

    def __init__(
        self,
        policy: MemoryPolicy,
        first: Tokens,
        grid: tuple[int, int],
        value_dtype: torch.dtype | None = None,
        max_slots: int | None = None,
    ) -> None:
        self.policy = policy
        self.grid = grid
        self.max_slots = max_slots
        self.slots: list[Slot] = []
        self.distances: dict[tuple[int, int], float] = {}
        self.uncertainty = math.nan
        self.notes: dict[str, float] = {}
        self.reads = 0
        self._long_term = 0
        self._candidate = False
        self._unsettled: tuple[int, Tensor | None] | None = None
        self._consolidated: tuple[Tokens, list[int]] | None = None
        self.block = TokenBlock.empty(first, self._capacity(max_slots or _FIRST_CAPACITY), value_dtype)

    @property
    def objects(self) -> int:
        """Number of objects O."""
        return self.block.keys.shape[0]

    @property
    def tokens(self) -> int:
        """Number of memory tokens of an object."""
        return self._long_term + len(self.slots) * self.tokens_per_frame

    @property
    def tokens_per_frame(self) -> int:
        """Number of tokens h·w of a frame."""
        return self.grid[0] * self.grid[1]

    @property
    def prototypes(self) -> Tokens:
        """Long-term tokens."""
        return self.block.get(self._begin, self._base)

    @property
    def stored_bytes(self) -> int:
        """Bytes that have moved to a store."""
        return 0

    @property
    def bytes_per_token(self) -> int:
        """Bytes of a token of one object."""
        return self.block.bytes_per_token

    @property
    def frames(self) -> tuple[int, ...]:
        """Numbers of the frames in memory; the last ones are those in the slots, in their order."""
        return tuple(slot.frame for slot in self.slots)

    @property
    def holdings(self) -> list[Holding]:
        """All there is, in order of time, prototypes last."""
        slots = sorted(range(len(self.slots)), key=lambda number: self.slots[number].frame)
        frames = [
            Holding(self.slots[number].frame, self.slots[number].role, self.tokens_per_frame, self._share(number))
            for number in slots
        ]
        if not self._long_term:
            return frames
        return [*frames, Holding(None, Role.long_term, self._long_term, self._share_of(self._begin, self._base))]

    @property
    def keys(self) -> Tensor:
        """Keys of all tokens `(O, Ck, N)`, prototypes first; a view."""
        return self.block.keys[..., self._begin : self._end]

    @property
    def values(self) -> Tensor:
        """Values of all tokens `(O, Cv, N)`, likewise; a view, but for values stored in int8."""
        return self.block.values_to_read(self._begin, self._end)

    def slots_of(self, role: Role) -> list[int]:
        """Slots whose frames have a role."""
        return [number for number, slot in enumerate(self.slots) if slot.role is role]

    def limit(self, max_slots: int | None) -> None:
        """Sets the bound on the number of slots. What is too much goes with the next frame, or by `fit`."""
        self.max_slots = max_slots

    def fit(self) -> None:
        """Lets go what is beyond the bound, without a frame that comes."""
        self._make_room(0)
        self._reserve(self._held)

    def memorise(
        self, index: int, tokens: Tokens, *, permanent: bool, kept: bool, uncertainty: float = math.nan
    ) -> None:
        """Puts a frame into memory. The one before it stays or goes now.

        Args:
            index: number of the frame, that of the last one or above.
            tokens: of the frame.
            permanent: the frame stays as long as there are others to go.
            kept: the frame may stay when the next one comes.
            uncertainty: of the object; NaN if it is not known.
        """
        self._finish_consolidation()
        if self._slot_of(index) is not None:
            self.fit()
        number = self._slot_of(index)
        if number is None:
            self._settle()
            if not self._make_room(1, permanent=permanent):
                self._reserve(self._held)
                return
            number = self._new_slot(index)
        self.distances = {pair: far for pair, far in self.distances.items() if index not in pair}
        self._write(number, tokens._replace(born=torch.full_like(tokens.born, self.reads)))
        self.slots[number] = Slot(index, Role.permanent if permanent else Role.temporary)
        self._candidate = kept
        self.uncertainty = uncertainty

    def read(self, query_key: Tensor, *, top_k: int | None = None, backend: str = "auto") -> Tensor:
        """Readout `(O, Cv, h, w)` of a query key `(1, Ck, h, w)` that the objects share."""
        query_key = query_key.expand(self.objects, -1, -1, -1)
        if self.block.scales is None:
            value, usage, _ = memory_read(
                query_key,
                self.keys,
                self.values,
                top_k=top_k,
                return_usage=self.policy.tracks_usage,
                return_lse=True,
                backend=backend,
            )
        else:
            if top_k is not None:
                raise ValueError(f"top_k must be None for a memory with values in int8, got {top_k}")
            value, lse = read_in_parts(query_key, self.block.values.shape[1], self._in_parts(), backend)
            usage = self._usage(query_key, lse, backend) if self.policy.tracks_usage else None
        seen = self.block.usage[..., self._begin : self._end]
        self._unsettled = self.reads, None if usage is None else seen.clone()
        self.reads += 1
        if usage is not None:
            seen += usage
        return value.to(self.block.read_dtype)

    def settle_read(self) -> None:
        """From here on `undo_read` does not take back the last read."""
        self._unsettled = None

    def undo_read(self) -> None:
        """Takes back what the last read added to usage; to be called before anything else changes."""
        if self._unsettled is None:
            return
        self.reads, usage = self._unsettled
        self._unsettled = None
        if usage is not None:
            with self._mode():
                self.block.usage[..., self._begin : self._end] = usage

    def has_moved(self, frame: int) -> bool:
        """Whether a frame in memory is in no slot, because it has moved to a store."""
        return frame in self.frames and self._slot_of(frame) is None

    def remove(self, row: int) -> None:
        """Forgets an object."""
        self.distances.clear()
        with self._mode():
            self.block = self.block.of_rows([other for other in range(self.objects) if other != row])

    def forget(self, frame: int) -> None:
        """Forgets a frame, whatever its role; prototypes that it left stay."""
        number = self._slot_of(frame)
        assert number is not None, f"frame {frame} is in no slot"
        with self._mode():
            self.drop(number)

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """What makes an equal arena by `from_state`: tensors, and all else as JSON has it."""
        with self._mode():
            self._finish_consolidation()
        tensors = {name: part[..., self._begin : self._end] for name, part in self.block.tensors().items()}
        return tensors, {
            "slots": [asdict(slot) for slot in self.slots],
            "distances": [[*pair, far] for pair, far in self.distances.items()],
            "uncertainty": None if math.isnan(self.uncertainty) else self.uncertainty,
            "notes": dict(self.notes),
            "grid": list(self.grid),
            "reads": self.reads,
            "long_term": self._long_term,
            "candidate": self._candidate,
            "max_slots": self.max_slots,
            "read_dtype": str(self.block.read_dtype).removeprefix("torch."),
        }

    @classmethod
    def from_state(
        cls, policy: MemoryPolicy, tensors: dict[str, Tensor], rest: dict[str, Any], device: torch.device
    ) -> "Arena":
        """The arena whose `state` this is, on a device; the tensors may be on another one."""
        arena = cls.__new__(cls)
        arena._restore(policy, tensors, rest, device)
        return arena

    def renumber(self, by: int) -> None:
        """Adds a number to those of all frames."""
        self.slots = [replace(slot, frame=slot.frame + by) for slot in self.slots]
        self.distances = {(one + by, other + by): far for (one, other), far in self.distances.items()}

    # What policies see and do.

    def tokens_of(self, slot: int) -> Tokens:
        """The tokens of a slot."""
        first = self._place(slot)
        return self.block.get(first, first + self.tokens_per_frame)

    def usage_of(self, slot: int) -> float:
        """Share of what a location reads that comes from a slot, on average over objects and reads since it came."""
        first = self._place(slot)
        return self._share_of(first, first + self.tokens_per_frame)

    def drop(self, slot: int) -> None:
        """Forgets the frame in a slot; the last one takes its place."""
        last = len(self.slots) - 1
        if slot != last:
            self.block.copy(self._place(last), self._place(slot), self.tokens_per_frame)
        # At once: who is interrupted and tries again finds each frame in one slot.
        self.slots = [self.slots[last] if number == slot else self.slots[number] for number in range(last)]
        if self.distances:
            here = {slot.frame for slot in self.slots}
            self.distances = {pair: far for pair, far in self.distances.items() if here.issuperset(pair)}

    def consolidate(self, slots: Sequence[int], prototypes: int, object_share: float) -> None:
        """Puts prototypes in place of some frames (XMem paper, section 3.3).

        Those tokens become prototypes that were used most; their new values are what their keys read from all the
        frames. When there is no room for them, the prototypes used least go.

        Args:
            slots: where the frames are.
            prototypes: number of them for each object. Above `TOKEN_ALIGNMENT` it is rounded down to a multiple, so
                that reads begin at an aligned token.
            object_share: part of the prototypes that is left to tokens where the object is, as long as there are any.
        """
        tokens = joined([self.tokens_of(slot) for slot in slots])
        prototypes = min(prototypes, tokens.number, self._base)
        if prototypes > TOKEN_ALIGNMENT:
            prototypes -= prototypes % TOKEN_ALIGNMENT
        chosen = self._most_used(tokens, prototypes, object_share)
        values = memory_read(chosen.keys, tokens.keys, tokens.values)
        held = self.block.get(self._begin, self._base)
        if held.number > self._base - prototypes:
            held = self._most_used(held, self._base - prototypes, object_share)
        held = joined([chosen._replace(values=values), held])
        self._consolidated = held, [self.slots[slot].frame for slot in sorted(slots, reverse=True)]
        self._finish_consolidation()

    def _finish_consolidation(self) -> None:
        """Writes new prototypes and lets the frames go that they are made of; what is done already does no harm.

        An interruption on the way, for want of memory or by the user, must not make prototypes of the same frames
        twice.
        """
        if self._consolidated is None:
            return
        held, frames = self._consolidated
        self.block.put(self._base - held.number, held)
        self._long_term = held.number
        for frame in frames:
            slot = self._slot_of(frame)
            if slot is not None:
                self.drop(slot)
        self._consolidated = None

    # Where things are.

    def _restore(
        self, policy: MemoryPolicy, tensors: dict[str, Tensor], rest: dict[str, Any], device: torch.device
    ) -> None:
        self.policy = policy
        self.grid = (rest["grid"][0], rest["grid"][1])
        self.max_slots = rest["max_slots"]
        self.slots = [Slot(slot["frame"], Role(slot["role"])) for slot in rest["slots"]]
        self.distances = {(one, other): far for one, other, far in rest["distances"]}
        self.uncertainty = math.nan if rest["uncertainty"] is None else rest["uncertainty"]
        self.notes = dict(rest["notes"])
        self.reads = rest["reads"]
        self._long_term = rest["long_term"]
        self._candidate = rest["candidate"]
        self._unsettled = None
        self._consolidated = None
        scales = tensors.get("scales")
        parts = {name: part for name, part in tensors.items() if name != "scales"}
        block = TokenBlock(**parts, scales=scales, read_dtype=getattr(torch, rest["read_dtype"]))
        frames = max(self._max_held or _FIRST_CAPACITY, self._held)
        self.block = block.resized(0, block.capacity, self._begin, self._capacity(frames), device)

    @property
    def _base(self) -> int:
        """Place of the first slot: the room for prototypes is before it."""
        return self.policy.long_term_tokens(self.tokens_per_frame)

    @property
    def _begin(self) -> int:
        return self._base - self._long_term

    @property
    def _end(self) -> int:
        return self._capacity(self._held)

    @property
    def _held(self) -> int:
        """Number of frames that lie in the block."""
        return len(self.slots)

    @property
    def _max_held(self) -> int | None:
        """Bound on that number; None for none."""
        return self.max_slots

    def _place(self, slot: int) -> int:
        """Where the frame of a slot lies in the block."""
        return self._capacity(slot)

    def _capacity(self, frames: int) -> int:
        """Tokens of a block for so many frames."""
        return self._base + frames * self.tokens_per_frame

    def _write(self, slot: int, tokens: Tokens) -> None:
        self.block.put(self._place(slot), tokens)

    def _mode(self) -> torch.inference_mode:
        """The mode in which the block was made: inference tensors are changed in no other."""
        return torch.inference_mode(self.block.keys.is_inference())

    def _slot_of(self, frame: int) -> int | None:
        return next((number for number, slot in enumerate(self.slots) if slot.frame == frame), None)

    def _settle(self) -> None:
        """The last frame stays if the policy wants it."""
        for slot in self.slots_of(Role.temporary):
            # An admission may count the frames that it judges: one that is interrupted here is not judged again.
            self._candidate = self._candidate and self.policy.admits(self, slot)
            if self._candidate:
                self.slots[slot] = replace(self.slots[slot], role=Role.working)
            else:
                self.drop(slot)

    def _make_room(self, coming: int, *, permanent: bool = False) -> bool:
        """Room for so many more frames; False if there is none, as all frames are permanent and those are not."""
        while self.max_slots is not None and len(self.slots) + coming > self.max_slots:
            held = len(self.slots)
            if self.slots_of(Role.working):
                self.policy.eviction.make_room(self)
                if len(self.slots) >= held:
                    raise RuntimeError(f"eviction {self.policy.eviction} made no room in a memory of {held} frames")
            elif len(self.slots) > 1:
                # The very first frame, whose masks the user drew, is the last to go.
                self.forget(sorted(slot.frame for slot in self.slots)[1])
            elif permanent:
                self.drop(0)
            else:
                return False
        return True

    def _new_slot(self, frame: int) -> int:
        """A slot for one more frame, in a block that has room for it."""
        self._reserve(self._held + 1)
        self.slots.append(Slot(frame, Role.temporary))
        return len(self.slots) - 1

    def _reserve(self, frames: int) -> None:
        """Makes the block large enough for so many frames, or as large as a bound allows."""
        most = self._max_held
        wanted = aligned(self._capacity(frames if most is None else max(most, frames)))
        if wanted > self.block.capacity or (most is not None and wanted < self.block.capacity):
            if most is None:
                wanted = self._capacity(int(_GROWTH * (self.block.capacity - self._base) // self.tokens_per_frame))
            self.block = self.block.resized(self._begin, self._end, self._begin, wanted)

    def _share(self, slot: int) -> float | None:
        return self.usage_of(slot) if self.policy.tracks_usage else None

    def _share_of(self, first: int, last: int) -> float:
        rates = self._rates(self.block.usage[:, first:last], self.block.born[:, first:last])
        return float(rates.sum(1).mean()) / self.tokens_per_frame

    def _rates(self, usage: Tensor, born: Tensor) -> Tensor:
        """How much each token was used in a read, `(O, n)`."""
        return usage / (self.reads - born).clamp(min=1)

    def _most_used(self, tokens: Tokens, count: int, object_share: float) -> Tokens:
        """Those used most, of which a share is where the object is."""
        rates = self._rates(tokens.usage, tokens.born)
        there = rates.masked_fill(tokens.presence < 0.5, -1)
        reserved = there.topk(min(int(object_share * count), tokens.number)).indices
        first = torch.zeros_like(rates).scatter_(1, reserved, 1) * (there >= 0)
        return gathered(tokens, (rates + first * (rates.amax() + 1)).topk(count).indices)

    def _in_parts(self) -> Iterator[Part]:
        """All tokens, some at a time, with decoded values."""
        step = _SLOTS_AT_ONCE * self.tokens_per_frame
        for first in range(self._begin, self._end, step):
            last = min(first + step, self._end)
            yield Part(slice(None), self.block.keys[..., first:last], self.block.values_to_read(first, last))

    def _usage(self, query_key: Tensor, lse: Tensor, backend: str) -> Tensor:
        """Usage `(O, N)` of all tokens by queries whose log-sum-exp over all of them is known."""
        operands = similarity.dot(query_key.flatten(2), self.keys, query_key.shape[1] ** -0.5)
        return autograd.usage(operands, lse.flatten(1), backend)
