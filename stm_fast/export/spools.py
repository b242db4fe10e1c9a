"""Text that is written in the order of frames and read in the order of objects, kept on disk in between."""

import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from tempfile import TemporaryFile
from types import TracebackType
from typing import IO


class Spools:
    """A temporary file for each of up to 255 objects; a context manager, which deletes them."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._files: dict[int, IO[str]] = {}

    def __enter__(self) -> "Spools":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def __contains__(self, object_id: int) -> bool:
        return object_id in self._files

    def __iter__(self) -> Iterator[int]:
        """Yield the objects that have text, ascending."""
        yield from sorted(self._files)

    def append(self, object_id: int, text: str) -> None:
        """Append text of an object."""
        if object_id not in self._files:
            file = TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115 - the stack closes it
            self._files[object_id] = self._stack.enter_context(file)
        self._files[object_id].write(text)

    def copy(self, object_id: int, target: IO[str]) -> None:
        """Write all text of an object into a file."""
        file = self._files[object_id]
        file.seek(0)
        shutil.copyfileobj(file, target, 1 << 20)
