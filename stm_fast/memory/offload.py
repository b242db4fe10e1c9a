"""A memory larger than the device's: kept frames move to the host or to disk, and are read from there part by part."""

import errno
import itertools
import math
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from stm_fast.memory.arena import Arena, Holding, Role
from stm_fast.memory.parts import Part, read_in_parts
from stm_fast.memory.policies import MemoryPolicy
from stm_fast.memory.tokens import Tokens, aligned

PART_BYTES = 128 * 2**20
_ALIGNMENT = 64


class Store(Protocol):
    """Where parts of a memory are kept."""

    def put(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Copies of both on the CPU, which stay as long as they are referred to.

        Raises:
            OSError: there is no room.
        """
        ...


class HostStore:
    """Keeps parts in the host's memory, pinned where the process uses a GPU."""

    def put(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """See `Store.put`."""
        with _room():
            pinned = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
            kept = [torch.empty(part.shape, dtype=part.dtype, pin_memory=pinned) for part in (keys, values)]
        return kept[0].copy_(keys), kept[1].copy_(values)


class DiskStore:
    """Keeps parts in memory-mapped files, which the system reads ahead and forgets as it needs its memory.

    A file has no name once it is mapped: its room is free again when its part is dropped or the process ends, however
    it ends.

    Args:
        folder: on a file system with room for the memory; made if it is missing.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def put(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """See `Store.put`."""
        begin = -(-keys.nbytes // _ALIGNMENT) * _ALIGNMENT
        room = self._map(begin + values.nbytes)
        kept = [
            bytes_.view(part.dtype).view(part.shape)
            for bytes_, part in ((room[: keys.nbytes], keys), (room[begin:], values))
        ]
        return kept[0].copy_(keys), kept[1].copy_(values)

    def _map(self, size: int) -> Tensor:
        """Bytes of a new file."""
        self.folder.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=".stm-fast-memory-", dir=self.folder)
        try:
            # Without blocks of its own a mapped file ends the process when the disk is full.
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(descriptor, 0, size)
            else:
                os.truncate(descriptor, size)
            with _room():
                return torch.from_file(name, shared=True, size=size, dtype=torch.uint8)
        finally:
            os.close(descriptor)
            Path(name).unlink(missing_ok=True)


@contextmanager
def _room() -> Iterator[None]:
    """A context in which torch's want of memory is an `OSError`."""
    try:
        yield
    except RuntimeError as error:
        reason = next(iter(str(error).splitlines()), "")
        raise OSError(errno.ENOMEM, f"{os.strerror(errno.ENOMEM)} ({reason})") from error


@dataclass(frozen=True)
class StoredPart:
    """Frames that have moved out.

    Attributes:
        frames: their numbers.
        rows: which of the objects each row belonged to when the arena began.
        keys: `(O, Ck, aligned(n))` on the CPU, of which the first n are tokens of these frames.
        values: `(O, Cv, aligned(n))`, likewise.
    """

    frames: tuple[int, ...]
    rows: tuple[int, ...]
    keys: Tensor
    values: Tensor


class OffloadedArena(Arena):
    """An `Arena` whose kept frames move to a store, so that only the last few are on the device.

    What is read is the same to rounding: parts are read one after the other and merged by their log-sum-exp. On a CPU
    they are read where they lie; for a GPU the next part is copied while one is read. `keys`, `values` and `slots` show
    what has not moved out; `frames` and `tokens` count everything.

    Args:
        policy: which frames stay; without a bound on their number, which is what a store is for.
        first: tokens of the first frame; nothing is written yet.
        grid: height and width of a frame in tokens.
        value_dtype: what values are stored in; None for the dtype they come in.
        store: where they go.
        part_bytes: keys and values that are gathered before they move.
    """

    def __init__(
        self,
        policy: MemoryPolicy,
        first: Tokens,
        grid: tuple[int, int],
        value_dtype: torch.dtype | None,
        store: Store,
        part_bytes: int = PART_BYTES,
    ) -> None:
        super().__init__(policy, first, grid, value_dtype)
        self.store = store
        self.part_bytes = part_bytes
        self._parts: list[StoredPart] = []
        self._rows = list(range(self.objects))

    @property
    def frames(self) -> tuple[int, ...]:
        """See `Arena.frames`."""
        return (*self._stored_frames, *super().frames)

    @property
    def tokens(self) -> int:
        """See `Arena.tokens`."""
        return super().tokens + len(self._stored_frames) * self.tokens_per_frame

    @property
    def holdings(self) -> list[Holding]:
        """See `Arena.holdings`."""
        stored = [Holding(frame, Role.stored, self.tokens_per_frame) for frame in sorted(self._stored_frames)]
        return stored + super().holdings

    @property
    def stored_bytes(self) -> int:
        """See `Arena.stored_bytes`."""
        return sum(part.keys.nbytes + part.values.nbytes for part in self._parts)

    def memorise(
        self, index: int, tokens: Tokens, *, permanent: bool, kept: bool, uncertainty: float = math.nan
    ) -> None:
        """See `Arena.memorise`.

        Raises:
            OSError: the store has no room.
        """
        kept_bytes = len(self.slots) * self.tokens_per_frame * self.bytes_per_token * self.objects
        if self._slot_of(index) is None and kept_bytes >= self.part_bytes:
            self._settle()
            if self.slots:
                self._move_out()
        super().memorise(index, tokens, permanent=permanent, kept=kept, uncertainty=uncertainty)

    def read(self, query_key: Tensor, *, top_k: int | None = None, backend: str = "auto") -> Tensor:
        """See `Arena.read`.

        Raises:
            ValueError: `top_k` is given: the best tokens of parts are not those of the whole.
        """
        if not self._parts:
            return super().read(query_key, top_k=top_k, backend=backend)
        if top_k is not None:
            raise ValueError(f"top_k must be None for a memory of which parts have moved to a store, got {top_k}")
        query_key = query_key.expand(self.objects, -1, -1, -1)
        channels = self.block.values.shape[1]
        value, _ = read_in_parts(query_key, channels, self._all_parts(query_key.device), backend)
        return value.to(self.block.read_dtype)

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """See `Arena.state`; what is stored lies where it is, with rows of removed objects if there are any."""
        tensors, rest = super().state()
        stored = []
        for number, part in enumerate(self._parts):
            tokens = len(part.frames) * self.tokens_per_frame
            for name, kept in (("keys", part.keys), ("values", part.values)):
                tensors[f"stored{number}.{name}"] = kept[..., :tokens]
            alive = [row for row, found in enumerate(part.rows) if found in self._rows]
            stored.append({"frames": list(part.frames), "rows": alive})
        return tensors, rest | {"stored": stored}

    @classmethod
    def from_state_and_store(
        cls,
        policy: MemoryPolicy,
        tensors: dict[str, Tensor],
        rest: dict[str, Any],
        device: torch.device,
        store: Store,
        part_bytes: int = PART_BYTES,
    ) -> "OffloadedArena":
        """The arena whose `state` this is, on a device and with a store of its own.

        What the state of a memory without a store holds goes to the store part by part; only what is less than a part
        comes to the device.

        Raises:
            OSError: the store has no room.
        """
        arena = cls.__new__(cls)
        rows = tuple(range(len(tensors["keys"])))
        parts = list[StoredPart]()

        def keep(frames: Iterable[int], keys: Tensor, values: Tensor) -> None:
            kept = store.put(_with_aligned_rows(keys), _with_aligned_rows(values))
            parts.append(StoredPart(tuple(frames), rows, *kept))

        for number, part in enumerate(rest.get("stored", [])):
            kept = (tensors[f"stored{number}.{name}"] for name in ("keys", "values"))
            alive = part["rows"]
            keep(part["frames"], *(tensor if len(alive) == len(tensor) else tensor[alive] for tensor in kept))
        held = {name: part for name, part in tensors.items() if not name.startswith("stored")}
        slots, tokens = rest["slots"], rest["grid"][0] * rest["grid"][1]
        of_a_token = sum(held[name].element_size() * held[name].shape[1] * len(rows) for name in ("keys", "values"))
        few = max(1, part_bytes // (of_a_token * tokens))
        # The last frame may be memorised once more, in its own place.
        newest = max((slot["frame"] for slot in slots), default=None)
        staying = sum(1 for _ in itertools.takewhile(lambda slot: slot["frame"] != newest, slots))
        moved = 0
        while staying - moved >= few:
            place = slice(moved * tokens, (moved + few) * tokens)
            frames = [slot["frame"] for slot in slots[moved : moved + few]]
            keep(frames, held["keys"][..., place], held["values"][..., place])
            moved += few
        held = {name: part[..., moved * tokens :] for name, part in held.items()}
        arena._restore(policy, held, rest | {"slots": slots[moved:]}, device)
        arena.store, arena.part_bytes = store, part_bytes
        arena._rows, arena._parts = list(rows), parts
        return arena

    def renumber(self, by: int) -> None:
        """See `Arena.renumber`."""
        super().renumber(by)
        self._parts = [replace(part, frames=tuple(frame + by for frame in part.frames)) for part in self._parts]

    def remove(self, row: int) -> None:
        """See `Arena.remove`."""
        super().remove(row)
        del self._rows[row]
        self._parts = [self._without_the_removed(part) for part in self._parts]

    @property
    def _stored_frames(self) -> list[int]:
        return [frame for part in self._parts for frame in part.frames]

    def _move_out(self) -> None:
        """Frames in slots go to the store. Nothing has changed if it refuses."""
        first, last = self._begin, self._begin + aligned(self._end - self._begin)
        stored = self.store.put(self.block.keys[..., first:last], self.block.values[..., first:last])
        frames = tuple(slot.frame for slot in self.slots)
        self._parts.append(StoredPart(frames, tuple(self._rows), *stored))
        self.slots = []

    def _without_the_removed(self, part: StoredPart) -> StoredPart:
        """The part, stored anew without the rows of removed objects once these are most of it."""
        alive = [row for row, found in enumerate(part.rows) if found in self._rows]
        if 2 * len(alive) >= len(part.rows):
            return part
        try:
            keys, values = self.store.put(part.keys[alive], part.values[alive])
        except OSError:
            return part
        return replace(part, rows=tuple(part.rows[row] for row in alive), keys=keys, values=values)

    def _all_parts(self, device: torch.device) -> Iterator[Part]:
        """What is in slots, then what is stored, where it is read."""
        if self.slots:
            yield Part(slice(None), self.keys, self.values)
        if device.type != "cuda":
            for (rows, keys, values), tokens in self._runs():
                yield Part(rows, keys.to(device)[..., :tokens], values.to(device)[..., :tokens])
            return
        copies = _copy_stream(device)
        runs = self._runs()
        upcoming = _copied(next(runs, None), device, copies)
        while upcoming is not None:
            rows, keys, values = upcoming
            torch.cuda.current_stream(device).wait_stream(copies)
            for tensor in (keys, values):
                tensor.record_stream(torch.cuda.current_stream(device))
            upcoming = _copied(next(runs, None), device, copies)
            yield Part(rows, keys, values)

    def _runs(self) -> Iterator[tuple[Part, int]]:
        """What is stored of the objects, and its number of tokens: of rows that lie side by side, a view.

        Its rows are whole, with what lies behind the last token: only so do they move to a device at once and stay
        aligned.
        """
        for part in self._parts:
            alive = [row for row, found in enumerate(part.rows) if found in self._rows]
            for _, run in itertools.groupby(enumerate(alive), key=lambda pair: pair[1] - pair[0]):
                pairs = list(run)
                here, stored = (slice(pairs[0][side], pairs[-1][side] + 1) for side in (0, 1))
                yield Part(here, part.keys[stored], part.values[stored]), len(part.frames) * self.tokens_per_frame


@cache
def _copy_stream(device: torch.device) -> torch.cuda.Stream:
    """The stream on which parts are copied to a device: one, since what is allocated on a stream is kept for it."""
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


def _copied(run: tuple[Part, int] | None, device: torch.device, stream: torch.cuda.Stream) -> Part | None:
    """Keys and values on their way to the device."""
    if run is None:
        return None
    (rows, keys, values), tokens = run
    with torch.cuda.stream(stream):
        keys, values = (tensor.to(device, non_blocking=True)[..., :tokens] for tensor in (keys, values))
        return Part(rows, keys, values)


def _with_aligned_rows(tensor: Tensor) -> Tensor:
    """The tensor with zeros behind its last token where the length of its rows is not aligned."""
    tokens = tensor.shape[-1]
    return tensor if tokens == aligned(tokens) else F.pad(tensor, (0, aligned(tokens) - tokens))
