"""Readers of memories that lie on one device, or partly in a store."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Protocol

import torch
from torch import Tensor

from stm_fast.memory.frames import WHOLE, Shard
from stm_fast.memory.groups import ObjectGroup
from stm_fast.memory.splits import Split, read_splits
from stm_fast.memory.tokens import by_key
from stm_fast.ops import autograd, read_memory, similarity

_FRAMES_AT_ONCE = 8


class Reader(Protocol):
    """Reads the memories of groups of objects, in one process or in several that share them.

    Attributes:
        processes: number of processes.
        part: the part of the memory that this process holds, such as "0 of 2"; None if it is not shared.
    """

    processes: int
    part: str | None

    def shard(self, group: int) -> Shard:
        """Return the shard of a new group's frames that this process holds, given the group's number."""
        ...

    def read(
        self, groups: Sequence[ObjectGroup], query_key: Tensor, *, last: int, top_k: int | None, backend: str
    ) -> Tensor:
        """Return the readout of all objects, and count the read.

        Args:
            groups: the groups, at least one.
            query_key: `(1, Ck, h, w)`.
            last: number of the last frame memorised.
            top_k: see `MemoryBank.read`.
            backend: likewise.
        """
        ...


class LocalReader:
    """Reads a memory that is not shared with other processes."""

    processes = 1
    part: str | None = None

    def shard(self, group: int) -> Shard:
        """See `Reader.shard`."""
        return WHOLE

    def read(
        self, groups: Sequence[ObjectGroup], query_key: Tensor, *, last: int, top_k: int | None, backend: str
    ) -> Tensor:
        """See `Reader.read`."""
        readouts = [_read(group, query_key, top_k, backend) for group in groups]
        return torch.cat(readouts) if len(readouts) > 1 else readouts[0]


def read_part(group: ObjectGroup, query_key: Tensor, backend: str) -> tuple[Tensor, Tensor]:
    """Read the part of a group that this process has on its device.

    Args:
        group: the group.
        query_key: `(1, Ck, h, w)`.
        backend: see `stm_fast.memory_read`.

    Returns:
        Value `(O, Cv, h, w)` and lse `(O, h, w)`, in float32 at least; zeros and −inf if the part is empty.
    """
    return _read_splits(group, query_key, _splits(group), backend)


def _read(group: ObjectGroup, query_key: Tensor, top_k: int | None, backend: str) -> Tensor:
    """Read a group in the way that suits what it holds, and count the read."""
    if group.offloaded.frames:
        if top_k is not None:
            raise ValueError(f"top_k must be None for a memory of which parts have moved to a store, got {top_k}")
        value, usage = _read_offloaded(group, query_key, backend), None
    elif group.storage.block.scales is not None:
        if top_k is not None:
            raise ValueError(f"top_k must be None for a memory with values in int8, got {top_k}")
        value, usage = _read_int8(group, query_key, backend)
    else:
        value, usage = _read_dense(group, query_key, top_k, backend)
    group.counters.add(usage)
    return value.to(group.storage.block.read_dtype)


def _read_dense(group: ObjectGroup, query_key: Tensor, top_k: int | None, backend: str) -> tuple[Tensor, Tensor | None]:
    """Read the block as it lies; return value and usage, None if it is not tracked."""
    keys = group.keys
    queries = query_key.expand(len(keys), -1, -1, -1)
    read = read_memory(queries, keys, by_key(keys, group.values), top_k=top_k, backend=backend)
    return read.value.flatten(0, 1), read.usage() if group.policy.tracks_usage else None


def _read_int8(group: ObjectGroup, query_key: Tensor, backend: str) -> tuple[Tensor, Tensor | None]:
    """Decode and read some frames at a time; return value and usage, which is None if not tracked."""
    value, lse = read_part(group, query_key, backend)
    if not group.policy.tracks_usage:
        return value, None
    keys = group.keys
    queries = query_key.expand(len(keys), -1, -1, -1)
    operands = similarity.dot(queries.flatten(2), keys, query_key.shape[1] ** -0.5)
    return value, autograd.usage(operands, lse[: len(keys)].flatten(1), backend)


def _read_offloaded(group: ObjectGroup, query_key: Tensor, backend: str) -> Tensor:
    """Read what is on the device, then what is in the store."""
    splits = chain(_splits(group), group.offloaded.splits(query_key.device))
    value, _ = _read_splits(group, query_key, splits, backend)
    return value


def _read_splits(group: ObjectGroup, query_key: Tensor, splits: Iterable[Split], backend: str) -> tuple[Tensor, Tensor]:
    objects, channels, _ = group.storage.block.values.shape
    return read_splits(query_key, objects, channels, splits, backend)


def _splits(group: ObjectGroup) -> Iterator[Split]:
    """Yield the tokens on the device: all at once, or some frames at a time if values must be decoded."""
    storage = group.storage
    if storage.block.scales is not None:
        for keys, values in storage.ranges(_FRAMES_AT_ONCE):
            yield Split(slice(None), keys, values)
    elif storage.begin < storage.end:
        yield Split(slice(None), storage.keys, storage.values)
