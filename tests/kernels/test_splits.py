"""The number of splits of a memory."""

import pytest
import torch

pytest.importorskip("triton")

from stm_fast.kernels import chips, splits, tiles
from stm_fast.kernels.splits import Work


@pytest.mark.parametrize(
    ("programs", "memory_tiles", "processors", "expected"),
    [
        (26, 1000, 132, 5),  # 130 of 132 busy
        (13, 1000, 132, 10),
        (26, 8, 132, 2),  # at least four tiles a split
        (26, 3, 132, 1),
        (400, 1000, 132, 1),
        (1, 1000, 1, 1),
    ],
)
def test_long_loops_keep_processors_busy(programs: int, memory_tiles: int, processors: int, expected: int) -> None:
    assert splits.split_count(Work(programs, memory_tiles, tile=1.0, results=0.0), processors) == expected


def test_no_split_whose_results_cost_more_than_it_brings() -> None:
    work = Work(programs=26, tiles=26, tile=1.0, results=0.5, merge=3.0)
    assert splits.split_count(work, 132) == 5
    assert splits.split_count(work._replace(results=1.0), 132) == 4  # as fast as 5
    assert splits.split_count(work._replace(results=4.0), 132) == 2
    assert splits.split_count(work._replace(results=10.0), 132) == 1
    assert splits.split_count(work._replace(results=0.0, merge=30.0), 132) == 1


def test_the_time_of_a_split_read() -> None:
    work = Work(programs=4, tiles=10, tile=1.0, results=0.5, merge=3.0)
    assert work.time(1, 8) == 10 + splits.START
    assert work.time(2, 8) == 5 + splits.START + 2 * 0.5 + 3
    assert work.time(3, 8) == 2 * (4 + splits.START) + 3 * 0.5 + 3


def test_products_of_float32_take_longer() -> None:
    """Multiply-adds take longest, then a mix of dtypes, then products of bfloat16."""
    query, value = torch.zeros(1, 64, 9), torch.zeros(1, 1, 64, 9)
    tile = tiles.Tile(64, 64, 64, 4, 2)
    with chips.pretending(chips.CHIPS["sm_90"]):
        wide = splits.tile_time(tile, 64, 64, query, value)
        mixed = splits.tile_time(tile, 64, 64, query, value.bfloat16())
        narrow = splits.tile_time(tile, 64, 64, query.bfloat16(), value.bfloat16())
    assert narrow < mixed < wide
    assert mixed == pytest.approx((narrow + wide) / 2)
    assert narrow == pytest.approx(2 * 64 * 64 * 128 / splits.ATTAINED / chips.CHIPS["sm_90"].flops_16)


@pytest.mark.parametrize("chip", chips.CHIPS.values(), ids=list(chips.CHIPS))
def test_rates_of_chips_are_in_the_same_units(chip: chips.Chip) -> None:
    assert 5e7 < chip.processors * chip.flops_16 < 3e9
    assert chip.flops_32 < chip.flops_16
    assert 5e5 < chip.bytes_per_microsecond < 1e7
