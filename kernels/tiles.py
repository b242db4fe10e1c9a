"""Tile sizes by chip, with the reason for each. Never chosen by the length of the memory.

`stm-fast tune` measures others on a GPU and keeps what is faster there; see `stm_fast.ops.tile_tuning`.
"""

import contextlib
import json
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from stm_fast.kernels import plans
from stm_fast.kernels.chips import Chip, chip_of, of_backend
from stm_fast.kernels.layouts import DESCRIPTOR_BYTES, copy_bytes


class Tile(NamedTuple):
    """How a program's work is cut.

    Attributes:
        queries: of a tile of scores.
        tokens: of a tile of scores.
        value_channels: that a program holds or sums over at once, of all objects.
        warps: of a program.
        stages: of the pipeline of loads.
        split_float32: float32 is multiplied as sums of three bfloat16 on matrix units, six products of nine, which is
            as exact as float32; else by multiply-adds.
        specialized: some warps load while the others multiply, where all tensors have descriptors.
    """

    queries: int
    tokens: int
    value_channels: int
    warps: int
    stages: int
    split_float32: bool = False
    specialized: bool = False

    def options(self) -> dict[str, int]:
        """The tile as arguments of a kernel's launch."""
        return {
            "BLOCK_M": self.queries,
            "BLOCK_N": self.tokens,
            "BLOCK_V": self.value_channels,
            "num_warps": self.warps,
            "num_stages": self.stages,
        }


class Row(NamedTuple):
    """A tile and where it is used.

    Attributes:
        operation: that uses it.
        chips: their names.
        key_bits: of keys and queries at most.
        value_bits: of values at most.
        tile: for them.
        reason: for it.
        copy_bytes: of keys and values at once, at least. 16 are by descriptors, which the chip must have.
    """

    operation: str
    chips: tuple[str, ...]
    key_bits: int
    value_bits: int
    tile: Tile
    reason: str
    copy_bytes: int = 0


NVIDIA, AMD = of_backend("cuda"), of_backend("hip")
ALL = (*NVIDIA, *AMD)
LARGE = ("sm_90", "sm_100")

_SCORES_ALONE = "scores alone: small programs, many of them"
_TWICE_CHOSEN = "few queries, since a tile has at least twice as many tokens as are chosen"
_FLOAT32 = "products of float32 keep both operands in registers, which leaves room for 32 x 32 scores"
_OPERANDS_HELD = "128 queries spill: mma.sync keeps operands in registers"
_NO_TENSOR_MEMORY = "64 queries go to tensor memory: triton 3.7 cannot sort them"
_WIDE = "two programs for 512 channels: all in one spill on sm_90"
_HELD = "the other side is the only one that is fetched for every tile"
_SPLIT = "left operands of three bfloat16 each in registers: 128 of the own side, 32 of the other"
_SPLIT_LOOP = "as for the read; 32 value channels at once, or 200 bytes spill"

