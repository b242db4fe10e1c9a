"""JSON that is written as it comes."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO


class JsonObject:
    """Writes the members of a JSON object into a file one after another; see `json_object`."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file
        self._members = 0

    def member(self, name: str, value: object) -> None:
        """Write a member."""
        self._begin(name)
        self._file.write(json.dumps(value))

    @contextmanager
    def array(self, name: str) -> Iterator[Callable[[object], None]]:
        """Write a member that is an array; yield a function that appends an item."""
        self._begin(name)
        with json_array(self._file) as append:
            yield append

    @contextmanager
    def raw_array(self, name: str) -> Iterator[Callable[[], None]]:
        """Write a member that is an array of items that the caller writes as text; yield what begins an item."""
        self._begin(name)
        with _raw_array(self._file) as begin:
            yield begin

    def _begin(self, name: str) -> None:
        self._file.write(f"{',' if self._members else ''}\n{json.dumps(name)}: ")
        self._members += 1


@contextmanager
def json_object(file: IO[str]) -> Iterator[JsonObject]:
    """Write a JSON object that ends with the block."""
    file.write("{")
    yield JsonObject(file)
    file.write("\n}\n")


@contextmanager
def json_array(file: IO[str]) -> Iterator[Callable[[object], None]]:
    """Write a JSON array that ends with the block; yield a function that appends an item."""

    def append(item: object) -> None:
        begin()
        file.write(json.dumps(item))

    with _raw_array(file) as begin:
        yield append


@contextmanager
def _raw_array(file: IO[str]) -> Iterator[Callable[[], None]]:
    count = 0

    def begin() -> None:
        nonlocal count
        file.write(",\n" if count else "\n")
        count += 1

    file.write("[")
    yield begin
    file.write("\n]")
