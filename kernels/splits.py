"""Into how many splits a memory is split, so that all processors are busy and merging does not eat up what that brings.

    time = waves · (tiles of a split · time of a tile + start) + splits · time of a split's results + launch of a merge

It follows from sizes, dtypes and the chip alone, so that the same call has the same result every time. What it assumes:
a processor runs one program at a time, at half of its peak; what splits write for the merge goes to memory and back.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from stm_fast.kernels.chips import Chip, chip_of
from stm_fast.kernels.launch import blocks, precision
from stm_fast.kernels.tiles import Tile

ATTAINED = 0.5
"""Of the peak rate of products, by a loop of products and exponentials."""
START = 2.0
"""Microseconds in which a program fills its pipeline, and in the end writes what it has."""
MERGE_LAUNCH = 3.0
"""Microseconds from the end of one kernel to the work of the next."""
MIN_TILES_PER_SPLIT = 4
"""With fewer, a pipeline is hardly filled before it ends."""
COST_OF = {"ieee": 1, "tf32": 2, "bf16x6": 6}
"""Products of float32 as multiples of multiply-adds for "ieee", else of products of 16 bits."""


class Work(NamedTuple):
    """What a read asks of a chip; times are in microseconds.

    Attributes:
        programs: of a split.
        tiles: of tokens in the memory.
        tile: time of one of them in a program.
        results: time to write a split's results and to read them again.
        merge: time of the launch that merges them, if that is not needed for one split.
    """

    programs: int
    tiles: int
    tile: float
    results: float
    merge: float = 0.0

    def time(self, splits: int, processors: int) -> float:
        """How long it takes in so many splits on so many processors."""
        waves = blocks(splits * self.programs, processors)
        merging = splits * self.results + self.merge if splits > 1 else 0.0
        return waves * (blocks(self.tiles, splits) * self.tile + START) + merging


def split_count(work: Work, processors: int) -> int:
    """The number of splits that takes least time, the smallest of equals; two waves of programs at most."""
    most = max(1, min(work.tiles // MIN_TILES_PER_SPLIT, blocks(2 * processors, work.programs)))
    return min(range(1, most + 1), key=lambda splits: work.time(splits, processors))


def tile_time(tile: Tile, channels: int, value_channels: int, query: Tensor, value: Tensor) -> float:
    """Microseconds that a program needs for the products of one tile of tokens.

    Args:
        tile: of the program.
        channels: of queries and keys that are multiplied, for scores and for sums.
        value_channels: that are multiplied.
        query: of the dtype of the former.
        value: of the dtype of the latter.
    """
    chip = chip_of(query.device)
    a_pair = channels / _rate(chip, tile, query) + value_channels / _rate(chip, tile, value)
    return 2 * tile.queries * tile.tokens * a_pair / ATTAINED


def results_time(numbers: int, item_bytes: int, device: torch.device) -> float:
    """Microseconds to write so many numbers and to read them again."""
    return 2 * numbers * item_bytes / chip_of(device).bytes_per_microsecond


def _rate(chip: Chip, tile: Tile, operand: Tensor) -> float:
    """Operations a microsecond at most, of one processor that multiplies numbers like these."""
    if operand.dtype != torch.float32:
        return chip.flops_16
    kind = precision(tile, operand)
    return (chip.flops_32 if kind == "ieee" else chip.flops_16) / COST_OF[kind]
