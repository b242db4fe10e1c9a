"""Finding the fastest tiles of the Triton kernels by measuring them on a GPU."""

import json
import os
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from stm_fast.kernels import backward, forward, tiles, top_k, usage
from stm_fast.kernels.launch import ALIGNED_ITEMS, blocks
from stm_fast.kernels.operands import Gradients, Operands
from stm_fast.kernels.tiles import Tile
from stm_fast.processes import Process, end_all, in_parallel

MAX_ACCUMULATORS = 160
"""Registers of a thread that may hold sums."""
MIN_SPEEDUP = 1 / 0.95
"""A tile replaces the table's if it is faster by more than this factor."""
TOP_K = 30
QUERIES = 1620
MAX_PROCESSES = 16
BYTES_PER_PROCESS = 1 << 30
"""GPU memory that a process needs to compile and launch kernels."""
SECONDS_PER_TILE = 120.0
"""Time limit for compiling a tile."""
OPERATIONS = ("read", "query_gradient", "key_gradient", "value_gradient", "usage", "top_k")


class Trial(NamedTuple):
    """A measured tile. `seconds` is None if the chip cannot run the tile or its result was wrong."""

    operation: str
    tile: Tile
    seconds: float | None


def operations(operands: Operands, value: Tensor) -> dict[str, Callable[..., Tensor]]:
    """Return a function for each operation that launches it and returns its result.

    Each takes keyword arguments of the operation's launcher, such as `tile`.
    """
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

    def gradient(index: int, tensor: Tensor) -> Callable[..., Tensor]:
        def run(**options: Any) -> Tensor:
            result = tensor.new_empty(tensor.shape)
            gradients = Gradients(*(result if i == index else None for i in range(6)))
            backward.read_backward(operands, value, out, lse, grad_out, torch.zeros_like(lse), gradients, **options)
            return result

        return run

    def token_usage(**options: Any) -> Tensor:
        result = lse.new_empty(batch, tokens)
        usage.usage(operands, lse, result, **options)
        return result

    def top_k_read(**options: Any) -> Tensor:
        result = torch.empty_like(out)
        indices = lse.new_empty(batch, queries, TOP_K, dtype=torch.int64)
        weights = lse.new_empty(batch, queries, TOP_K)
        top_k.top_k_read(operands, value, result, torch.empty_like(lse), indices, weights, **options)
        return result

    gradients = gradient(0, operands.query), gradient(1, operands.key), gradient(5, value)
    return dict(zip(OPERATIONS, (read, *gradients, token_usage, top_k_read), strict=True))


def candidates(operation: str, tile: Tile, value_channels: int) -> list[Tile]:
    """Return tiles that differ from the table's tile in one or two sizes: half or twice, other warps, other stages.

    Tiles whose sums alone do not fit into registers are left out.
    """
    varies_channels = operation not in ("usage", "top_k")
    found = {
        tiles.narrowed(tile._replace(queries=m, tokens=n, value_channels=v, warps=warps, stages=stages), value_channels)
        for m in _around(tile.queries)
        for n in _around(tile.tokens)
        for v in (_around(tile.value_channels) if varies_channels else (tile.value_channels,))
        for warps in (4, 8)
        for stages in (2, 3)
        if min(m, n, v) >= 16 and max(m, n) * v <= MAX_ACCUMULATORS * 32 * warps
    }
    changes = {candidate: sum(a != b for a, b in zip(candidate, tile, strict=True)) for candidate in found}
    return sorted(candidate for candidate, changed in changes.items() if 0 < changed <= 2)


def _around(size: int) -> tuple[int, int, int]:
    return size // 2, size, 2 * size


def neighbours(operation: str, operands: Operands, value: Tensor) -> list[Tile]:
    """Return the candidates around the table's tile for an operation, as far as they can replace it."""
    found = candidates(operation, _table_tile(operation, operands, value), value.shape[1] * value.shape[2])
    tensors = _tile_tensors(operation, operands, value)
    return [tile for tile in found if tiles.can_replace(tile, operation, *tensors)]


def _tile_tensors(operation: str, operands: Operands, value: Tensor) -> tuple[Tensor, Tensor]:
    """Return the key and value with which the operation's launcher looks up its tile."""
    return operands.key, operands.key if operation in ("usage", "top_k") else value


def _table_tile(operation: str, operands: Operands, value: Tensor) -> Tile:
    return tiles.tile_for(operation, *_tile_tensors(operation, operands, value))