TABLE = (
    Row("read", LARGE, 16, 16, Tile(128, 64, 256, 8, 3), _WIDE, copy_bytes=16),
    Row("read", LARGE, 16, 16, Tile(128, 64, 256, 8, 2), _WIDE, copy_bytes=16),
    Row("read", LARGE, 16, 16, Tile(128, 64, 256, 8, 2), _WIDE, copy_bytes=4),
    Row("read", LARGE, 16, 16, Tile(128, 32, 128, 8, 2), "numbers that are loaded one by one need registers"),
    Row("read", ("sm_80",), 16, 16, Tile(64, 64, 256, 8, 2), _OPERANDS_HELD, copy_bytes=4),
    Row("read", ("sm_80", "sm_86"), 16, 16, Tile(64, 32, 256, 8, 2), "64 KB of 99 with keys of 128 channels"),
    Row("read", AMD, 16, 16, Tile(128, 32, 256, 8, 1), "one stage: 64 KB of shared memory, and registers to spare"),
    Row("query_gradient", LARGE, 16, 16, Tile(128, 32, 512, 8, 2), _HELD, copy_bytes=16),
    Row("query_gradient", LARGE, 16, 16, Tile(64, 32, 512, 4, 3), _HELD, copy_bytes=4),
    Row("query_gradient", ("sm_80", "sm_86"), 16, 16, Tile(64, 64, 128, 8, 2), _OPERANDS_HELD),
    Row("query_gradient", ALL, 16, 16, Tile(128, 64, 64, 8, 2), "64 queries on 4 warps spill with keys of 128"),
    Row("key_gradient", LARGE, 16, 16, Tile(32, 128, 512, 8, 2), _HELD, copy_bytes=16),
    Row("key_gradient", LARGE, 16, 16, Tile(32, 64, 512, 4, 3), _HELD, copy_bytes=4),
    Row("key_gradient", ALL, 16, 16, Tile(64, 64, 64, 8, 2), "as query_gradient; queries are the loop here"),
    Row("value_gradient", LARGE, 16, 16, Tile(64, 128, 256, 8, 2), "scores are made again for every 256 channels only"),
    Row("value_gradient", NVIDIA, 16, 16, Tile(64, 64, 128, 8, 2), "what fits where registers hold both operands"),
    Row("value_gradient", AMD, 16, 16, Tile(64, 64, 64, 8, 1), "a second stage spills"),
    Row("usage", LARGE, 16, 16, Tile(64, 128, 16, 8, 3), _SCORES_ALONE),
    Row("usage", ALL, 16, 16, Tile(64, 64, 16, 4, 2), _SCORES_ALONE),
    Row(
        "top_k",
        ("sm_90",),
        16,
        16,
        Tile(128, 64, 16, 8, 2),
        "keys are read twice for 128 queries at once",
        copy_bytes=4,
    ),
    Row("top_k", ("sm_90",), 16, 16, Tile(64, 64, 16, 8, 2), "128 queries spill where numbers are loaded one by one"),
    Row("top_k", ("sm_100",), 16, 16, Tile(32, 64, 16, 4, 2), _NO_TENSOR_MEMORY, copy_bytes=4),
    Row("top_k", ("sm_80", "sm_86"), 16, 16, Tile(64, 64, 16, 8, 2), "128 queries spill", copy_bytes=4),
    Row("top_k", AMD, 16, 16, Tile(64, 64, 16, 8, 2), "128 queries spill"),
    Row("top_k", ALL, 16, 16, Tile(16, 64, 16, 8, 2), "32 queries spill where numbers are loaded one by one"),
    Row("top_k_wide", ("sm_80", "sm_86"), 16, 16, Tile(16, 64, 16, 8, 1), "a second stage spills with triton 3.6"),
    Row("top_k_wide", AMD, 16, 16, Tile(16, 64, 16, 8, 1), "a second stage of 256 keys does not fit"),
    Row("top_k_wide", ALL, 16, 16, Tile(16, 64, 16, 8, 2), _TWICE_CHOSEN),
    Row("read", ("sm_90",), 32, 32, Tile(128, 32, 128, 8, 2, split_float32=True), _SPLIT),
    Row("query_gradient", ("sm_90",), 32, 32, Tile(128, 32, 32, 8, 2, split_float32=True), _SPLIT_LOOP),
    Row("key_gradient", ("sm_90",), 32, 32, Tile(32, 128, 32, 8, 2, split_float32=True), _SPLIT_LOOP),
    Row("value_gradient", ("sm_90",), 32, 32, Tile(32, 128, 128, 8, 2, split_float32=True), _SPLIT),
    Row("usage", ("sm_90",), 32, 32, Tile(64, 128, 16, 8, 2, split_float32=True), _SPLIT),
    Row("read", LARGE, 32, 16, Tile(32, 32, 512, 8, 2), "scores in float32 are dear, and made once for 512 channels"),
    Row("read", ALL, 32, 16, Tile(32, 32, 256, 8, 2), "as many channels of 16 bits as fit beside scores in float32"),
    Row("value_gradient", ALL, 32, 16, Tile(32, 32, 256, 8, 2), "as many channels of 16 bits as fit, for the scores"),
    Row("read", ("sm_100",), 32, 32, Tile(32, 32, 64, 8, 2), "products of float32 need 8 warps not to spill here"),
    Row("read", ALL, 32, 32, Tile(32, 32, 64, 4, 2), _FLOAT32),
    Row("query_gradient", ALL, 32, 32, Tile(32, 32, 32, 4, 2), _FLOAT32),
    Row("key_gradient", ALL, 32, 32, Tile(32, 32, 32, 4, 2), _FLOAT32),
    Row("value_gradient", ALL, 32, 32, Tile(32, 32, 64, 4, 2), _FLOAT32),
    Row("usage", ALL, 32, 32, Tile(32, 32, 16, 4, 2), _SCORES_ALONE),
    Row("top_k", ("sm_90",), 32, 32, Tile(128, 64, 16, 8, 1, split_float32=True), _SPLIT),
    Row("top_k", ALL, 32, 32, Tile(16, 64, 16, 8, 2), "32 queries spill beside products of float32"),
    Row("top_k_wide", AMD, 32, 32, Tile(16, 64, 16, 8, 1), "a second stage of 256 keys does not fit"),
    Row("top_k_wide", ALL, 32, 32, Tile(16, 64, 16, 8, 2), _TWICE_CHOSEN),
)
TUNED: dict[torch.device, dict[str, Tile]] = {}
"""Tiles measured on a GPU, by operation and bits, which go before the table's."""
MERGE_TILE = Tile(queries=64, tokens=1, value_channels=32, warps=4, stages=2)
"""Bound by memory on every chip: neighbouring queries of 32 rows at a time."""
RESERVED_BYTES = 2048
"""Of shared memory, for barriers, statistics and the system."""
WIDE_TOP_K = 32
"""More candidates than these are kept by the tile of "top_k_wide"."""
GATHER_TILE = Tile(queries=64, tokens=16, value_channels=32, warps=4, stages=2)
"""Bound by scattered reads on every chip: many in flight, few registers."""
DELTA_TILE = Tile(queries=16, tokens=1, value_channels=128, warps=4, stages=2)
"""Bound by latency: a sector of 16 bits a row, and as many programs as queries allow."""


