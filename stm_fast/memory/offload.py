"""A memory larger than the device's: frames move to a store, and are read from there in splits."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from stm_fast.memory.frames import FrameTable
from stm_fast.memory.splits import Split
from stm_fast.memory.storage import TokenStorage
from stm_fast.memory.stores import Store
from stm_fast.memory.tokens import aligned

SPLIT_BYTES = 128 * 2**20


@dataclass(frozen=True)
class StoredSplit:
    """Frames that have moved to a store together.

    Attributes:
        frames: their numbers.
        rows: the object of each row, by its number before any object was removed.
        keys: `(O, Ck, aligned(n))` on the CPU, of which the first n are tokens of these frames; `(1, Ck, aligned(n))`
            if the objects share them.
        values: `(O, Cv, aligned(n))`, likewise.
    """

    frames: tuple[int, ...]
    rows: tuple[int, ...]
    keys: Tensor
    values: Tensor


class OffloadedFrames:
    """The frames of a memory that have moved to a store; without a store there are none.

    Args:
        store: where frames move; None to keep all of them on the device.
        split_bytes: bytes of keys and values that are gathered before they move.
        objects: number of objects O.
        tokens_per_frame: number of tokens of a frame, of one object.
    """

    def __init__(self, store: Store | None, split_bytes: int, objects: int, tokens_per_frame: int) -> None:
        self.store = store
        self.split_bytes = split_bytes
        self.stored: list[StoredSplit] = []
        self._rows = list(range(objects))
        self._tokens_per_frame = tokens_per_frame

    @property
    def frames(self) -> list[int]:
        """Numbers of the frames."""
        return [frame for split in self.stored for frame in split.frames]

    @property
    def nbytes(self) -> int:
        """Bytes in the store."""
        return sum(split.keys.nbytes + split.values.nbytes for split in self.stored)

    def takes(self, nbytes: int) -> bool:
        """Return whether this number of bytes on the device is enough to move."""
        return self.store is not None and nbytes >= self.split_bytes

    def move(self, table: FrameTable, storage: TokenStorage) -> None:
        """Move all frames of a table to the store.

        Raises:
            OSError: the store has no room; nothing has changed.
        """
        assert self.store is not None, "there is no store"
        tokens = slice(storage.begin, storage.begin + aligned(storage.end - storage.begin))
        stored = self.store.put(storage.block.keys[..., tokens], storage.block.values[..., tokens])
        self.stored.append(StoredSplit(table.frames, tuple(self._rows), *stored))
        table.clear()

    def remove(self, row: int) -> None:
        """Remove the object in a row."""
        del self._rows[row]
        self.stored = [self._without_removed(split) for split in self.stored]

    def renumber(self, by: int) -> None:
        """Add `by` to the numbers of all frames."""
        self.stored = [replace(split, frames=tuple(frame + by for frame in split.frames)) for split in self.stored]

    def splits(self, device: torch.device) -> Iterator[Split]:
        """Yield the stored splits on the device of the read.

        A CPU reads them in place. For a GPU, the next split is copied while one is read.
        """
        if device.type != "cuda":
            for (rows, keys, values), tokens in self._runs():
                yield Split(rows, keys.to(device)[..., :tokens], values.to(device)[..., :tokens])
            return
        copies = _copy_stream(device)
        runs = self._runs()
        upcoming = _prefetch(next(runs, None), device, copies)
        while upcoming is not None:
            rows, keys, values = upcoming
            torch.cuda.current_stream(device).wait_stream(copies)
            for tensor in (keys, values):
                tensor.record_stream(torch.cuda.current_stream(device))
            upcoming = _prefetch(next(runs, None), device, copies)
            yield Split(rows, keys, values)

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return tensors, and the rest in types of JSON.

        The tensors are not copied. They may have rows of removed objects.
        """
        tensors, stored = {}, []
        for number, split in enumerate(self.stored):
            tokens = len(split.frames) * self._tokens_per_frame
            for name, part in (("keys", split.keys), ("values", split.values)):
                tensors[f"stored{number}.{name}"] = part[..., :tokens]
            stored.append({"frames": list(split.frames), "rows": self._rows_left(split)})
        return tensors, {} if self.store is None else {"stored": stored}

    def restore(self, tensors: dict[str, Tensor], rest: dict[str, Any]) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Take over a memory's state; return the state of what stays on the device, which is less than a split.

        The state may come from a memory without a store: its frames move to the store, split by split.

        Args:
            tensors: of `ObjectGroup.state`.
            rest: likewise.

        Raises:
            OSError: the store has no room.
        """
        on_device = {name: part for name, part in tensors.items() if not name.startswith("stored")}
        if self.store is None:
            return on_device, rest
        for number, split in enumerate(rest.get("stored", [])):
            keys, values = (tensors[f"stored{number}.{name}"] for name in ("keys", "values"))
            left = split["rows"]
            self._put(split["frames"], *(_of_rows(keys, values, left) if len(left) < len(values) else (keys, values)))
        slots, step = rest["slots"], self._tokens_per_frame
        frame_bytes = step * sum(
            on_device[name].element_size() * on_device[name].shape[:2].numel() for name in ("keys", "values")
        )
        at_once = max(1, self.split_bytes // frame_bytes)
        # The last frame can be memorised again and then replaces itself.
        newest = max((slot["frame"] for slot in slots), default=None)
        movable = sum(1 for _ in itertools.takewhile(lambda slot: slot["frame"] != newest, slots))
        moved = movable - movable % at_once
        for first in range(0, moved, at_once):
            frames = [slot["frame"] for slot in slots[first : first + at_once]]
            tokens = slice(first * step, (first + at_once) * step)
            self._put(frames, on_device["keys"][..., tokens], on_device["values"][..., tokens])
        on_device = {name: part[..., moved * step :] for name, part in on_device.items()}
        return on_device, rest | {"slots": slots[moved:]}

    def _put(self, frames: list[int], keys: Tensor, values: Tensor) -> None:
        assert self.store is not None, "there is no store"
        stored = self.store.put(_with_aligned_rows(keys), _with_aligned_rows(values))
        self.stored.append(StoredSplit(tuple(frames), tuple(self._rows), *stored))

    def _rows_left(self, split: StoredSplit) -> list[int]:
        """Return the rows of a split whose objects have not been removed."""
        return [row for row, found in enumerate(split.rows) if found in self._rows]

    def _without_removed(self, split: StoredSplit) -> StoredSplit:
        """Return the split; store it again without the rows of removed objects once these are most of it."""
        left = self._rows_left(split)
        if self.store is None or 2 * len(left) >= len(split.rows):
            return split
        try:
            keys, values = self.store.put(*_of_rows(split.keys, split.values, left))
        except OSError:
            return split
        return replace(split, rows=tuple(split.rows[row] for row in left), keys=keys, values=values)

    def _runs(self) -> Iterator[tuple[Split, int]]:
        """Yield the stored splits of the objects, and their number of tokens. Adjacent rows are one view.

        Rows include the padding after the last token: only whole rows move to a device in one copy and stay aligned.
        """
        for split in self.stored:
            for _, run in itertools.groupby(enumerate(self._rows_left(split)), key=lambda pair: pair[1] - pair[0]):
                pairs = list(run)
                here, stored = (slice(pairs[0][side], pairs[-1][side] + 1) for side in (0, 1))
                tokens = len(split.frames) * self._tokens_per_frame
                yield Split(here, *_of_rows(split.keys, split.values, stored)), tokens


@cache
def _copy_stream(device: torch.device) -> torch.cuda.Stream:
    """Return the stream on which splits are copied. There is one per device, which reuses the memory it frees."""
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


def _prefetch(run: tuple[Split, int] | None, device: torch.device, stream: torch.cuda.Stream) -> Split | None:
    """Begin to copy keys and values to the device."""
    if run is None:
        return None
    (rows, keys, values), tokens = run
    with torch.cuda.stream(stream):
        keys, values = (tensor.to(device, non_blocking=True)[..., :tokens] for tensor in (keys, values))
        return Split(rows, keys, values)


def _of_rows(keys: Tensor, values: Tensor, rows: list[int] | slice) -> tuple[Tensor, Tensor]:
    """Return keys and values of some objects; all keys if the objects share them."""
    return keys if len(keys) < len(values) else keys[rows], values[rows]


def _with_aligned_rows(tensor: Tensor) -> Tensor:
    """Pad the rows of a tensor with zeros to an aligned length."""
    tokens = tensor.shape[-1]
    return tensor if tokens == aligned(tokens) else F.pad(tensor, (0, aligned(tokens) - tokens))
