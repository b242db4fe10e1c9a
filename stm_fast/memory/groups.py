"""The memory of an object, or of several that joined in one frame."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from stm_fast.memory.frames import FrameTable, Role, Shard, Slot
from stm_fast.memory.listing import MemoryRow
from stm_fast.memory.offload import OffloadedFrames
from stm_fast.memory.policies.policy import MemoryPolicy
from stm_fast.memory.storage import TokenStorage
from stm_fast.memory.stores import Store
from stm_fast.memory.tokens import TokenBlock, Tokens
from stm_fast.memory.usage import UsageCounters


class ObjectGroup:
    """Keys and values of O objects that joined in one frame.

    O is 1 if the policy looks at tokens and each object has keys of its own. There are K rows of keys: O, or 1 if all
    objects share them. Policies then judge the group as a whole, see `Tokens`.

    It is a `stm_fast.memory.policies.ObjectMemory`, and composed of the attributes below.

    Attributes:
        policy: which frames stay.
        table: which frames are on the device, in which role.
        storage: their tokens.
        counters: how much the tokens are used.
        offloaded: frames that have moved to a store.
    """

    def __init__(
        self,
        policy: MemoryPolicy,
        table: FrameTable,
        storage: TokenStorage,
        counters: UsageCounters,
        offloaded: OffloadedFrames,
    ) -> None:
        self.policy = policy
        self.table = table
        self.storage = storage
        self.counters = counters
        self.offloaded = offloaded
        self._consolidating: tuple[Tokens, list[int]] | None = None

    @classmethod
    def empty(
        cls,
        policy: MemoryPolicy,
        first: Tokens,
        grid: tuple[int, int],
        *,
        value_dtype: torch.dtype | None,
        max_slots: int | None,
        shard: Shard,
        store: Store | None,
        split_bytes: int,
    ) -> "ObjectGroup":
        """Return a group without frames.

        Args:
            policy: which frames stay.
            first: tokens of the first frame. They are not written yet.
            grid: height and width of a frame in tokens.
            value_dtype: dtype in which values are stored; None for their own.
            max_slots: bound on the number of slots; None for no bound.
            shard: which of the frames this process holds.
            store: see `OffloadedFrames`.
            split_bytes: see `OffloadedFrames`.
        """
        table = FrameTable(shard, max_slots)
        room = policy.long_term_tokens(grid[0] * grid[1])
        storage = TokenStorage.empty(table, first, grid, room, value_dtype)
        offloaded = OffloadedFrames(store, split_bytes, storage.objects, storage.tokens_per_frame)
        return cls(policy, table, storage, UsageCounters(storage), offloaded)

    @classmethod
    def from_state(
        cls,
        policy: MemoryPolicy,
        tensors: dict[str, Tensor],
        rest: dict[str, Any],
        device: torch.device,
        *,
        store: Store | None,
        split_bytes: int,
    ) -> "ObjectGroup":
        """Return the group whose `state` this is, on a device. The tensors may be on another device.

        Args:
            policy: which frames stay.
            tensors: tensors of `state`.
            rest: likewise.
            device: device of the group.
            store: see `OffloadedFrames`. The state may come from a group without one.
            split_bytes: likewise.

        Raises:
            OSError: the store has no room.
        """
        grid = (rest["grid"][0], rest["grid"][1])
        tokens_per_frame = grid[0] * grid[1]
        offloaded = OffloadedFrames(store, split_bytes, len(tensors["values"]), tokens_per_frame)
        tensors, rest = offloaded.restore(tensors, rest)
        table = FrameTable.from_state(rest)
        block = TokenBlock.of(tensors, getattr(torch, rest["read_dtype"]))
        room = policy.long_term_tokens(tokens_per_frame)
        storage = TokenStorage.restored(table, block, grid, room, rest["long_term"], device)
        return cls(policy, table, storage, UsageCounters(storage, rest["reads"]), offloaded)

    @property
    def objects(self) -> int:
        """Number of objects O."""
        return self.storage.objects

    @property
    def grid(self) -> tuple[int, int]:
        """Height and width of a frame in tokens."""
        return self.storage.grid

    @property
    def frames(self) -> tuple[int, ...]:
        """Numbers of the frames in memory; those in slots come last, in the order of the slots."""
        return (*self.offloaded.frames, *self.table.frames)

    @property
    def tokens(self) -> int:
        """Number of memory tokens of an object, wherever they are."""
        return self.storage.prototypes + len(self.frames) * self.tokens_per_frame

    @property
    def keys(self) -> Tensor:
        """Keys `(K, Ck, N)` of all tokens that this process has on the device, prototypes first; a view."""
        return self.storage.keys

    @property
    def values(self) -> Tensor:
        """Values `(O, Cv, N)`, likewise; a view unless they are stored in int8."""
        return self.storage.values

    @property
    def is_full(self) -> bool:
        """Whether the next frame that stays evicts others."""
        return self.table.max_slots is not None and len(self.slots) >= self.table.max_slots

    def listing(self, objects: Sequence[object]) -> list[MemoryRow]:
        """Return what is in memory, in order of time, prototypes last.

        Args:
            objects: names of the objects.
        """
        stored = [self._row(frame, Role.stored, objects) for frame in sorted(self.offloaded.frames)]
        slots = sorted(range(len(self.slots)), key=lambda slot: self.slots[slot].frame)
        held = [
            self._row(
                self.slots[slot].frame,
                self.slots[slot].role,
                objects,
                usage=self.usage_of(slot) if self.policy.tracks_usage else None,
            )
            for slot in slots
        ]
        if not self.storage.prototypes:
            return stored + held
        prototypes = slice(self.storage.begin, self.storage.prototype_room)
        usage = self.counters.share(prototypes)
        return [*stored, *held, self._row(None, Role.long_term, objects, self.storage.prototypes, usage)]

    def limit(self, max_slots: int | None) -> None:
        """Set the bound on the number of slots. The next frame or `fit` evicts frames beyond it."""
        self.table.max_slots = max_slots

    def fit(self) -> None:
        """Evict what is beyond the bound."""
        self._make_room(0)
        self.storage.reserve()

    def memorise(
        self, index: int, tokens: Tokens, *, permanent: bool, kept: bool, uncertainty: float = math.nan
    ) -> None:
        """Put a frame into memory, and decide whether the previous one stays.

        Args:
            index: number of the frame, not below that of the last one.
            tokens: of the frame.
            permanent: the frame stays as long as there are others to evict.
            kept: the frame may stay when the next one comes.
            uncertainty: of the object, or the mean over those that are known; NaN where unknown.

        Raises:
            OSError: the store has no room.
        """
        self._finish_consolidation()
        slot = self.table.slot_of(index)
        if slot is not None:
            self.fit()
            slot = self.table.slot_of(index)
        if slot is None:
            full = self.offloaded.takes(len(self.slots) * self._frame_bytes)
            self._settle()
            if full and self.slots:
                self.offloaded.move(self.table, self.storage)
            if not self._make_room(1, permanent=permanent):
                self.storage.reserve()
                return
            self.storage.reserve(more=self.table.next_rank() == self.table.shard.rank)
            slot = self.table.add(index)
        self.table.forget_distances(index)
        self.storage.write(slot, tokens._replace(born=torch.full_like(tokens.born, self.counters.reads)))
        self.table.assign(slot, Role.permanent if permanent else Role.temporary)
        self.table.keeps_temporary = kept
        self.table.uncertainty = uncertainty

    def has_moved(self, frame: int) -> bool:
        """Return whether a frame is in a store."""
        return frame in self.offloaded.frames

    def remove(self, row: int) -> None:
        """Forget an object. What is known of tokens that it shares with others stays, such as their presence."""
        self.table.distances.clear()
        with self._mode():
            self.storage.keep_objects([other for other in range(self.objects) if other != row])
        self.offloaded.remove(row)

    def forget(self, frame: int) -> None:
        """Forget a frame in a slot, whatever its role; its prototypes stay."""
        slot = self.table.slot_of(frame)
        assert slot is not None, f"frame {frame} is in no slot"
        with self._mode():
            self.drop(slot)

    def renumber(self, by: int) -> None:
        """Add `by` to the numbers of all frames."""
        self.table.renumber(by)
        self.offloaded.renumber(by)

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return the state from which `from_state` makes an equal group: tensors, and the rest in types of JSON."""
        with self._mode():
            self._finish_consolidation()
        block, tokens = self.storage.block, slice(self.storage.begin, self.storage.end)
        tensors = {name: part[..., tokens] for name, part in block.tensors().items()}
        stored, offloaded = self.offloaded.state()
        rest = {
            "grid": list(self.grid),
            "reads": self.counters.reads,
            "long_term": self.storage.prototypes,
            "read_dtype": str(block.read_dtype).removeprefix("torch."),
        }
        return tensors | stored, self.table.state() | rest | offloaded

    # What policies see and change; see `stm_fast.memory.policies.ObjectMemory`.

    @property
    def slots(self) -> Sequence[Slot]:
        """The frame in each slot, with its role."""
        return self.table.slots

    @property
    def uncertainty(self) -> float:
        """Uncertainty of the object in the last frame, or its mean over those that are known; NaN where unknown."""
        return self.table.uncertainty

    @property
    def distances(self) -> dict[tuple[int, int], float]:
        """Measured distances between frames, by pairs of frame numbers."""
        return self.table.distances

    @property
    def notes(self) -> dict[str, float]:
        """Other numbers that the policy keeps."""
        return self.table.notes

    @property
    def tokens_per_frame(self) -> int:
        """Number of tokens h·w of a frame."""
        return self.storage.tokens_per_frame

    @property
    def prototypes(self) -> Tokens:
        """Prototypes of evicted frames."""
        return self.storage.prototype_tokens()

    @property
    def prototype_room(self) -> int:
        """Largest number of prototypes."""
        return self.storage.prototype_room

    def slots_of(self, role: Role) -> list[int]:
        """Return the slots whose frames have a role."""
        return self.table.slots_of(role)

    def tokens_of(self, slot: int) -> Tokens:
        """Return the tokens of the frame in a slot."""
        return self.storage.frame(slot)

    def usage_of(self, slot: int) -> float:
        """Return the share of what a location reads that comes from a slot, averaged over objects and reads."""
        return self.counters.share(self.storage.range_of(slot))

    def rates_of(self, tokens: Tokens) -> Tensor:
        """Return how much each token was used per read since it came, `(K, n)`."""
        return self.counters.rates(tokens)

    def drop(self, slot: int) -> None:
        """Evict the frame in a slot. The last frame takes the slot."""
        self.storage.remove(slot)

    def consolidate(self, slots: Sequence[int], prototypes: Tokens) -> None:
        """Evict the frames in some slots, and replace all prototypes with these."""
        self._consolidating = prototypes, [self.slots[slot].frame for slot in sorted(slots, reverse=True)]
        self._finish_consolidation()

    def _finish_consolidation(self) -> None:
        """Write new prototypes and evict the frames that they are made of, unless this is done.

        After an interruption, by the user or because memory ran out, the same frames must not become prototypes twice.
        """
        if self._consolidating is None:
            return
        prototypes, frames = self._consolidating
        self.storage.write_prototypes(prototypes)
        for frame in frames:
            slot = self.table.slot_of(frame)
            if slot is not None:
                self.drop(slot)
        self._consolidating = None

    def _settle(self) -> None:
        """Keep the temporary frame if the policy wants it, and evict it otherwise."""
        for slot in self.slots_of(Role.temporary):
            # An admission may count the frames that it judges, so this one is not judged again after an interruption.
            self.table.keeps_temporary = self.table.keeps_temporary and self.policy.admits(self, slot)
            if self.table.keeps_temporary:
                self.table.assign(slot, Role.working)
            else:
                self.drop(slot)

    def _make_room(self, coming: int, *, permanent: bool = False) -> bool:
        """Make room for `coming` frames; return False if only a permanent frame is left and these are not permanent."""
        while self.table.max_slots is not None and len(self.slots) + coming > self.table.max_slots:
            held = len(self.slots)
            if self.slots_of(Role.working):
                self.policy.eviction.make_room(self)
                if len(self.slots) >= held:
                    raise RuntimeError(f"eviction {self.policy.eviction} made no room in a memory of {held} frames")
            elif held > 1:
                # The very first frame, whose masks the user drew, is the last to go.
                self.forget(sorted(self.table.frames)[1])
            elif permanent:
                self.drop(0)
            else:
                return False
        return True

    @property
    def _frame_bytes(self) -> int:
        """Bytes of a frame of all objects."""
        return self.tokens_per_frame * self.storage.block.bytes_per_token

    def _mode(self) -> torch.inference_mode:
        """Return the mode in which the block was made: inference tensors can be changed only in inference mode."""
        return torch.inference_mode(self.storage.block.keys.is_inference())

    def _row(
        self,
        frame: int | None,
        role: Role,
        objects: Sequence[object],
        tokens: int | None = None,
        usage: float | None = None,
    ) -> MemoryRow:
        """Return a row of `listing` with so many tokens per object; by default those of a frame."""
        tokens = self.tokens_per_frame if tokens is None else tokens
        nbytes = tokens * self.storage.block.bytes_per_token
        return MemoryRow(frame, role.value, tuple(objects), tokens, nbytes, usage)
