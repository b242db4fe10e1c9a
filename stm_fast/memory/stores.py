"""Stores, which keep frames that a memory moves off its device."""

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

_ALIGNMENT = 64


class Store(Protocol):
    """Keeps splits of a memory."""

    def put(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Return copies of both on the CPU, which are kept as long as they are referenced.

        Raises:
            OSError: there is no room.
        """
        ...


class HostStore:
    """Keeps splits in the host's memory, pinned if the process uses a GPU."""

    def put(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """See `Store.put`."""
        with _room():
            pinned = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
            kept = [torch.empty(part.shape, dtype=part.dtype, pin_memory=pinned) for part in (keys, values)]
        return kept[0].copy_(keys), kept[1].copy_(values)


class DiskStore:
    """Keeps splits in memory-mapped files.

    The system prefetches them, and drops them from its cache when memory is short.

    A file has no name once it is mapped, so its space is freed when its split is dropped or when the process ends, even
    if it is killed.

    Args:
        folder: folder on a file system with room for the memory; created if missing.
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
        """Return the bytes of a new file."""
        self.folder.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=".stm-fast-memory-", dir=self.folder)
        try:
            # Writing to a mapped file without allocated blocks kills the process when the disk is full.
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
    """Turn torch's errors about missing memory into an `OSError`."""
    try:
        yield
    except RuntimeError as error:
        reason = next(iter(str(error).splitlines()), "")
        raise OSError(errno.ENOMEM, f"{os.strerror(errno.ENOMEM)} ({reason})") from error
