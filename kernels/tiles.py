"""Tile sizes by chip, with the reason for each. The length of the memory plays no part.

`stm-fast tune` measures other tiles on a GPU and keeps those that are faster there; see `stm_fast.ops.tile_tuning`.
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
    """The tile sizes of a program.

    Attributes:
        queries: queries of a tile of scores.
        tokens: tokens of a tile of scores.
        value_channels: value channels that a program holds or sums over at once, of all objects.
        warps: warps of a program.
        stages: stages of the pipeline of loads.
        split_float32: whether matrix units multiply float32 as split bf16, by six of the nine products of three
            parts each, which is as exact as float32. Otherwise multiply-adds do.
        specialized: whether some warps load while the others multiply, if all tensors have descriptors.
    """

    queries: int
    tokens: int
    value_channels: int
    warps: int
    stages: int
    split_float32: bool = False
    specialized: bool = False

    def options(self) -> dict[str, int]:
        """Return the tile as arguments of a kernel's launch."""
        return {
            "BLOCK_M": self.queries,
            "BLOCK_N": self.tokens,
            "BLOCK_V": self.value_channels,
            "num_warps": self.warps,
            "num_stages": self.stages,
        }


class Entry(NamedTuple):
    """A tile and its uses.

    Attributes:
        operation: operation that uses the tile.
        chips: names of the chips.
        key_bits: maximum bits of keys and queries.
        value_bits: maximum bits of values.
        tile: the tile.
        reason: why this tile.
        copy_bytes: minimum bytes of keys and values that are copied at once. 16 are copied by descriptors, which the
            chip must have.
        holds_channels: whether a program holds all channels of its own side, which must fit into shared memory.
    """

    operation: str
    chips: tuple[str, ...]
    key_bits: int
    value_bits: int
    tile: Tile
    reason: str
    copy_bytes: int = 0
    holds_channels: bool = False


NVIDIA, AMD = of_backend("cuda"), of_backend("hip")
ALL = (*NVIDIA, *AMD)
LARGE = ("sm_90", "sm_100")

_SCORES_ALONE = "only scores: many small programs"
_TWICE_CHOSEN = "few queries, since a tile has at least twice as many tokens as are chosen"
_FLOAT32 = "multiply-adds keep both operands in registers, which leaves room for 32 x 32 scores"
_OPERANDS_HELD = "128 queries spill: mma.sync keeps operands in registers"
_NO_TENSOR_MEMORY = "64 queries are put in tensor memory, where triton 3.7 cannot sort them"
_WIDE = "two programs for 512 channels: one spills on sm_90"
_HELD = "only the other side is loaded for every tile"
_SPLIT = "split bf16 keeps left operands in registers, which hold 128 of the own side and 32 of the other"
_SPLIT_LOOP = "as for the read; more than 32 value channels at once spill 200 bytes"

