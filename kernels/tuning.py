"""Finding tiles by measurement, on the GPU that they are for."""

import json
import statistics
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from stm_fast.kernels import backward, forward, tiles, top_k, usage
from stm_fast.kernels.launch import Operands
from stm_fast.kernels.tiles import Tile

MOST_SUMS = 160
"""Sums that a thread can hold."""
WORTH = 0.95
"""A tile replaces the table's if it takes less than this part of the time."""
TOP_K = 30
ROUNDS = 11
BUSY_CYCLES = 1_000_000
"""A GPU spends them waiting, about half a millisecond, before what is timed."""
OPERATIONS = ("read", "query_gradient", "key_gradient", "value_gradient", "usage", "top_k")


class Trial(NamedTuple):
    """A tile that was measured for an operation; without seconds where the chip cannot hold it or it was wrong."""

    operation: str
    tile: Tile
    seconds: float | None


def operations(operands: Operands, value: Tensor) -> dict[str, Callable[[Tile | None], Tensor]]:
    """For each operation of the table, a launch with a tile (None: the table's) that returns what it computed."""
    batch, objects, channels, tokens = value.shape
    queries = operands.query.shape[2]
    out = value.new_empty(batch, objects, channels, queries)
    lse = out.new_empty(batch, queries, dtype=torch.float32)
    forward.read(operands, value, out, lse)
    grad_out = torch.randn(out.shape, generator=torch.Generator().manual_seed(0)).to(out)

    def read(tile: Tile | None) -> Tensor:
        result = torch.empty_like(out)
        forward.read(operands, value, result, torch.empty_like(lse), tile)
        return result

    def gradient(place: int, of: Tensor) -> Callable[[Tile | None], Tensor]:
        def run(tile: Tile | None) -> Tensor:
            result, unwanted = of.new_empty(of.shape), out.new_empty(0)
            query, key, gain, offset, bias, values = (result if i == place else unwanted for i in range(6))
            gradients = query, key, gain, offset, bias, values
            backward.read_backward(operands, value, out, lse, grad_out, torch.zeros_like(lse), gradients, tile)
            return result

        return run

    def use(tile: Tile | None) -> Tensor:
        result = lse.new_empty(batch, tokens)
        usage.usage(operands, lse, result, tile)
        return result

    def best(tile: Tile | None) -> Tensor:
        result = torch.empty_like(out)
        indices = lse.new_empty(batch, queries, TOP_K, dtype=torch.int64)
        weights = lse.new_empty(batch, queries, TOP_K)
        top_k.top_k_read(operands, value, result, torch.empty_like(lse), indices, weights, tile)
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
        tiles.narrowed(Tile(m, n, v, warps, stages), rows)
        for m in _around(tile.queries)
        for n in _around(tile.tokens)
        for v in (_around(tile.value_channels) if changed_rows else (tile.value_channels,))
        for warps in (4, 8)
        for stages in (2, 3)
        if min(m, n, v) >= 16 and max(m, n) * v <= MOST_SUMS * 32 * warps
    }
    changes = {candidate: sum(a != b for a, b in zip(candidate, tile, strict=True)) for candidate in found}
    return sorted(candidate for candidate, changed in changes.items() if 0 < changed <= 2)


def _around(size: int) -> tuple[int, int, int]:
    return size // 2, size, 2 * size


def count(operands: Operands, value: Tensor) -> int:
    """How many trials there are, of all operations."""
    rows = value.shape[1] * value.shape[2]
    return sum(1 + len(candidates(name, _known(name, operands, value), rows)) for name in OPERATIONS)


def _shape_of(name: str, operands: Operands, value: Tensor) -> tuple[Tensor, Tensor]:
    """Keys and values, as the operation's launcher asks for its tile."""
    return operands.key, operands.key if name in ("usage", "top_k") else value


def _known(name: str, operands: Operands, value: Tensor) -> Tile:
    return tiles.tile_for(name, *_shape_of(name, operands, value))


def trials(
    operands: Operands, value: Tensor, seconds_of: Callable[[Callable[[], object]], float], most: int | None = None
) -> Iterator[Trial]:
    """Measure the table's tile and its neighbours for every operation, one after another.

    Args:
        operands: operands of the scores, at the shape that matters.
        value: `(B, O, Cv, Nk)`.
        seconds_of: measures a call.
        most: neighbours tried for an operation; all if None.
    """
    rows = value.shape[1] * value.shape[2]
    for name, launch in operations(operands, value).items():
        known = _known(name, operands, value)
        expected = launch(known).float()
        yield Trial(name, known, seconds_of(partial(launch, known)))
        for tile in candidates(name, known, rows)[:most]:
            yield Trial(name, tile, _measured(partial(launch, tile), expected, seconds_of))


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


def seconds_on_gpu(run: Callable[[], object]) -> float:
    """Time of one call on the current GPU, which is kept busy while the host prepares the call."""
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda._sleep(BUSY_CYCLES)
    start.record()
    run()
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end)) / 1e3


def median_seconds_on_gpu(run: Callable[[], object]) -> float:
    """Median time of a call on the current GPU."""
    return statistics.median(seconds_on_gpu(run) for _ in range(ROUNDS))


def winners(measured: list[Trial]) -> dict[str, Tile]:
    """The fastest tile of every operation whose first trial, the table's, is clearly slower."""
    chosen: dict[str, Tile] = {}
    for name in dict.fromkeys(trial.operation for trial in measured):
        first, *others = (trial for trial in measured if trial.operation == name)
        timed = [trial for trial in others if trial.seconds is not None]
        fastest = min(timed, key=lambda trial: trial.seconds or 0.0, default=None)
        if fastest and fastest.seconds and first.seconds and fastest.seconds < WORTH * first.seconds:
            chosen[name] = fastest.tile
    return chosen


def with_winners(file: Path, chosen: dict[str, Tile], operands: Operands, value: Tensor) -> str:
    """What a file of tuned tiles is to say: what it says, with winners, without operations that the table won."""
    table = _read(file)
    for operation in OPERATIONS:
        key = tiles.tuning_key(operation, *_shape_of(operation, operands, value))
        table.pop(key, None)
        if operation in chosen:
            table[key] = list(chosen[operation])
    return json.dumps(table, indent=1) + "\n"


def _read(file: Path) -> dict[str, Any]:
    """A file of tuned tiles; nothing if it is absent or broken."""
    try:
        table = json.loads(file.read_text())
    except (OSError, ValueError):
        return {}
    return table if isinstance(table, dict) else {}
