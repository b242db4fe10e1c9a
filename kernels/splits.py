"""The number of splits of a memory: enough to keep all processors busy, but not so many that merging costs more.

    time = waves · (tiles of a split · time of a tile + start) + splits · time of a split's results + launch of a merge

The number depends on sizes, dtypes and the chip only, so that equal calls have equal results. The model assumes that a
processor runs one program at a time at half of its peak rate, and that results of splits go to memory and back.

The CUDA kernels have a model of their own (csrc/cuda/plan.cu): several of their blocks share a processor, as many as
the driver reports.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from stm_fast.kernels.chips import Chip, chip_of
from stm_fast.kernels.launch import blocks, precision
from stm_fast.kernels.tiles import Tile

ATTAINED = 0.5
"""Fraction of the peak rate that a loop of products and exponentials attains."""
START = 2.0
"""Microseconds in which a program fills its pipeline and, at the end, writes its results."""
MERGE_LAUNCH = 3.0
"""Microseconds from the end of one kernel to the start of the next."""
MIN_TILES_PER_SPLIT = 4
"""With fewer tiles a pipeline has hardly filled when it ends."""
COST_OF = {"ieee": 1, "tf32": 2, "bf16x6": 6}
"""Cost of products of float32: in multiply-adds for "ieee", else in products of 16 bits."""


class Work(NamedTuple):
    """The work of a read. Times are in microseconds.

    Attributes:
        programs: programs of a split.
        tiles: tiles of tokens in the memory.
        tile: time of one tile in a program.
        results: time to write a split's results and to read them again.
        merge: time of the launch that merges splits, if one split does not need it.
    """

    programs: int
    tiles: int
    tile: float
    results: float
    merge: float = 0.0

    def time(self, splits: int, processors: int) -> float:
        """Return the time with a number of splits on a number of processors."""
        waves = blocks(splits * self.programs, processors)
        merging = splits * self.results + self.merge if splits > 1 else 0.0
        return waves * (blocks(self.tiles, splits) * self.tile + START) + merging


def split_count(work: Work, processors: int) -> int:
    """Return the fastest number of splits, the smallest of equally fast ones, with two waves of programs at most."""
    max_splits = max(1, min(work.tiles // MIN_TILES_PER_SPLIT, blocks(2 * processors, work.programs)))
    return min(range(1, max_splits + 1), key=lambda splits: work.time(splits, processors))


def tile_time(tile: Tile, channels: int, value_channels: int, query: Tensor, value: Tensor) -> float:
    """Return the microseconds in which a program computes the products of one tile of tokens.

    Args:
        tile: tile of the program.
        channels: channels of queries and keys that are multiplied, for scores and for sums.
        value_channels: channels of values that are multiplied.
        query: tensor of the dtype of queries and keys.
        value: tensor of the dtype of values.
    """
    chip = chip_of(query.device)
    time_per_pair = channels / _rate(chip, tile, query) + value_channels / _rate(chip, tile, value)
    return 2 * tile.queries * tile.tokens * time_per_pair / ATTAINED


def results_time(numbers: int, item_bytes: int, device: torch.device) -> float:
    """Return the microseconds in which numbers are written to memory and read again."""
    return 2 * numbers * item_bytes / chip_of(device).bytes_per_microsecond


def _rate(chip: Chip, tile: Tile, operand: Tensor) -> float:
    """Return the peak rate of one processor, in operations per microsecond, for numbers of a tensor's dtype."""
    if operand.dtype != torch.float32:
        return chip.flops_16
    kind = precision(tile, operand)
    return (chip.flops_32 if kind == "ieee" else chip.flops_16) / COST_OF[kind]