TABLE = (
    Entry("read", LARGE, 16, 16, Tile(128, 64, 256, 8, 3), _WIDE, copy_bytes=16),
    Entry("read", LARGE, 16, 16, Tile(128, 64, 256, 8, 2), _WIDE, copy_bytes=16),
    Entry("read", LARGE, 16, 16, Tile(128, 64, 256, 8, 2), _WIDE, copy_bytes=4),
    Entry("read", LARGE, 16, 16, Tile(128, 32, 128, 8, 2), "loads of single numbers need more registers"),
    Entry("read", ("sm_80",), 16, 16, Tile(64, 64, 256, 8, 2), _OPERANDS_HELD, 4, holds_channels=True),
    Entry("read", ("sm_80", "sm_86"), 16, 16, Tile(64, 32, 256, 8, 2), "64 of 99 KB with 128 key channels"),
    Entry("read", AMD, 16, 16, Tile(128, 32, 256, 8, 1), "one stage fits into 64 KB of shared memory"),
    Entry("query_gradient", LARGE, 16, 16, Tile(128, 32, 512, 8, 2), _HELD, 16, holds_channels=True),
    Entry("query_gradient", LARGE, 16, 16, Tile(64, 32, 512, 4, 3), _HELD, 4, holds_channels=True),
    Entry("query_gradient", ("sm_80", "sm_86"), 16, 16, Tile(64, 64, 128, 8, 2), _OPERANDS_HELD),
    Entry("query_gradient", ALL, 16, 16, Tile(128, 64, 64, 8, 2), "64 queries on 4 warps spill with 128 key channels"),
    Entry("key_gradient", LARGE, 16, 16, Tile(32, 128, 512, 8, 2), _HELD, 16, holds_channels=True),
    Entry("key_gradient", LARGE, 16, 16, Tile(32, 64, 512, 4, 3), _HELD, 4, holds_channels=True),
    Entry("key_gradient", ALL, 16, 16, Tile(64, 64, 64, 8, 2), "as for query_gradient, with a loop over queries"),
    Entry("value_gradient", LARGE, 16, 16, Tile(64, 128, 256, 8, 2), "scores are computed only once for 256 channels"),
    Entry(
        "value_gradient",
        NVIDIA,
        16,
        16,
        Tile(64, 64, 128, 8, 2),
        "the largest that fits if registers hold both operands",
    ),
    Entry("value_gradient", AMD, 16, 16, Tile(64, 64, 64, 8, 1), "a second stage spills"),
    Entry("usage", LARGE, 16, 16, Tile(64, 128, 16, 8, 3), _SCORES_ALONE),
    Entry("usage", ALL, 16, 16, Tile(64, 64, 16, 4, 2), _SCORES_ALONE),
    Entry(
        "top_k",
        ("sm_90",),
        16,
        16,
        Tile(128, 64, 16, 8, 2),
        "two passes over the keys serve 128 queries at once",
        copy_bytes=4,
    ),
    Entry("top_k", ("sm_90",), 16, 16, Tile(64, 64, 16, 8, 2), "128 queries spill with loads of single numbers"),
    Entry("top_k", ("sm_100",), 16, 16, Tile(32, 64, 16, 4, 2), _NO_TENSOR_MEMORY, copy_bytes=4),
    Entry("top_k", ("sm_80", "sm_86"), 16, 16, Tile(64, 64, 16, 8, 2), "128 queries spill", copy_bytes=4),
    Entry("top_k", AMD, 16, 16, Tile(64, 64, 16, 8, 2), "128 queries spill"),
    Entry("top_k", ALL, 16, 16, Tile(16, 64, 16, 8, 2), "32 queries spill with loads of single numbers"),
    Entry("top_k_wide", ("sm_80", "sm_86"), 16, 16, Tile(16, 64, 16, 8, 1), "a second stage spills with triton 3.6"),
    Entry("top_k_wide", AMD, 16, 16, Tile(16, 64, 16, 8, 1), "a second stage of 256 keys does not fit"),
    Entry("top_k_wide", ALL, 16, 16, Tile(16, 64, 16, 8, 2), _TWICE_CHOSEN),
    Entry("read", ("sm_90",), 32, 32, Tile(128, 32, 128, 8, 2, split_float32=True), _SPLIT),
    Entry("query_gradient", ("sm_90",), 32, 32, Tile(128, 32, 32, 8, 2, split_float32=True), _SPLIT_LOOP),
    Entry("key_gradient", ("sm_90",), 32, 32, Tile(32, 128, 32, 8, 2, split_float32=True), _SPLIT_LOOP),
    Entry("value_gradient", ("sm_90",), 32, 32, Tile(32, 128, 128, 8, 2, split_float32=True), _SPLIT),
    Entry("usage", ("sm_90",), 32, 32, Tile(64, 128, 16, 8, 2, split_float32=True), _SPLIT),
    Entry(
        "read",
        LARGE,
        32,
        16,
        Tile(32, 32, 512, 8, 2),
        "scores in float32 are expensive, and computed once for 512 channels",
    ),
    Entry("read", ALL, 32, 16, Tile(32, 32, 256, 8, 2), "as many 16-bit channels as fit beside scores in float32"),
    Entry(
        "value_gradient",
        ALL,
        32,
        16,
        Tile(32, 32, 256, 8, 2),
        "as many 16-bit channels as fit beside scores in float32",
    ),
    Entry("read", ("sm_100",), 32, 32, Tile(32, 32, 64, 8, 2), "multiply-adds spill with fewer than 8 warps"),
    Entry("read", ALL, 32, 32, Tile(32, 32, 64, 4, 2), _FLOAT32),
    Entry("query_gradient", ALL, 32, 32, Tile(32, 32, 32, 4, 2), _FLOAT32),
    Entry("key_gradient", ALL, 32, 32, Tile(32, 32, 32, 4, 2), _FLOAT32),
    Entry("value_gradient", ALL, 32, 32, Tile(32, 32, 64, 4, 2), _FLOAT32),
    Entry("usage", ALL, 32, 32, Tile(32, 32, 16, 4, 2), _SCORES_ALONE),
    Entry("top_k", ("sm_90",), 32, 32, Tile(128, 64, 16, 8, 1, split_float32=True), _SPLIT),
    Entry("top_k", ALL, 32, 32, Tile(16, 64, 16, 8, 2), "32 queries spill beside multiply-adds"),
    Entry("top_k_wide", AMD, 32, 32, Tile(16, 64, 16, 8, 1), "a second stage of 256 keys does not fit"),
    Entry("top_k_wide", ALL, 32, 32, Tile(16, 64, 16, 8, 2), _TWICE_CHOSEN),
)
TUNED: dict[torch.device, dict[str, Tile]] = {}
"""Tiles measured on a GPU, by `tuning_key`, which take precedence over the table's."""
MERGE_TILE = Tile(queries=64, tokens=1, value_channels=32, warps=4, stages=2)
"""Bound by memory bandwidth on every chip: neighbouring queries, 32 channels at a time."""
RESERVED_BYTES = 2048
"""Bytes of shared memory kept free for barriers, statistics and the system."""
WIDE_TOP_K = 32
"""Maximum number of candidates of "top_k"; more need the tile of "top_k_wide"."""
GATHER_TILE = Tile(queries=64, tokens=16, value_channels=32, warps=4, stages=2)
"""Bound by scattered reads on every chip: many programs with few registers."""
DELTA_TILE = Tile(queries=16, tokens=1, value_channels=128, warps=4, stages=2)
"""Bound by latency: one 32-byte sector of 16-bit numbers per channel, and as many programs as queries allow."""


