"""What surrounds the kernels: splitting, units, tiles."""

import pytest
import torch

pytest.importorskip("triton")

from stm_fast.kernels import chips, launch, tiles


@pytest.mark.parametrize(
    ("programs", "memory_tiles", "processors", "parts"),
    [
        (26, 1000, 132, 5),  # 130 of 132 busy
        (13, 1000, 132, 10),
        (26, 8, 132, 2),  # at least four tiles a part
        (26, 3, 132, 1),
        (400, 1000, 132, 1),  # the second try at most leaves fewer idle
        (1, 1000, 1, 1),
    ],
)
def test_split_keeps_processors_busy(programs: int, memory_tiles: int, processors: int, parts: int) -> None:
    assert launch.split_count(programs, memory_tiles, processors) == parts


def test_units_divide_what_they_are_units_of() -> None:
    key = torch.empty(1, 64, 8100, dtype=torch.bfloat16, device="meta")
    query = torch.empty(1, 64, 1620, dtype=torch.bfloat16, device="meta")
    arguments = launch.with_offsets(launch.score_arguments(launch.Operands(query, key, None, None, None, 1.0)))
    assert arguments["UNIT"] * arguments["key_channel"] == 8100
    assert arguments["TOKEN_UNIT"] * arguments["tokens"] == 8100
    assert arguments["UNIT"] == arguments["TOKEN_UNIT"] == arguments["QUERY_UNIT"] == 4


def test_far_apart_needs_64_bits() -> None:
    import triton.language as tl

    near = torch.empty(4, 1, 1, 2**31 - 2**25, device="meta")
    far = torch.empty(1, 1, 2, 2**30, device="meta")
    assert launch.with_offsets(launch.value_arguments("value", near))["OFFSET"] == tl.int32
    assert launch.with_offsets(launch.value_arguments("value", far))["OFFSET"] == tl.int64


@pytest.mark.parametrize("chip", chips.CHIPS.values(), ids=list(chips.CHIPS))
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("operation", ["read", "query_gradient", "key_gradient", "value_gradient", "usage", "top_k"])
def test_every_chip_has_tiles(operation: str, dtype: torch.dtype, chip: chips.Chip) -> None:
    key = torch.empty(1, 64, 9, dtype=dtype, device="meta")
    with chips.pretending(chip):
        tile = tiles.tile_for(operation, key, key[:, None])
    assert tile.rows <= 64


def test_tiles_are_no_wider_than_the_values() -> None:
    tile = tiles.Tile(64, 64, 256, 8, 2)
    assert [tiles.narrowed(tile, rows).rows for rows in (1, 17, 200, 2048)] == [16, 32, 256, 256]
