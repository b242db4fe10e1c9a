"""The memory of a video: what each object remembers of past frames."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from stm_fast.errors import RunStateError
from stm_fast.memory.arena import Arena
from stm_fast.memory.offload import PART_BYTES, OffloadedArena, Store
from stm_fast.memory.policies import MemoryPolicy
from stm_fast.memory.table import MemoryTable, rows_of
from stm_fast.memory.tokens import TokenBlock, Tokens

_VALUE_DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.int8)


class MemoryBank:
    """Keys and values of O objects in past frames, kept by a policy.

    Objects are rows in the order in which they joined. Those that joined in one frame share an `Arena`, one block that
    the read sees without a copy; an object that joined later has no memory of earlier frames and takes no room for
    them. With a policy that looks at more than the numbers of frames each object has an arena of its own: one that is
    away or uncertain does not decide what others remember.

    Args:
        policy: which frames stay.
        store: where kept frames move, see `stm_fast.memory.offload`; None keeps them on the device.
        value_dtype: what values are stored in; None for the dtype they come in. Half the bytes in bfloat16 of a network
            in float32; a half of that again in `torch.int8`, with a scale a token, but the read then decodes them part
            by part.
        part_bytes: keys and values that are gathered before they move to the store.

    Attributes:
        frozen: while True, nothing is memorised but annotated and permanent frames.
        part: which part of a memory this is whose parts are with several processes, such as "0 of 2"; None for a whole.

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
        part_bytes: int = PART_BYTES,
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
        self.part_bytes = part_bytes
        self.frozen = False
        self.part: str | None = None
        self.arenas: list[Arena] = []
        self._last = -1

    @property
    def objects(self) -> int:
        """Number of objects O."""
        return sum(arena.objects for arena in self.arenas)

    @property
    def frames(self) -> tuple[int, ...]:
        """Numbers of the frames in memory, sorted."""
        return tuple(sorted({frame for arena in self.arenas for frame in arena.frames}))

    @property
    def tokens(self) -> int:
        """Number of memory tokens of the object that has most."""
        return max((arena.tokens for arena in self.arenas), default=0)

    @property
    def nbytes(self) -> int:
        """Bytes on the device, free slots included."""
        return sum(arena.block.nbytes for arena in self.arenas)

    @property
    def stored_bytes(self) -> int:
        """Bytes of keys and values in the store."""
        return sum(arena.stored_bytes for arena in self.arenas)

    def wants(self, index: int, *, annotated: bool = False, permanent: bool = False) -> bool:
        """Whether `memorise` would put such a frame into memory."""
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
        """Puts a frame into memory, in place of the previous frame unless the policy keeps that one.

        The last frame can be memorised again and takes its own place then, whether or not the first attempt came to its
        end: whoever was interrupted can try again.

        Args:
            index: number of the frame, not below those memorised before.
            keys: `(O, Ck, h, w)`, of one dtype and device in all frames. Rows beyond the objects known so far are
                objects that join.
            values: `(O, Cv, h, w)`, likewise.
            annotated: the frame's masks were given, not predicted; or for each object whether its mask was. Only
                policies by which each object has an arena tell objects apart; by others, one is enough for all.
            permanent: the frame stays as annotated ones do, whatever the policy says of them.
            presence: share of each location that the object covers, `(O, h, w)` in [0, 1]. Policies weigh tokens by it;
                without it, all count alike.
            uncertainty: of each object `(O,)`, see `stm_fast.memory.certainty`; NaN, or None for all, where it is not
                known.

        Raises:
            TypeError: another dtype than that of the frames in memory, or arguments of other types than these.
            ValueError: shapes that do not fit one another or the memory, another device than its own, an index that is
                below the last, or frames that are too large for a bound of the policy.
            OSError: the store has no room.
        """
        self._check(index, keys, values, presence, uncertainty)
        given = _by_object(annotated, len(keys))
        if not self.policy.looks_at_tokens:
            given = [any(given)] * len(keys)
        if not self.wants(index, annotated=any(given), permanent=permanent):
            return
        known = [math.nan] * len(keys)
        if uncertainty is not None and self.policy.admission is not None:
            known = uncertainty.tolist()
        frame = _Frame(index, _tokens(keys, values, presence), given, permanent, known)
        joined = self.objects
        slots = self._max_slots(
            keys.shape[2] * keys.shape[3], _bytes_per_token(frame.tokens, self.value_dtype), len(keys)
        )
        row = 0
        for arena in self.arenas:
            arena.limit(self._max_slots(arena.tokens_per_frame, arena.bytes_per_token, len(keys)))
            of_arena = frame.of_rows(row, row + arena.objects)
            if self.wants(index, annotated=any(of_arena.annotated), permanent=permanent):
                self._put(of_arena, arena)
            else:
                arena.fit()
            row += arena.objects
        # Last: the others have made room within a bound in bytes.
        for first, last in self._groups(joined, len(keys)):
            of_group = frame.of_rows(first, last)
            joining = self._empty(of_group.tokens, (keys.shape[2], keys.shape[3]), slots)
            self._put(of_group, joining)
            self.arenas.append(joining)
        self._last = index

    def remove(self, row: int) -> None:
        """Forgets the object in a row. Later rows move up.

        Raises:
            IndexError: no such row.
        """
        if not 0 <= row < self.objects:
            raise IndexError(f"row must be in 0..{self.objects - 1}, got {row}")
        for arena in self.arenas:
            if row < arena.objects:
                break
            row -= arena.objects
        if arena.objects > 1:
            arena.remove(row)
        else:
            self.arenas.remove(arena)

    def forget(self, frame: int) -> None:
        """Forgets a frame, permanent or not.

        Raises:
            ValueError: it is not in memory, has moved to a store, or is all that an object remembers.
        """
        holding = [arena for arena in self.arenas if frame in arena.frames]
        if not holding:
            raise ValueError(f"frame must be one of {self.frames}, got {frame}")
        if any(arena.has_moved(frame) for arena in holding):
            raise ValueError(f"frame {frame} has moved to the store: it cannot be forgotten")
        if any(arena.tokens == arena.tokens_per_frame for arena in holding):
            raise ValueError(f"frame {frame} is all that an object remembers: remove the object instead")
        for arena in holding:
            arena.forget(frame)

    def read(self, query_key: Tensor, *, top_k: int | None = None, backend: str = "auto") -> Tensor:
        """What each object's memory says about a frame (STM paper, section 3.2).

        Args:
            query_key: `(1, Ck, h, w)`, shared by all objects.
            top_k: softmax over the k best memory tokens of each location only.
            backend: see `stm_fast.memory_read`.

        Returns:
            Readout `(O, Cv, h, w)`.

        Raises:
            ValueError: the memory is empty, or `top_k` is given for a memory that is read part by part.
        """
        if not self.arenas:
            raise ValueError("the memory is empty: memorise a frame before reading")
        self.settle_read()
        parts = [arena.read(query_key, top_k=top_k, backend=backend) for arena in self.arenas]
        return torch.cat(parts) if len(parts) > 1 else parts[0]

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """What makes an equal memory by `restore`: tensors by name, and all else as JSON has it."""
        tensors: dict[str, Tensor] = {}
        arenas = []
        for number, arena in enumerate(self.arenas):
            parts, rest = arena.state()
            tensors |= {f"arena{number}.{name}": part for name, part in parts.items()}
            arenas.append(rest)
        return tensors, {"arenas": arenas, "last": self._last, "frozen": self.frozen}

    def restore(
        self, tensors: dict[str, Tensor], rest: dict[str, Any], device: torch.device | str | None = None
    ) -> None:
        """Takes over what another memory of this policy held.

        Args:
            tensors: of its `state`.
            rest: likewise.
            device: where the memory is to be; None for that of its tensors.

        Raises:
            RunStateError: it had a store and this one has none.
            OSError: the store has no room.
        """
        arenas = []
        for number, of_arena in enumerate(rest["arenas"]):
            begin = f"arena{number}."
            parts = {name.removeprefix(begin): part for name, part in tensors.items() if name.startswith(begin)}
            where = parts["keys"].device if device is None else torch.device(device)
            arenas.append(self._restored(parts, of_arena, where))
        self.arenas, self._last, self.frozen = arenas, rest["last"], rest["frozen"]

    def renumber(self, by: int) -> None:
        """Adds a number to those of all frames, as if another video went on where this one ended."""
        for arena in self.arenas:
            arena.renumber(by)
        self._last += by

    def settle_read(self) -> None:
        """What the last read was for has come to its end: from here on `undo_read` does not take it back."""
        for arena in self.arenas:
            arena.settle_read()

    def undo_read(self) -> None:
        """Takes back what the last read added to usage, exactly: what it was for has failed and will be repeated."""
        for arena in self.arenas:
            arena.undo_read()

    @property
    def is_full(self) -> bool:
        """Whether the next frame that stays takes the place of others, for some object."""
        return any(arena.max_slots is not None and len(arena.slots) >= arena.max_slots for arena in self.arenas)

    def table(self, names: Sequence[object] | None = None) -> MemoryTable:
        """What is in memory: a row for each frame, and one for prototypes, of objects that share an arena.

        Args:
            names: what to call the objects, such as `Segmenter.objects`; their rows if left out. Those beyond the
                objects in memory are of objects that will join.

        Raises:
            ValueError: there are fewer names than objects.
        """
        called = list(range(self.objects)) if names is None else list(names)
        if len(called) < self.objects:
            raise ValueError(f"names must be one for each of {self.objects} objects, got {len(called)}")
        rows, first = [], 0
        for arena in self.arenas:
            rows += rows_of(arena, called[first : first + arena.objects])
            first += arena.objects
        return MemoryTable(tuple(rows))

    def _empty(self, first: Tokens, grid: tuple[int, int], max_slots: int | None) -> Arena:
        """An arena without frames; arguments as those of `Arena`."""
        if self.store is not None:
            return OffloadedArena(self.policy, first, grid, self.value_dtype, self.store, self.part_bytes)
        return Arena(self.policy, first, grid, self.value_dtype, max_slots)

    def _restored(self, tensors: dict[str, Tensor], rest: dict[str, Any], device: torch.device) -> Arena:
        """The arena whose state this is."""
        if self.store is None and rest.get("stored"):
            raise RunStateError("the memory was saved with a store: it cannot be restored without one")
        if self.store is not None:
            return OffloadedArena.from_state_and_store(self.policy, tensors, rest, device, self.store, self.part_bytes)
        return Arena.from_state(self.policy, tensors, rest, device)

    def _max_slots(self, tokens_per_frame: int, bytes_per_token: int, objects: int) -> int | None:
        """Bound on the frames of an arena; arguments as those of `MemoryPolicy.max_slots`."""
        return self.policy.max_slots(tokens_per_frame, bytes_per_token, objects)

    def _put(self, frame: "_Frame", arena: Arena) -> None:
        """Puts the rows of a frame that are an arena's into it."""
        annotated = any(frame.annotated)
        permanent = frame.permanent or self.policy.pins(annotated=annotated)
        kept = permanent or self.policy.keeps(frame.number, annotated=annotated)
        arena.memorise(frame.number, frame.tokens, permanent=permanent, kept=kept, uncertainty=frame.uncertainty[0])

    def _groups(self, first: int, last: int) -> list[tuple[int, int]]:
        """First and last row of those that share an arena, of rows that join."""
        if self.policy.looks_at_tokens:
            return [(row, row + 1) for row in range(first, last)]
        return [(first, last)] if first < last else []

    def _check(
        self,
        index: int,
        keys: Tensor,
        values: Tensor,
        presence: Tensor | None,
        uncertainty: Tensor | None,
    ) -> None:
        for name, stated in (
            ("keys", keys),
            ("values", values),
            ("presence", presence),
            ("uncertainty", uncertainty),
        ):
            if stated is None and name in ("presence", "uncertainty"):
                continue
            if not isinstance(stated, Tensor) or not stated.is_floating_point():
                found = stated.dtype if isinstance(stated, Tensor) else type(stated).__name__
                raise TypeError(f"{name} must be a tensor of floating-point numbers, got {found}")
        if (
            keys.ndim != 4
            or values.ndim != 4
            or (keys.shape[0], *keys.shape[2:]) != (values.shape[0], *values.shape[2:])
        ):
            raise ValueError(
                f"keys and values must be (O, C, h, w) with the same O, h and w, got {tuple(keys.shape)} and "
                f"{tuple(values.shape)}"
            )
        if len(keys) < max(self.objects, 1):
            raise ValueError(
                f"keys must have a row for each of at least {max(self.objects, 1)} objects, got {len(keys)}"
            )
        for name, stated, shape in (
            ("presence", presence, (keys.shape[0], *keys.shape[2:])),
            ("uncertainty", uncertainty, (keys.shape[0],)),
        ):
            if stated is not None and stated.shape != shape:
                raise ValueError(f"{name} must be {shape} beside these keys, got {tuple(stated.shape)}")
        if presence is not None and presence.device != keys.device:
            raise ValueError(f"presence must be on {keys.device} as keys are, got {presence.device}")
        if not self.arenas:
            return
        if index < self._last:
            raise ValueError(f"index must not be below that of the last frame memorised ({self._last}), got {index}")
        block, grid = self.arenas[0].block, self.arenas[0].grid
        for name, given, held, dtype in (
            ("keys", keys, block.keys, block.keys.dtype),
            ("values", values, block.values, block.read_dtype),
        ):
            channels = held.shape[1]
            if (given.shape[1], *given.shape[2:]) != (channels, *grid):
                raise ValueError(f"{name} must be (O, {channels}, {grid[0]}, {grid[1]}), got {tuple(given.shape)}")
            if given.dtype != dtype:
                raise TypeError(f"{name} must be {dtype} as in memory, got {given.dtype}")
            if given.device != held.device:
                raise ValueError(f"{name} must be on {held.device} as in memory, got {given.device}")


