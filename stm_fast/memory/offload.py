"""A memory larger than the device's: kept frames move to the host or to disk, and are read from there part by part."""

import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from stm_fast.memory.bank import MemoryBank
from stm_fast.memory.policies import MemoryPolicy
from stm_fast.ops import memory_read, merge_reads

PART_BYTES = 128 * 2**20


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
        kept = [torch.empty(part.shape, dtype=part.dtype, pin_memory=part.is_cuda) for part in (keys, values)]
        return kept[0].copy_(keys), kept[1].copy_(values)


class DiskStore:
    """Keeps parts in memory-mapped files, which the system reads ahead and forgets as it needs its memory.

    A file has no name once it is mapped: its room is free again when its part is dropped or the process ends, however
    it ends.

    Args:
        folder: on a file system with room for the memory; made if it is missing.
    """

    _numbers = itertools.count()

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def put(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """See `Store.put`."""
        room = self._map(keys.nbytes + values.nbytes)
        kept = [
            bytes_.view(part.dtype).view(part.shape)
            for bytes_, part in zip((room[: keys.nbytes], room[keys.nbytes :]), (keys, values), strict=True)
        ]
        return kept[0].copy_(keys), kept[1].copy_(values)

    def _map(self, size: int) -> Tensor:
        """Bytes of a new file."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f".stm-fast-memory-{os.getpid()}-{next(self._numbers)}"
        try:
            with path.open("xb") as file:
                # Without blocks of its own a mapped file ends the process when the disk is full.
                if hasattr(os, "posix_fallocate"):
                    os.posix_fallocate(file.fileno(), 0, size)
                else:
                    file.truncate(size)
            return torch.from_file(str(path), shared=True, size=size, dtype=torch.uint8)
        finally:
            path.unlink(missing_ok=True)


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
        if index not in self._frames and (len(keys) > self.objects or self._kept_bytes >= self.part_bytes):
            self._move_out()
        super().memorise(index, keys, values, annotated=annotated)
        self._ids += [next(self._new_ids) for _ in range(self.objects - len(self._ids))]

    def remove(self, row: int) -> None:
        """See `MemoryBank.remove`."""
        super().remove(row)
        del self._ids[row]
        self._parts = [part for part in self._parts if set(part.objects) & set(self._ids)]

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
            rows = list(range(self.objects))
            self._add(whole, rows, rows, query_key, self.keys, self.values, self.mask, backend)
        for part, keys, values in self._on_device(query_key.device):
            known = [row for row, found in enumerate(part.objects) if found in self._ids]
            rows = [self._ids.index(part.objects[row]) for row in known]
            self._add(whole, rows, known, query_key, keys, values, None, backend)
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
        """Kept frames go to the store; the previous one stays. Nothing has changed if the store refuses."""
        slots = [slot for slot in range(len(self._frames)) if slot != self._previous]
        if not slots:
            return
        first, last = slots[0], slots[-1] + 1
        if last - first == len(slots):
            keys, values = self.keys[:, :, first:last], self.values[:, :, first:last]
        else:
            keys, values = self.keys[:, :, slots], self.values[:, :, slots]
        frames = tuple(self._frames[slot] for slot in slots)
        self._parts.append(Part(frames, tuple(self._ids), *self.store.put(keys, values)))
        if self._previous is None:
            self._frames = []
        else:
            for block in (self._keys, self._values):
                block[:, :, 0] = block[:, :, self._previous].clone()
            self._frames, self._previous = [self._frames[self._previous]], 0
        self._pinned.clear()

    def _nothing(self, query_key: Tensor) -> tuple[Tensor, Tensor]:
        """Value and log-sum-exp of a read of nothing."""
        grid = query_key.shape[2:]
        value = query_key.new_zeros(self.objects, self._values.shape[1], *grid, dtype=torch.float32)
        return value, value.new_full((self.objects, *grid), -torch.inf)

    def _add(
        self,
        whole: tuple[Tensor, Tensor],
        rows: list[int],
        known: list[int],
        query_key: Tensor,
        keys: Tensor,
        values: Tensor,
        mask: Tensor | None,
        backend: str,
    ) -> None:
        """Merges the read of a part, of whose rows those `known` belong to `rows`, into the whole, in place."""
        query_key = query_key.expand(len(keys), -1, -1, -1)
        part = memory_read(query_key, keys, values, memory_mask=mask, return_lse=True, backend=backend)
        assert part.lse is not None
        merged = merge_reads([(whole[0][rows], whole[1][rows]), (part.value[known].float(), part.lse[known])])
        for held, new in zip(whole, merged, strict=True):
            held[rows] = new

    def _on_device(self, device: torch.device) -> Iterator[tuple[Part, Tensor, Tensor]]:
        """Each part with its keys and values where they are read."""
        if device.type != "cuda":
            for part in self._parts:
                yield part, part.keys.to(device), part.values.to(device)
            return
        copies = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        upcoming = _copied(self._parts[0], device, copies)
        for part, following in itertools.zip_longest(self._parts, self._parts[1:]):
            keys, values = upcoming
            torch.cuda.current_stream(device).wait_stream(copies)
            for tensor in (keys, values):
                tensor.record_stream(torch.cuda.current_stream(device))
            if following is not None:
                upcoming = _copied(following, device, copies)
            yield part, keys, values


def _copied(part: Part, device: torch.device, stream: torch.cuda.Stream) -> tuple[Tensor, Tensor]:
    """Keys and values on their way to the device."""
    with torch.cuda.stream(stream):
        return part.keys.to(device, non_blocking=True), part.values.to(device, non_blocking=True)