class Problem(NamedTuple):
    """The read that is tuned. It is picklable, so that worker processes can make its tensors.

    Attributes:
        key_channels: channels of the keys.
        value_channels: channels of the values, of all objects.
        tokens: memory tokens.
        dtype: dtype of keys and values.
        device: the GPU.
    """

    key_channels: int
    value_channels: int
    tokens: int
    dtype: torch.dtype
    device: torch.device

    def tensors(self) -> tuple[Operands, Tensor]:
        """Make the operands and values, with the memory laid out as in a bank; see `ALIGNED_ITEMS`."""
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


class Compilers:
    """Worker processes that compile tiles and leave the kernels in triton's cache."""

    def __init__(self, problem: Problem) -> None:
        """Create one process per CPU core, as far as they fit into the GPU's memory."""
        self._problem = problem
        self._processes = [Process() for _ in range(_process_count(problem.device))]

    def compile(self, operation: str, tiles: list[Tile], until: float) -> Iterator[tuple[Tile, bool]]:
        """Compile and launch tiles. Yields each tile and whether it ran.

        Args:
            operation: one of `OPERATIONS`.
            tiles: tiles to compile.
            until: time of `time.monotonic` at which to stop.
        """
        arguments = [(self._problem, operation, tile) for tile in tiles]
        for index, outcome in in_parallel(_launch, arguments, self._processes, SECONDS_PER_TILE, until):
            yield tiles[index], not outcome.fault

    def end(self) -> None:
        """End the processes."""
        end_all(self._processes)


def _process_count(device: torch.device) -> int:
    free, _ = torch.cuda.mem_get_info(device)
    return max(1, min((os.cpu_count() or 2) - 1, MAX_PROCESSES, free // BYTES_PER_PROCESS))


def _launch(problem: Problem, operation: str, tile: Tile) -> None:
    """Compile and launch a tile, and wait for it."""
    _launchers(problem)[operation](tile=tile)[..., -1].cpu()


@cache
def _launchers(problem: Problem) -> dict[str, Callable[..., Tensor]]:
    return operations(*problem.tensors())


def trials(
    operation: str,
    operands: Operands,
    value: Tensor,
    seconds_of: Callable[[Callable[[], object]], float],
    candidates: list[Tile] | None = None,
) -> Iterator[Trial]:
    """Measure the table's tile for an operation, then other tiles.

    Args:
        operation: one of `OPERATIONS`.
        operands: operands of the scores, at the shape that matters.
        value: `(B, O, Cv, Nk)`.
        seconds_of: function that measures a call.
        candidates: the other tiles, by default all `neighbours`.
    """
    launch, table_tile = operations(operands, value)[operation], _table_tile(operation, operands, value)
    expected = launch(tile=table_tile).float()
    yield Trial(operation, table_tile, seconds_of(partial(launch, tile=table_tile)))
    for tile in neighbours(operation, operands, value) if candidates is None else candidates:
        yield Trial(operation, tile, _measured(partial(launch, tile=tile), expected, seconds_of))


def _measured(
    run: Callable[[], Tensor], expected: Tensor, seconds_of: Callable[[Callable[[], object]], float]
) -> float | None:
    """Return the seconds of a launch, or None if the chip cannot run its tile or its result is wrong."""
    from triton.errors import TritonError

    try:
        difference = (run().float() - expected).norm()
    except (TritonError, RuntimeError):
        return None
    return seconds_of(run) if difference <= 2e-2 * expected.norm() else None


def winner(trials: list[Trial]) -> Tile | None:
    """Return the fastest tile, or None if the first one, the table's, is about as fast."""
    table, *others = trials
    times = {trial.tile: trial.seconds for trial in others if trial.seconds is not None}
    if not table.seconds or not times:
        return None
    fastest = min(times, key=times.__getitem__)
    return fastest if MIN_SPEEDUP * times[fastest] < table.seconds else None


def with_winner(file: Path, operation: str, tile: Tile | None, operands: Operands, value: Tensor) -> str:
    """Return the new text of a file of tuned tiles, in which an operation has a tile, or none if the table's won."""
    table = _read(file)
    key = tiles.tuning_key(operation, *_tile_tensors(operation, operands, value))
    table.pop(key, None)
    if tile is not None:
        table[key] = list(tile)
    return json.dumps(table, indent=1) + "\n"


def _read(file: Path) -> dict[str, Any]:
    """Read a file of tuned tiles, which counts as empty if it is absent or broken."""
    try:
        table = json.loads(file.read_text())
    except (OSError, ValueError):
        return {}
    return table if isinstance(table, dict) else {}
