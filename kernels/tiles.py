"""Tile sizes by chip, with the reason for each. Never chosen by the length of the memory.

`stm-fast tune` measures others on a GPU and keeps what is faster there; see `stm_fast.kernels.tuning`.
"""

import contextlib
import json
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from stm_fast.kernels.chips import chip_of, of_backend


class Tile(NamedTuple):
    """Queries × memory tokens of a score tile, value channels a program holds or sums over, warps, pipeline stages."""

    queries: int
    tokens: int
    rows: int
    warps: int
    stages: int

    def options(self) -> dict[str, int]:
        """The tile as arguments of a kernel's launch."""
        return {
            "BLOCK_M": self.queries,
            "BLOCK_N": self.tokens,
            "BLOCK_V": self.rows,
            "num_warps": self.warps,
            "num_stages": self.stages,
        }


class Row(NamedTuple):
    """A tile and where it is used: by which operation, on which chips, for values and keys of how many bits at most."""

    operation: str
    chips: tuple[str, ...]
    bits: int
    tile: Tile
    reason: str


NVIDIA, AMD = of_backend("cuda"), of_backend("hip")
ALL = (*NVIDIA, *AMD)
LARGE = ("sm_90", "sm_100")

TABLE = (
    Row("read", LARGE, 16, Tile(128, 64, 256, 8, 2), "two programs for 512 channels; all 512 in one spill on sm_90"),
    Row("read", ("sm_80",), 16, Tile(64, 64, 256, 8, 2), "128 queries spill: mma.sync keeps operands in registers"),
    Row("read", ("sm_86",), 16, Tile(64, 32, 256, 8, 2), "64 KB of 99 with keys of 128 channels"),
    Row("read", AMD, 16, Tile(128, 32, 256, 8, 1), "one stage: 64 KB of shared memory, and registers to spare"),
    Row(
        "query_gradient",
        ALL,
        16,
        Tile(128, 64, 64, 8, 2),
        "64 queries on 4 warps spill with keys of 128",
    ),
    Row("key_gradient", ALL, 16, Tile(64, 64, 64, 8, 2), "as above; queries are the loop here"),
    Row("value_gradient", LARGE, 16, Tile(64, 64, 256, 8, 2), "scores are computed again for every 256 channels only"),
    Row("value_gradient", NVIDIA, 16, Tile(64, 64, 128, 8, 2), "what fits where registers hold both operands"),
    Row("value_gradient", AMD, 16, Tile(64, 64, 64, 8, 1), "a second stage spills"),
    Row("usage", ALL, 16, Tile(64, 64, 16, 4, 2), "scores alone: small programs, many of them"),
    Row("top_k", ALL, 16, Tile(16, 64, 16, 4, 2), "few queries, so that a tile without news is often skipped"),
    Row("read", ("sm_100",), 32, Tile(32, 32, 64, 8, 2), "products of float32 keep both operands in registers"),
    Row("read", ALL, 32, Tile(32, 32, 64, 4, 2), "as above; 8 warps spill a little with values of 16 bits"),
    Row("query_gradient", ALL, 32, Tile(32, 32, 32, 4, 2), "as above"),
    Row("key_gradient", ALL, 32, Tile(32, 32, 32, 4, 2), "as above"),
    Row("value_gradient", ALL, 32, Tile(32, 32, 64, 4, 2), "as above"),
    Row("usage", ALL, 32, Tile(32, 32, 16, 4, 2), "as above"),
    Row("top_k", ALL, 32, Tile(16, 32, 16, 8, 2), "as above"),
)
TUNED: dict[torch.device, dict[str, Tile]] = {}
"""Tiles measured on a GPU, by operation and bits, which go before the table's."""
MERGE_TILE = Tile(queries=64, tokens=1, rows=32, warps=4, stages=2)
"""Bound by memory on every chip: neighbouring queries of 32 rows at a time."""
GATHER_TILE = Tile(queries=32, tokens=16, rows=64, warps=4, stages=2)
"""Bound by scattered reads on every chip: many in flight, few registers."""


def tile_for(operation: str, key: Tensor, value: Tensor) -> Tile:
    """The tile of the first row of the table that fits a call, no wider than the value's rows.

    Args:
        operation: one that the table names.
        key: `(B, C, Nk)`.
        value: `(B, O, Cv, Nk)`, or the keys where values take no part.
    """
    chip = chip_of(value.device)
    bits = 8 * max(key.element_size(), value.element_size())
    tuned = TUNED.get(value.device, {}).get(tuning_key(operation, key, value))
    if tuned is not None:
        return narrowed(tuned, value.shape[1:-1].numel())
    row = next(row for row in TABLE if row.operation == operation and chip.name in row.chips and bits <= row.bits)
    return narrowed(row.tile, value.shape[1:-1].numel())


def rescales_lazily(device: torch.device) -> bool:
    """Whether the dense read may leave its readout alone while the maximum hardly moves.

    On sm_100 sums are in tensor memory, and triton 3.7 cannot compile a branch around their rescaling.
    """
    return chip_of(device).name != "sm_100"


def tuning_key(operation: str, key: Tensor, value: Tensor) -> str:
    """What a measured tile is good for: an operation, bits, a block of key channels, value rows up to 512."""
    bits = 8 * max(key.element_size(), value.element_size())
    rows = min(512, 1 << (value.shape[1:-1].numel() - 1).bit_length())
    return f"{operation}, {bits} bits, {block_channels(key.shape[1], key.dtype)} channels, {rows} rows"


def use_tuned(device: torch.device, file: Path) -> None:
    """Take a GPU's tiles from a file of `stm_fast.kernels.tuning.save`; one that is absent or broken has none."""
    with contextlib.suppress(OSError, ValueError, TypeError, AttributeError):
        TUNED[device] = {name: Tile(*tile) for name, tile in json.loads(file.read_text()).items()}


def narrowed(tile: Tile, rows: int) -> Tile:
    """The tile with no more rows than there are, rounded up to what a matrix unit takes."""
    return tile._replace(rows=min(tile.rows, max(16, 1 << (rows - 1).bit_length())))


def block_channels(channels: int, dtype: torch.dtype) -> int:
    """Channels of queries and keys that are multiplied at once; more are read in several blocks."""
    most = 128 if dtype.itemsize == 2 else 64
    return min(most, max(16, 1 << (channels - 1).bit_length()))