def tile_for(operation: str, key: Tensor, value: Tensor) -> Tile:
    """Return the tile measured for a call, or else the table's, no wider than the value channels.

    Args:
        operation: operation of the table.
        key: `(B, C, Nk)`.
        value: `(B, O, Cv, Nk)`, or key if the operation has no values.
    """
    tile = TUNED.get(value.device, {}).get(tuning_key(operation, key, value))
    if tile is None or not can_replace(tile, operation, key, value):
        tile = entry_for(operation, key, value).tile
    return narrowed(tile, value.shape[1:-1].numel())


def can_replace(tile: Tile, operation: str, key: Tensor, value: Tensor) -> bool:
    """Return whether a tile can replace the table's for a call. The other arguments are those of `tile_for`."""
    entry = entry_for(operation, key, value)._replace(tile=tile)
    return _fits(entry, chip_of(value.device), key, value)


def entry_for(operation: str, key: Tensor, value: Tensor) -> Entry:
    """Return the first entry of the table that fits a call. The arguments are those of `tile_for`."""
    chip = chip_of(value.device)
    return next(
        entry
        for entry in TABLE
        if entry.operation == operation
        and chip.name in entry.chips
        and 8 * key.element_size() <= entry.key_bits
        and 8 * value.element_size() <= entry.value_bits
        and entry.copy_bytes <= min(copy_bytes(key), copy_bytes(value))
        and (chip.descriptors or entry.copy_bytes < DESCRIPTOR_BYTES)
        and (not entry.copy_bytes or _fits(entry, chip, key, value))
    )


def _fits(entry: Entry, chip: Chip, key: Tensor, value: Tensor) -> bool:
    """Return whether the tile fits into a chip's shared memory, with all channels of the own side if it holds them."""
    tile, block = entry.tile, block_channels(key.shape[1], key.dtype)
    value_channels = value.shape[1:-1].numel()
    key_bytes = key.element_size() * min(power_of_two(key.shape[1]), 2 * block)
    value_bytes = value.element_size() * min(power_of_two(value_channels), tile.value_channels)
    owns_tokens = entry.operation in ("usage", "key_gradient", "value_gradient")
    own, other = (tile.tokens, tile.queries) if owns_tokens else (tile.queries, tile.tokens)
    if entry.holds_channels:
        if key.shape[1] > block or value_channels > tile.value_channels:
            return False
        needed = (own + tile.stages * other) * (key_bytes + value_bytes)
    elif entry.operation in ("usage", "top_k", "top_k_wide"):
        needed = (own + tile.stages * other) * key_bytes
    else:
        needed = own * key_bytes + tile.stages * other * (key_bytes + value_bytes)
    return needed + RESERVED_BYTES <= chip.shared


def rescales_lazily(device: torch.device) -> bool:
    """Return whether the dense read rescales its readout only if the maximum rises by much.

    Chips with asynchronous products always rescale: on sm_90 a branch around the rescaling of their sums makes each
    product wait for the previous one, and on sm_100 triton cannot compile the branch.
    """
    return not chip_of(device).descriptors


def tuning_key(operation: str, key: Tensor, value: Tensor) -> str:
    """Return the calls that a measured tile serves: an operation, bits, channels up to a power of two, and a layout."""
    bits = f"{8 * key.element_size()} and {8 * value.element_size()} bits"
    channels, value_channels = map(power_of_two, (key.shape[1], value.shape[1:-1].numel()))
    copies = f"copies of {min(copy_bytes(key), copy_bytes(value))} bytes"
    return f"{operation}, {bits}, {channels} channels, {value_channels} value channels, {copies}"


def use_tuned(device: torch.device, file: Path) -> None:
    """Use a GPU's tiles from a file that `stm-fast tune` wrote. A file that is absent or broken is ignored."""
    with contextlib.suppress(OSError, ValueError, TypeError, AttributeError):
        TUNED[device] = {name: Tile(*tile) for name, tile in json.loads(file.read_text()).items()}
    plans.forget()


def narrowed(tile: Tile, value_channels: int) -> Tile:
    """Return the tile with at most as many value channels as there are, rounded up to a power of two."""
    return tile._replace(value_channels=min(tile.value_channels, power_of_two(value_channels)))


def power_of_two(size: int) -> int:
    """Return the smallest size of a tile's side that holds `size`: a power of two, at least the 16 of matrix units."""
    return max(16, 1 << (size - 1).bit_length())


def block_channels(channels: int, dtype: torch.dtype) -> int:
    """Return the channels of queries and keys that are multiplied at once. More are read in several blocks."""
    max_channels = 128 if dtype.itemsize == 2 else 64
    return min(max_channels, power_of_two(channels))