class _Frame(NamedTuple):
    """A frame that comes into memory; other than `permanent`, by rows. Arguments of `MemoryBank.memorise`."""

    number: int
    tokens: Tokens
    annotated: list[bool]
    permanent: bool
    uncertainty: list[float]

    def of_rows(self, first: int, last: int) -> "_Frame":
        """The frame as some of the objects have it."""
        tokens = Tokens(*(part[first:last] for part in self.tokens))
        return _Frame(self.number, tokens, self.annotated[first:last], self.permanent, self.uncertainty[first:last])


def _by_object(annotated: object, objects: int) -> list[bool]:
    """A truth value for each object, of one for all or of one for each."""
    try:
        flags = torch.as_tensor(annotated)
    except (TypeError, ValueError, RuntimeError):
        flags = torch.empty(())
    if flags.dtype != torch.bool:
        raise TypeError(f"annotated must be a truth value, or one for each object, got {annotated!r}")
    if flags.ndim and flags.shape != (objects,):
        raise ValueError(f"annotated must be one or {objects} truth values, got {tuple(flags.shape)}")
    found: list[bool] = flags.expand(objects).tolist()
    return found


def _tokens(keys: Tensor, values: Tensor, presence: Tensor | None) -> Tokens:
    """A frame's tokens, new to the memory."""
    nothing = torch.zeros(len(keys), keys.shape[2] * keys.shape[3], device=keys.device)
    there = torch.ones_like(nothing) if presence is None else presence.flatten(1).float()
    return Tokens(keys.flatten(2), values.flatten(2), nothing, nothing, there)


def _bytes_per_token(tokens: Tokens, value_dtype: torch.dtype | None) -> int:
    """Bytes that a token of one object takes in a block."""
    return TokenBlock.empty(tokens, 1, value_dtype).bytes_per_token