def tile_for(operation: str, key: Tensor, value: Tensor) -> Tile:
    """The tile that was measured for a call, or else the table's, no wider than the value's channels.

    Args:
        operation: one that the table names.
        key: `(B, C, Nk)`.
        value: `(B, O, Cv, Nk)`, or the keys where values take no part.
    """
    row = row_for(operation, key, value)
    tuned = TUNED.get(value.device, {}).get(tuning_key(operation, key, value))
    if tuned is not None and _fits(row._replace(tile=tuned), chip_of(value.device), key, value):
        row = row._replace(tile=tuned)
    return narrowed(row.tile, value.shape[1:-1].numel())


def row_for(operation: str, key: Tensor, value: Tensor) -> Row:
    """The first row of the table that fits a call; arguments as of `tile_for`."""
    chip = chip_of(value.device)
    return next(
        row
        for row in TABLE
        if row.operation == operation
        and chip.name in row.chips
        and 8 * key.element_size() <= row.key_bits
        and 8 * value.element_size() <= row.value_bits
        and row.copy_bytes <= min(copy_bytes(key), copy_bytes(value))
        and (chip.descriptors or row.copy_bytes < DESCRIPTOR_BYTES)
        and (not row.copy_bytes or _fits(row, chip, key, value))
    )


def _fits(row: Row, chip: Chip, key: Tensor, value: Tensor) -> bool:
    """Whether tiles fit into a chip's shared memory, and all channels of what a program owns where `_HELD` says so."""
    tile, block = row.tile, block_channels(key.shape[1], key.dtype)
    value_channels = value.shape[1:-1].numel()
    key_bytes = key.element_size() * min(power_of_two(key.shape[1]), 2 * block)
    value_bytes = value.element_size() * min(power_of_two(value_channels), tile.value_channels)
    own, other = tile.tokens, tile.queries
    if row.operation not in ("usage", "key_gradient", "value_gradient"):
        own, other = other, own
    if row.reason == _HELD:
        if key.shape[1] > block or value_channels > tile.value_channels:
            return False
        needed = (own + tile.stages * other) * (key_bytes + value_bytes)
    elif row.operation in ("usage", "top_k", "top_k_wide"):
        needed = (own + tile.stages * other) * key_bytes
    else:
        needed = own * key_bytes + tile.stages * other * (key_bytes + value_bytes)
    return needed + RESERVED_BYTES <= chip.shared


def rescales_lazily(device: torch.device) -> bool:
    """Whether the dense read may leave its readout alone while the maximum hardly moves.

    Not where products are asynchronous: on sm_90 a branch around the rescaling of their sums makes each product wait
    for the one before, on sm_100 triton cannot compile it.
    """
    return not chip_of(device).descriptors


def tuning_key(operation: str, key: Tensor, value: Tensor) -> str:
    """What a measured tile is good for: an operation, bits, channels up to a power of two, and how a memory lies."""
    bits = f"{8 * key.element_size()} and {8 * value.element_size()} bits"
    channels, value_channels = map(power_of_two, (key.shape[1], value.shape[1:-1].numel()))
    copies = f"copies of {min(copy_bytes(key), copy_bytes(value))} bytes"
    return f"{operation}, {bits}, {channels} channels, {value_channels} value channels, {copies}"


def use_tuned(device: torch.device, file: Path) -> None:
    """Take a GPU's tiles from a file that `stm-fast tune` wrote; one that is absent or broken has none."""
    with contextlib.suppress(OSError, ValueError, TypeError, AttributeError):
        TUNED[device] = {name: Tile(*tile) for name, tile in json.loads(file.read_text()).items()}
    plans.forget()


def narrowed(tile: Tile, value_channels: int) -> Tile:
    """The tile with no more value channels than there are, rounded up to what a matrix unit takes."""
    return tile._replace(value_channels=min(tile.value_channels, power_of_two(value_channels)))


def power_of_two(size: int) -> int:
    """The smallest size of a tile's side that is not less; 16 at least, which matrix units take."""
    return max(16, 1 << (size - 1).bit_length())


def block_channels(channels: int, dtype: torch.dtype) -> int:
    """Channels of queries and keys that are multiplied at once; more are read in several blocks."""
    most = 128 if dtype.itemsize == 2 else 64
    return min(most, power_of_two(channels))
