"""A memory larger than the device's: kept frames move to the host or to disk, and are read from there part by part."""

import errno
import itertools
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from stm_fast.memory.bank import MemoryBank
from stm_fast.memory.policies import MemoryPolicy
from stm_fast.ops import memory_read, merge_reads

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
    """Keeps parts in the host's memory, pinned where a GPU reads them."""

    def put(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """See `Store.put`."""
        with _room():
            kept = [torch.empty(part.shape, dtype=part.dtype, pin_memory=part.is_cuda) for part in (keys, values)]
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
class Part:
    """Frames that have moved out.

    Attributes:
        frames: their indices.
        objects: who the rows belong to; numbers that are never given twice.
        keys: `(O, Ck, T, h, w)` on the CPU.
        values: `(O, Cv, T, h, w)`, likewise.
    """

    frames: tuple[int, ...]
    objects: tuple[int, ...]
    keys: Tensor
    values: Tensor


class OffloadedBank(MemoryBank):
    """A `MemoryBank` whose kept frames move to a store, so that only the last few are on the device.

    What is read is the same to rounding: parts are read one after the other and merged by their log-sum-exp. On a CPU
    they are read where they lie; for a GPU the next part is copied while one is read. `keys`, `values` and `mask` show
    what has not moved out; `frames` and `tokens` count everything, `nbytes` the device's memory, `stored_bytes` the
    store's.

    Args:
        policy: which frames stay; without a bound on their number, which is what a store is for.
        store: where they go.
        part_bytes: keys and values that are gathered before they move.

    Raises:
        ValueError: the policy has a bound.
    """

    def __init__(self, policy: MemoryPolicy | None, store: Store, part_bytes: int = PART_BYTES) -> None:
        super().__init__(policy)
        if self.policy.max_frames is not None:
            raise ValueError(
                f"max_frames must be None for a memory that moves to a store, got {self.policy.max_frames}"
            )
        self.store = store
        self.part_bytes = part_bytes
        self._parts: list[Part] = []
        self._ids: list[int] = []
        self._new_ids = itertools.count()

    @property
    def frames(self) -> tuple[int, ...]:
        """Index of each frame in memory: those in the store, then those in the slots of the block."""
        return (*(frame for part in self._parts for frame in part.frames), *self._frames)

    @property
    def tokens(self) -> int:
        """Number of memory tokens of an object that was there from the first frame on."""
        return len(self.frames) * self._keys.shape[-2] * self._keys.shape[-1]

    @property
    def stored_bytes(self) -> int:
        """Bytes of keys and values in the store."""
        return sum(part.keys.nbytes + part.values.nbytes for part in self._parts)

    def memorise(self, index: int, keys: Tensor, values: Tensor, *, annotated: bool = False) -> None:
        """See `MemoryBank.memorise`.

        Raises:
            OSError: the store has no room.
        """
        self._check(index, keys, values)
        if not self.policy.memorises(index, annotated=annotated):
            return
        if index not in self._frames and self._kept_bytes >= self.part_bytes:
            self._move_out()
        super().memorise(index, keys, values, annotated=annotated)
        self._ids += [next(self._new_ids) for _ in range(self.objects - len(self._ids))]

    def remove(self, row: int) -> None:
        """See `MemoryBank.remove`."""
        super().remove(row)
        del self._ids[row]
        self._parts = [self._without_the_removed(part) for part in self._parts if set(part.objects) & set(self._ids)]

    def read(self, query_key: Tensor, *, top_k: int | None = None, backend: str = "auto") -> Tensor:
        """See `MemoryBank.read`.

        Raises:
            ValueError: the memory is empty, or `top_k` is given: the best tokens of parts are not those of the whole.
        """
        if not self._parts:
            return super().read(query_key, top_k=top_k, backend=backend)
        if top_k is not None:
            raise ValueError(f"top_k must be None for a memory of which parts have moved to a store, got {top_k}")
        whole = self._nothing(query_key)
        if self._frames:
            self._add(whole, list(range(self.objects)), query_key, self.keys, self.values, self.mask, backend)
        for rows, keys, values in self._on_device(query_key.device):
            self._add(whole, rows, query_key, keys, values, None, backend)
        return whole[0].to(self._values.dtype)

    @property
    def _kept_bytes(self) -> int:
        kept = len(self._frames) - (self._previous is not None)
        return kept * self.nbytes // max(1, self._keys.shape[2])

    def _check(self, index: int, keys: Tensor, values: Tensor) -> None:
        super()._check(index, keys, values)
        if self._parts and not self._frames:
            self._check_alike(index, keys, values, max(self.frames))

    def _move_out(self) -> None:
        """Kept frames go to the store; the previous one stays. Nothing has changed if the store refuses.

        Objects are rows in the order in which they joined: those that know a frame are the first ones. Frames that are
        known to the same ones make a part.
        """
        slots = [slot for slot in range(len(self._frames)) if slot != self._previous]
        known = [sum(joined <= self._frames[slot] for joined in self._joined) for slot in slots]
        parts = []
        for count in sorted(set(known)):
            chosen = [slot for slot, rows in zip(slots, known, strict=True) if rows == count]
            keys, values = (_of_slots(block, count, chosen) for block in (self._keys, self._values))
            frames = tuple(self._frames[slot] for slot in chosen)
            parts.append(Part(frames, tuple(self._ids[:count]), *self.store.put(keys, values)))
        self._parts += parts
        if self._previous is None:
            self._frames = []
        else:
            for block in (self._keys, self._values):
                block[:, :, 0] = block[:, :, self._previous].clone()
            self._frames, self._previous = [self._frames[self._previous]], 0
        self._pinned.clear()

    def _without_the_removed(self, part: Part) -> Part:
        """The part, stored anew without the rows of removed objects once these are most of it."""
        alive = [row for row, found in enumerate(part.objects) if found in self._ids]
        if 2 * len(alive) >= len(part.objects):
            return part
        try:
            stored = self.store.put(part.keys[alive], part.values[alive])
        except OSError:
            return part
        return Part(part.frames, tuple(part.objects[row] for row in alive), *stored)

    def _nothing(self, query_key: Tensor) -> tuple[Tensor, Tensor]:
        """Value and log-sum-exp of a read of nothing."""
        grid, dtype = query_key.shape[2:], torch.promote_types(self._values.dtype, torch.float32)
        value = query_key.new_zeros(self.objects, self._values.shape[1], *grid, dtype=dtype)
        return value, value.new_full((self.objects, *grid), -torch.inf)

    def _add(
        self,
        whole: tuple[Tensor, Tensor],
        rows: list[int],
        query_key: Tensor,
        keys: Tensor,
        values: Tensor,
        mask: Tensor | None,
        backend: str,
    ) -> None:
        """Merges the read of keys and values that belong to some rows into the whole, in place."""
        query_key = query_key.expand(len(keys), -1, -1, -1)
        part = memory_read(query_key, keys, values, memory_mask=mask, return_lse=True, backend=backend)
        assert part.lse is not None
        merged = merge_reads([(whole[0][rows], whole[1][rows]), (part.value.to(whole[0].dtype), part.lse)])
        for held, new in zip(whole, merged, strict=True):
            held[rows] = new

    def _runs(self) -> Iterator[tuple[list[int], Tensor, Tensor]]:
        """What is stored of the objects: their rows, and their keys and values, which lie side by side."""
        for part in self._parts:
            known = [row for row, found in enumerate(part.objects) if found in self._ids]
            for _, run in itertools.groupby(enumerate(known), key=lambda item: item[1] - item[0]):
                stored = [row for _, row in run]
                rows = [self._ids.index(part.objects[row]) for row in stored]
                some = slice(stored[0], stored[-1] + 1)
                yield rows, part.keys[some], part.values[some]

    def _on_device(self, device: torch.device) -> Iterator[tuple[list[int], Tensor, Tensor]]:
        """What is stored, where it is read."""
        if device.type != "cuda":
            for rows, keys, values in self._runs():
                yield rows, keys.to(device), values.to(device)
            return
        copies = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        runs = self._runs()
        upcoming = _copied(next(runs, None), device, copies)
        while upcoming is not None:
            rows, keys, values = upcoming
            torch.cuda.current_stream(device).wait_stream(copies)
            for tensor in (keys, values):
                tensor.record_stream(torch.cuda.current_stream(device))
            upcoming = _copied(next(runs, None), device, copies)
            yield rows, keys, values


def _of_slots(block: Tensor, rows: int, slots: list[int]) -> Tensor:
    """The first rows of some slots `(rows, C, len(slots), h, w)`: a view where slots follow one another."""
    if slots == list(range(slots[0], slots[-1] + 1)):
        return block[:rows, :, slots[0] : slots[-1] + 1]
    return block[:rows, :, slots]


def _copied(
    run: tuple[list[int], Tensor, Tensor] | None, device: torch.device, stream: torch.cuda.Stream
) -> tuple[list[int], Tensor, Tensor] | None:
    """Keys and values on their way to the device."""
    if run is None:
        return None
    rows, keys, values = run
    with torch.cuda.stream(stream):
        return rows, keys.to(device, non_blocking=True), values.to(device, non_blocking=True)
