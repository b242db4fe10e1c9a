"""Finding tiles by measurement, on the GPU that they are for."""

import json
import os
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from stm_fast.kernels import backward, forward, tiles, top_k, usage
from stm_fast.kernels.launch import ALIGNED_ITEMS, Operands, blocks
from stm_fast.kernels.processes import Process, end_all, in_parallel
from stm_fast.kernels.tiles import Tile

MAX_SUMS = 160
"""Sums that a thread can hold."""
WORTH = 0.95
"""A tile replaces the table's if it takes less than this part of the time."""
TOP_K = 30
QUERIES = 1620
MAX_PROCESSES = 16
BYTES_PER_PROCESS = 1 << 30
"""Of the GPU's memory, that a process which compiles and launches may need."""
SECONDS_PER_TILE = 120.0
"""After which a tile that is still being compiled is given up."""
OPERATIONS = ("read", "query_gradient", "key_gradient", "value_gradient", "usage", "top_k")


class Trial(NamedTuple):
    """A tile that was measured for an operation; without seconds where the chip cannot hold it or it was wrong."""

    operation: str
    tile: Tile
    seconds: float | None


def operations(operands: Operands, value: Tensor) -> dict[str, Callable[..., Tensor]]:
    """For each operation a launch that returns what it computed; it takes keywords of the launcher, such as `tile`."""
    batch, objects, channels, tokens = value.shape
    queries = operands.query.shape[2]
    out = value.new_empty(batch, objects, channels, queries)
    lse = out.new_empty(batch, queries, dtype=torch.float32)
    forward.read(operands, value, out, lse)
    grad_out = torch.randn(out.shape, generator=torch.Generator().manual_seed(0)).to(out)

    def read(**options: Any) -> Tensor:
        result = torch.empty_like(out)
        forward.read(operands, value, result, torch.empty_like(lse), **options)
        return result

    def gradient(place: int, of: Tensor) -> Callable[..., Tensor]:
        def run(**options: Any) -> Tensor:
            result, unwanted = of.new_empty(of.shape), out.new_empty(0)
            query, key, gain, offset, bias, values = (result if i == place else unwanted for i in range(6))
            gradients = query, key, gain, offset, bias, values
            backward.read_backward(operands, value, out, lse, grad_out, torch.zeros_like(lse), gradients, **options)
            return result

        return run

    def use(**options: Any) -> Tensor:
        result = lse.new_empty(batch, tokens)
        usage.usage(operands, lse, result, **options)
        return result

    def best(**options: Any) -> Tensor:
        result = torch.empty_like(out)
        indices = lse.new_empty(batch, queries, TOP_K, dtype=torch.int64)
        weights = lse.new_empty(batch, queries, TOP_K)
        top_k.top_k_read(operands, value, result, torch.empty_like(lse), indices, weights, **options)
        return result

    gradients = gradient(0, operands.query), gradient(1, operands.key), gradient(5, value)
    launches = read, *gradients, use, best
    return dict(zip(OPERATIONS, launches, strict=True))


def candidates(operation: str, tile: Tile, rows: int) -> list[Tile]:
    """Tiles that differ from the table's in one or two sizes: half or twice, other warps, other stages.

    Those whose sums alone would not fit into registers are left out.
    """
    changed_rows = operation not in ("usage", "top_k")
    found = {
        tiles.narrowed(tile._replace(queries=m, tokens=n, value_channels=v, warps=warps, stages=stages), rows)
        for m in _around(tile.queries)
        for n in _around(tile.tokens)
        for v in (_around(tile.value_channels) if changed_rows else (tile.value_channels,))
        for warps in (4, 8)
        for stages in (2, 3)
        if min(m, n, v) >= 16 and max(m, n) * v <= MAX_SUMS * 32 * warps
    }
    changes = {candidate: sum(a != b for a, b in zip(candidate, tile, strict=True)) for candidate in found}
    return sorted(candidate for candidate, changed in changes.items() if 0 < changed <= 2)


def _around(size: int) -> tuple[int, int, int]:
    return size // 2, size, 2 * size


def neighbours(name: str, operands: Operands, value: Tensor) -> list[Tile]:
    """The candidates beside the table's tile for an operation."""
    return candidates(name, _known(name, operands, value), value.shape[1] * value.shape[2])


def _shape_of(name: str, operands: Operands, value: Tensor) -> tuple[Tensor, Tensor]:
    """Keys and values, as the operation's launcher asks for its tile."""
    return operands.key, operands.key if name in ("usage", "top_k") else value


def _known(name: str, operands: Operands, value: Tensor) -> Tile:
    return tiles.tile_for(name, *_shape_of(name, operands, value))


