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
    """A tile and where it is used: by which operation, on which chips, for keys and values of how many bits at most."""

    operation: str
    chips: tuple[str, ...]
    key_bits: int
    value_bits: int
    tile: Tile
    reason: str


NVIDIA, AMD = of_backend("cuda"), of_backend("hip")
ALL = (*NVIDIA, *AMD)
LARGE = ("sm_90", "sm_100")

_SCORES_ALONE = "scores alone: small programs, many of them"
_TWICE_CHOSEN = "few queries, since a tile has at least twice as many tokens as are chosen"
_FLOAT32 = "products of float32 keep both operands in registers, which leaves room for 32 x 32 scores"

TABLE = (
    Row("read", LARGE, 16, 16, Tile(128, 64, 256, 8, 2), "two programs for 512 channels: all in one spill on sm_90"),
    Row("read", ("sm_80",), 16, 16, Tile(64, 64, 256, 8, 2), "128 queries spill: mma.sync keeps operands in registers"),
    Row("read", ("sm_86",), 16, 16, Tile(64, 32, 256, 8, 2), "64 KB of 99 with keys of 128 channels"),
    Row("read", AMD, 16, 16, Tile(128, 32, 256, 8, 1), "one stage: 64 KB of shared memory, and registers to spare"),
    Row("query_gradient", ALL, 16, 16, Tile(128, 64, 64, 8, 2), "64 queries on 4 warps spill with keys of 128"),
    Row("key_gradient", ALL, 16, 16, Tile(64, 64, 64, 8, 2), "as query_gradient; queries are the loop here"),
    Row("value_gradient", LARGE, 16, 16, Tile(64, 64, 256, 8, 2), "scores are made again for every 256 channels only"),
    Row("value_gradient", NVIDIA, 16, 16, Tile(64, 64, 128, 8, 2), "what fits where registers hold both operands"),
    Row("value_gradient", AMD, 16, 16, Tile(64, 64, 64, 8, 1), "a second stage spills"),
    Row("usage", ALL, 16, 16, Tile(64, 64, 16, 4, 2), _SCORES_ALONE),
    Row("top_k", ("sm_90",), 16, 16, Tile(128, 64, 16, 8, 2), "keys are read twice for 128 queries at once"),
    Row("top_k", ("sm_100",), 16, 16, Tile(32, 64, 16, 4, 2), "64 go to tensor memory: triton 3.7 cannot sort them"),
    Row("top_k", ALL, 16, 16, Tile(64, 64, 16, 8, 2), "128 queries spill, and so do 64 on 4 warps"),
    Row("top_k_wide", AMD, 16, 16, Tile(16, 64, 16, 8, 1), "a second stage of 256 keys does not fit"),
    Row("top_k_wide", ALL, 16, 16, Tile(16, 64, 16, 8, 2), _TWICE_CHOSEN),
    Row("read", LARGE, 32, 16, Tile(32, 32, 512, 8, 2), "scores in float32 are dear, and made once for 512 channels"),
    Row("read", ALL, 32, 16, Tile(32, 32, 256, 8, 2), "as many channels of 16 bits as fit beside scores in float32"),
    Row("value_gradient", ALL, 32, 16, Tile(32, 32, 256, 8, 2), "as many channels of 16 bits as fit, for the scores"),
    Row("read", ("sm_100",), 32, 32, Tile(32, 32, 64, 8, 2), "products of float32 need 8 warps not to spill here"),
    Row("read", ALL, 32, 32, Tile(32, 32, 64, 4, 2), _FLOAT32),
    Row("query_gradient", ALL, 32, 32, Tile(32, 32, 32, 4, 2), _FLOAT32),
    Row("key_gradient", ALL, 32, 32, Tile(32, 32, 32, 4, 2), _FLOAT32),
    Row("value_gradient", ALL, 32, 32, Tile(32, 32, 64, 4, 2), _FLOAT32),
    Row("usage", ALL, 32, 32, Tile(32, 32, 16, 4, 2), _SCORES_ALONE),
    Row("top_k", ALL, 32, 32, Tile(16, 64, 16, 8, 2), "32 queries spill beside products of float32"),
    Row("top_k_wide", AMD, 32, 32, Tile(16, 64, 16, 8, 1), "a second stage of 256 keys does not fit"),
    Row("top_k_wide", ALL, 32, 32, Tile(16, 64, 16, 8, 2), _TWICE_CHOSEN),
)
TUNED: dict[torch.device, dict[str, Tile]] = {}
"""Tiles measured on a GPU, by operation and bits, which go before the table's."""
MERGE_TILE = Tile(queries=64, tokens=1, rows=32, warps=4, stages=2)
"""Bound by memory on every chip: neighbouring queries of 32 rows at a time."""
WIDE_TOP_K = 32
"""More candidates than these are kept by the tile of "top_k_wide"."""
GATHER_TILE = Tile(queries=64, tokens=16, rows=32, warps=4, stages=2)
"""Bound by scattered reads on every chip: many in flight, few registers."""


def tile_for(operation: str, key: Tensor, value: Tensor) -> Tile:
    """The tile of the first row of the table that fits a call, no wider than the value's rows.

    Args:
        operation: one that the table names.
        key: `(B, C, Nk)`.
        value: `(B, O, Cv, Nk)`, or the keys where values take no part.
    """
    chip = chip_of(value.device)
    bits = 8 * key.element_size(), 8 * value.element_size()
    tuned = TUNED.get(value.device, {}).get(tuning_key(operation, key, value))
    if tuned is not None:
        return narrowed(tuned, value.shape[1:-1].numel())
    row = row_for(operation, chip.name, *bits)
    return narrowed(row.tile, value.shape[1:-1].numel())


def row_for(operation: str, chip: str, key_bits: int, value_bits: int) -> Row:
    """The first row of the table that fits."""
    return next(
        row
        for row in TABLE
        if row.operation == operation
        and chip in row.chips
        and key_bits <= row.key_bits
        and value_bits <= row.value_bits
    )


def rescales_lazily(device: torch.device) -> bool:
    """Whether the dense read may leave its readout alone while the maximum hardly moves.

    On sm_100 sums are in tensor memory, and triton 3.7 cannot compile a branch around their rescaling.
    """
    return chip_of(device).name != "sm_100"


def tuning_key(operation: str, key: Tensor, value: Tensor) -> str:
    """What a measured tile is good for: an operation, bits of keys and values, their channels up to a power of two."""
    bits = f"{8 * key.element_size()} and {8 * value.element_size()} bits"
    channels, rows = (1 << (count - 1).bit_length() for count in (key.shape[1], value.shape[1:-1].numel()))
    return f"{operation}, {bits}, {max(16, channels)} channels, {min(512, rows)} rows"


def use_tuned(device: torch.device, file: Path) -> None:
    """Take a GPU's tiles from a file that `stm-fast tune` wrote; one that is absent or broken has none."""
    with contextlib.suppress(OSError, ValueError, TypeError, AttributeError):
        TUNED[device] = {name: Tile(*tile) for name, tile in json.loads(file.read_text()).items()}


def narrowed(tile: Tile, rows: int) -> Tile:
    """The tile with no more rows than there are, rounded up to what a matrix unit takes."""
    return tile._replace(rows=min(tile.rows, max(16, 1 << (rows - 1).bit_length())))


def block_channels(channels: int, dtype: torch.dtype) -> int:
    """Channels of queries and keys that are multiplied at once; more are read in several blocks."""
    most = 128 if dtype.itemsize == 2 else 64
    return min(most, max(16, 1 << (channels - 1).bit_length()))
