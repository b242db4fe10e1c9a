"""The memory of a video: what each object remembers of past frames."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from stm_fast.errors import RunStateError
from stm_fast.memory.groups import ObjectGroup
from stm_fast.memory.incoming import GroupFrame, IncomingFrame, check_fits, check_frame, truth_values
from stm_fast.memory.listing import MemoryTable
from stm_fast.memory.offload import SPLIT_BYTES
from stm_fast.memory.policies.policy import MemoryPolicy
from stm_fast.memory.readers import LocalReader, Reader
from stm_fast.memory.stores import Store
from stm_fast.memory.tokens import TokenBlock

_GROUP = "arena"
"""Name of groups in saved states."""
_VALUE_DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.int8)


class MemoryBank:
    """Keys and values of O objects in past frames, kept by a policy.

    Objects are rows in the order in which they joined. Objects that joined in the same frame share an `ObjectGroup`:
    one block that is read without a copy. An object that joined later has no memory of earlier frames and takes no room
    for them. With a policy that looks at more than frame numbers, each object has a group of its own, so that an object
    that is away or uncertain does not decide what others remember.

    A network may give the locations of a frame the same keys for all objects, as STCN, XMem and Cutie do. With
    `shared_keys` they are stored once, and objects that joined in the same frame share a group and one affinity under
    every policy. Policies then judge the group as a whole: a token's presence is the largest of its objects', its usage
    counts once, the group's uncertainty is the mean over the objects of which it is known, and a frame annotated for
    one of the objects is annotated for all of them.

    Args:
        policy: which frames stay.
        store: where kept frames move, see `stm_fast.memory.stores`; None keeps them on the device.
        value_dtype: dtype in which values are stored; None for their own. For a network in float32, `torch.bfloat16`
            halves the bytes. `torch.int8`, with one scale per token, halves them again, but each read then decodes the
            values, some frames at a time.
        split_bytes: bytes of keys and values that are gathered before they move to the store.
        reader: how the memory is read; None if it is not shared with other processes. See
            `stm_fast.memory.distributed.ShardedMemory`.
        shared_keys: whether all objects have the same keys.

    Attributes:
        frozen: if True, only annotated and permanent frames are memorised.

    Raises:
        TypeError: values cannot be stored in `value_dtype`.
        ValueError: a store is given with a policy that has a bound or looks at tokens, or with values in int8.
    """

    def __init__(
        self,
        policy: MemoryPolicy | None = None,
        *,
        store: Store | None = None,
        value_dtype: torch.dtype | None = None,
        split_bytes: int = SPLIT_BYTES,
        reader: Reader | None = None,
        shared_keys: bool = False,
    ) -> None:
        self.policy = policy or MemoryPolicy()
        if value_dtype not in (None, *_VALUE_DTYPES):
            raise TypeError(
                f"value_dtype must be None or one of {', '.join(map(str, _VALUE_DTYPES))}, got {value_dtype}"
            )
        if store is not None and (self.policy.bounded or self.policy.looks_at_tokens):
            raise ValueError(
                f"policy must have no bound, no admission and Oldest as its eviction with a store, got {self.policy}"
            )
        if store is not None and value_dtype == torch.int8:
            raise ValueError("value_dtype must not be torch.int8 with a store")
        self.store = store
        self.value_dtype = value_dtype
        self.split_bytes = split_bytes
        self.shared_keys = shared_keys
        self.frozen = False
        self.groups: list[ObjectGroup] = []
        self._reader = reader or LocalReader()
        self._last = -1

    @property
    def part(self) -> str | None:
        """The part of a shared memory that this process holds, such as "0 of 2"; None if the memory is not shared."""
        return self._reader.part

    @property
    def objects(self) -> int:
        """Number of objects O."""
        return sum(group.objects for group in self.groups)

    @property
    def frames(self) -> tuple[int, ...]:
        """Numbers of the frames in memory, sorted."""
        return tuple(sorted({frame for group in self.groups for frame in group.frames}))

    @property
    def tokens(self) -> int:
        """Number of memory tokens of the object that has the most."""
        return max((group.tokens for group in self.groups), default=0)

    @property
    def nbytes(self) -> int:
        """Bytes on the device, free slots included."""
        return sum(group.storage.block.nbytes for group in self.groups)

    @property
    def stored_bytes(self) -> int:
        """Bytes of keys and values in the store."""
        return sum(group.offloaded.nbytes for group in self.groups)

    def wants(self, index: int, *, annotated: bool = False, permanent: bool = False) -> bool:
        """Return whether `memorise` would put such a frame into memory."""
        if self.frozen and not (annotated or permanent):
            return False
        return permanent or self.policy.memorises(index, annotated=annotated)

    def memorise(
        self,
        index: int,
        keys: Tensor,
        values: Tensor,
        *,
        annotated: bool | Sequence[bool] = False,
        permanent: bool = False,
        presence: Tensor | None = None,
        uncertainty: Tensor | None = None,
    ) -> None:
        """Put a frame into memory. It replaces the previous frame unless the policy keeps that one.

        The last frame can be memorised again and replaces itself, even if the first attempt was interrupted.

        Args:
            index: number of the frame, at least that of the last frame memorised.
            keys: `(O, Ck, h, w)`, with the same dtype and device in all frames; `(1, Ck, h, w)` with `shared_keys`.
            values: `(O, Cv, h, w)`, likewise. Rows beyond the known objects are objects that join.
            annotated: whether the frame's masks were given, not predicted; or one truth value for each object. Only
                policies that look at more than frame numbers distinguish groups: a frame is annotated for a group if it
                is for one of its objects. With others, it is annotated for all if one object is.
            permanent: whether the frame stays as annotated ones do, whatever the policy says of them.
            presence: share of each location that the object covers, `(O, h, w)` in [0, 1]. Policies weight tokens by
                it; without it, all count alike.
            uncertainty: uncertainty of each object `(O,)`, see `stm_fast.memory.policies.uncertainty`; NaN where
                unknown, None if unknown for all.

        Raises:
            TypeError: the dtype differs from that of the frames in memory, or an argument has a wrong type.
            ValueError: shapes do not match one another or the memory, the device differs from the memory's, the index
                is below the last one, or frames are too large for a bound of the policy.
            OSError: the store has no room.
        """
        min_objects = max(self.objects, 1)
        check_frame(keys, values, presence, uncertainty, min_objects=min_objects, shared_keys=self.shared_keys)
        if self.groups:
            if index < self._last:
                raise ValueError(
                    f"index must not be below that of the last frame memorised ({self._last}), got {index}"
                )
            check_fits(keys, values, self.groups[0].storage.block, self.groups[0].grid)
        objects = len(values)
        given = truth_values(annotated, objects)
        if not self.policy.looks_at_tokens:
            given = [any(given)] * objects
        if not self.wants(index, annotated=any(given), permanent=permanent):
            return
        known = [math.nan] * objects
        if uncertainty is not None and self.policy.admission is not None:
            known = uncertainty.tolist()
        frame, grid = IncomingFrame(keys, values, presence, given, known), (keys.shape[2], keys.shape[3])
        joining = [frame.of_group(first, last) for first, last in self._joining(self.objects, objects)]
        bytes_per_token = sum(group.storage.block.bytes_per_token for group in self.groups)
        bytes_per_token += sum(TokenBlock.empty(new.tokens, 1, self.value_dtype).bytes_per_token for new in joining)
        max_slots = self.policy.max_slots(grid[0] * grid[1], bytes_per_token, objects, self._reader.processes)
        row = 0
        for group in self.groups:
            group.limit(max_slots)
            of_group = frame.of_group(row, row + group.objects)
            if self.wants(index, annotated=of_group.annotated, permanent=permanent):
                self._put(index, of_group, group, permanent)
            else:
                group.fit()
            row += group.objects
        # Last, because the others have made room within a bound in bytes.
        for new in joining:
            group = ObjectGroup.empty(
                self.policy,
                new.tokens,
                grid,
                value_dtype=self.value_dtype,
                max_slots=max_slots,
                shard=self._reader.shard(len(self.groups)),
                store=self.store,
                split_bytes=self.split_bytes,
            )
            self._put(index, new, group, permanent)
            self.groups.append(group)
        self._last = index

    def remove(self, row: int) -> None:
        """Forget the object in a row. Later rows move up, and its group goes with its last object.

        Raises:
            IndexError: no such row.
        """
        if not 0 <= row < self.objects:
            raise IndexError(f"row must be in 0..{self.objects - 1}, got {row}")
        for group in self.groups:
            if row < group.objects:
                break
            row -= group.objects
        if group.objects > 1:
            group.remove(row)
        else:
            self.groups.remove(group)

    def forget(self, frame: int) -> None:
        """Forget a frame, permanent or not.

        Raises:
            ValueError: the frame is not in memory, has moved to a store, or is the only one that an object remembers.
        """
        holding = [group for group in self.groups if frame in group.frames]
        if not holding:
            raise ValueError(f"frame must be one of {self.frames}, got {frame}")
        if any(group.has_moved(frame) for group in holding):
            raise ValueError(f"frame {frame} has moved to the store: it cannot be forgotten")
        if any(group.tokens == group.tokens_per_frame for group in holding):
            raise ValueError(f"frame {frame} is all that an object remembers: remove the object instead")
        for group in holding:
            group.forget(frame)

    def read(self, query_key: Tensor, *, top_k: int | None = None, backend: str = "auto") -> Tensor:
        """Read each object's memory with the keys of a frame (STM paper, section 3.2).

        Args:
            query_key: `(1, Ck, h, w)`, shared by all objects.
            top_k: number of best memory tokens per location that the softmax is taken over; None for all.
            backend: see `stm_fast.memory_read`.

        Returns:
            Readout `(O, Cv, h, w)`.

        Raises:
            RuntimeError: processes that share the memory are out of step.
            ValueError: the memory is empty, or `top_k` is given for a memory that is read in splits.
        """
        if not self.groups:
            raise ValueError("the memory is empty: memorise a frame before reading")
        self.commit_read()
        return self._reader.read(self.groups, query_key, last=self._last, top_k=top_k, backend=backend)

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return the state that `restore` takes over: tensors by name, and the rest in types of JSON."""
        tensors: dict[str, Tensor] = {}
        groups = []
        for number, group in enumerate(self.groups):
            of_group, rest = group.state()
            tensors |= {f"{_GROUP}{number}.{name}": part for name, part in of_group.items()}
            groups.append(rest)
        rest = {f"{_GROUP}s": groups, "last": self._last, "frozen": self.frozen}
        if self.shared_keys:
            rest["shared_keys"] = True
        return tensors, rest if self.part is None else rest | {"part": self.part}

    def restore(
        self, tensors: dict[str, Tensor], rest: dict[str, Any], device: torch.device | str | None = None
    ) -> None:
        """Take over the state of another memory with the same policy.

        Args:
            tensors: tensors of its `state`.
            rest: the rest of its `state`.
            device: device of the memory; None for that of the tensors.

        Raises:
            RunStateError: the other memory had a store and this one has none, or only one of them has `shared_keys`.
            OSError: the store has no room.
            ValueError: the state belongs to another part of a shared memory.
        """
        if rest.get("part") != self.part:
            raise ValueError(f"rest must be the state of part {self.part}, got that of part {rest.get('part')}")
        if rest.get("shared_keys", False) != self.shared_keys:
            saved, here = ("without", "with") if self.shared_keys else ("with", "without")
            raise RunStateError(f"the memory was saved {saved} shared keys: it cannot be restored {here} them")
        groups = []
        for number, of_group in enumerate(rest[f"{_GROUP}s"]):
            if self.store is None and of_group.get("stored"):
                raise RunStateError("the memory was saved with a store: it cannot be restored without one")
            begin = f"{_GROUP}{number}."
            parts = {name.removeprefix(begin): part for name, part in tensors.items() if name.startswith(begin)}
            where = parts["keys"].device if device is None else torch.device(device)
            groups.append(
                ObjectGroup.from_state(
                    self.policy, parts, of_group, where, store=self.store, split_bytes=self.split_bytes
                )
            )
        self.groups, self._last, self.frozen = groups, rest["last"], rest["frozen"]

    def renumber(self, by: int) -> None:
        """Add `by` to the numbers of all frames, so that another video can continue where this one ended."""
        for group in self.groups:
            group.renumber(by)
        self._last += by

    def commit_read(self) -> None:
        """Keep what the last read added to usage, after its frame has succeeded."""
        for group in self.groups:
            group.counters.commit()

    def roll_back_read(self) -> None:
        """Undo exactly what the last read added to usage, after its frame has failed and before it is repeated."""
        for group in self.groups:
            group.counters.roll_back()

    @property
    def is_full(self) -> bool:
        """Whether the next frame that stays evicts others, for some object."""
        return any(group.is_full for group in self.groups)

    def table(self, names: Sequence[object] | None = None) -> MemoryTable:
        """Return what is in memory: for each group of objects one row per frame, and one for prototypes.

        Args:
            names: names of the objects, such as `Segmenter.objects`; None for their row numbers. Extra names are for
                objects that will join.

        Raises:
            ValueError: there are fewer names than objects.
        """
        names = range(self.objects) if names is None else names
        if len(names) < self.objects:
            raise ValueError(f"names must be one for each of {self.objects} objects, got {len(names)}")
        rows, first = [], 0
        for group in self.groups:
            rows += group.listing(names[first : first + group.objects])
            first += group.objects
        return MemoryTable(tuple(rows))

    def _put(self, index: int, frame: GroupFrame, group: ObjectGroup, permanent: bool) -> None:
        """Put what a frame says of a group's objects into the group."""
        permanent = permanent or self.policy.pins(annotated=frame.annotated)
        kept = permanent or self.policy.keeps(index, annotated=frame.annotated)
        group.memorise(index, frame.tokens, permanent=permanent, kept=kept, uncertainty=frame.uncertainty)

    def _joining(self, first: int, last: int) -> list[tuple[int, int]]:
        """Return where the rows of each new group begin and end, for rows that join."""
        if self.policy.looks_at_tokens and not self.shared_keys:
            return [(row, row + 1) for row in range(first, last)]
        return [(first, last)] if first < last else []