class Problem(NamedTuple):
    """The read that is tuned; any process can make it.

    Attributes:
        key_channels: of the keys.
        value_channels: of the values of all objects.
        tokens: of the memory.
        dtype: of keys and values.
        device: the GPU.
    """

    key_channels: int
    value_channels: int
    tokens: int
    dtype: torch.dtype
    device: torch.device

    def tensors(self) -> tuple[Operands, Tensor]:
        """Operands of the scores, and values; the memory lies as in a bank, see `ALIGNED_ITEMS`."""
        capacity = blocks(self.tokens, ALIGNED_ITEMS) * ALIGNED_ITEMS
        query, key, value = (
            torch.randn(shape, device=self.device).to(self.dtype)
            for shape in (
                (1, self.key_channels, QUERIES),
                (1, self.key_channels, capacity),
                (1, 1, self.value_channels, capacity),
            )
        )
        key, value = key[..., : self.tokens], value[..., : self.tokens]
        return Operands(query, key, None, None, None, self.key_channels**-0.5), value


class Ahead:
    """Compiles tiles in processes of their own, which leave what they compiled in triton's cache."""

    def __init__(self, problem: Problem) -> None:
        """Make as many processes as the machine has processors and the GPU has room for."""
        self._problem = problem
        self._processes = [Process() for _ in range(_useful_processes(problem.device))]

    def __call__(self, operation: str, found: list[Tile], until: float) -> Iterator[tuple[Tile, bool]]:
        """Compile and launch tiles; yields each with whether the chip can hold it, until the time is over.

        Args:
            operation: one of `OPERATIONS`.
            found: the tiles.
            until: a time of `time.monotonic`.
        """
        arguments = [(self._problem, operation, tile) for tile in found]
        for number, outcome in in_parallel(_launch, arguments, self._processes, SECONDS_PER_TILE, until):
            yield found[number], not outcome.fault

    def end(self) -> None:
        """End the processes."""
        end_all(self._processes)


def _useful_processes(device: torch.device) -> int:
    free, _ = torch.cuda.mem_get_info(device)
    return max(1, min((os.cpu_count() or 2) - 1, MAX_PROCESSES, free // BYTES_PER_PROCESS))


def _launch(problem: Problem, operation: str, tile: Tile) -> None:
    """Compile and launch a tile, and wait until it is done."""
    _launches(problem)[operation](tile=tile)[..., -1].cpu()


@cache
def _launches(problem: Problem) -> dict[str, Callable[..., Tensor]]:
    return operations(*problem.tensors())


def trials(
    operation: str,
    operands: Operands,
    value: Tensor,
    seconds_of: Callable[[Callable[[], object]], float],
    found: list[Tile] | None = None,
) -> Iterator[Trial]:
    """Measure the table's tile and its neighbours for an operation, the table's first.

    Args:
        operation: one of `OPERATIONS`.
        operands: operands of the scores, at the shape that matters.
        value: `(B, O, Cv, Nk)`.
        seconds_of: measures a call.
        found: the neighbours to measure; all if None.
    """
    launch, known = operations(operands, value)[operation], _known(operation, operands, value)
    expected = launch(tile=known).float()
    yield Trial(operation, known, seconds_of(partial(launch, tile=known)))
    for tile in neighbours(operation, operands, value) if found is None else found:
        yield Trial(operation, tile, _measured(partial(launch, tile=tile), expected, seconds_of))


def _measured(
    run: Callable[[], Tensor], expected: Tensor, seconds_of: Callable[[Callable[[], object]], float]
) -> float | None:
    """Seconds of a launch; None if the chip cannot hold its tile or its result is another."""
    from triton.errors import TritonError

    try:
        difference = (run().float() - expected).norm()
    except (TritonError, RuntimeError):
        return None
    return seconds_of(run) if difference <= 2e-2 * expected.norm() else None


def winner(measured: list[Trial]) -> Tile | None:
    """The fastest tile of an operation's trials; None where the first, the table's, is hardly slower."""
    first, *others = measured
    timed = [trial for trial in others if trial.seconds is not None]
    fastest = min(timed, key=lambda trial: trial.seconds or 0.0, default=None)
    if fastest is None or not first.seconds or (fastest.seconds or 0.0) >= WORTH * first.seconds:
        return None
    return fastest.tile


def with_winner(file: Path, operation: str, chosen: Tile | None, operands: Operands, value: Tensor) -> str:
    """What a file of tuned tiles is to say: what it says of others, and an operation's tile unless the table won."""
    table = _read(file)
    key = tiles.tuning_key(operation, *_shape_of(operation, operands, value))
    table.pop(key, None)
    if chosen is not None:
        table[key] = list(chosen)
    return json.dumps(table, indent=1) + "\n"


def _read(file: Path) -> dict[str, Any]:
    """A file of tuned tiles; nothing if it is absent or broken."""
    try:
        table = json.loads(file.read_text())
    except (OSError, ValueError):
        return {}
    return table if isinstance(table, dict) else {}
