"""What surrounds the kernels: splitting, units, tiles."""

import pytest
import torch

pytest.importorskip("triton")

from stm_fast.kernels import chips, launch, layouts, tiles
from stm_fast.kernels.operands import Operands


def test_units_divide_what_they_are_units_of() -> None:
    key = torch.empty(1, 64, 8104, dtype=torch.bfloat16, device="meta")[..., :8100]
    query = torch.empty(1, 64, 1620, dtype=torch.bfloat16, device="meta")
    operands = Operands(query, key, None, None, None, 1.0)
    arguments = launch.score_arguments(operands, tiles.Tile(64, 64, 64, 4, 2))
    assert (arguments["KEY_UNIT"], arguments["KEY_UNIT"] * arguments["key_channel"]) == (8, 8104)
    assert (arguments["QUERY_UNIT"], arguments["QUERY_UNIT"] * arguments["query_channel"]) == (4, 1620)
    assert (arguments["TOKENS_UNIT"], arguments["TOKENS_UNIT"] * arguments["tokens"]) == (4, 8100)
    assert (arguments["QUERIES_UNIT"], arguments["QUERIES_UNIT"] * arguments["queries"]) == (4, 1620)


def test_far_apart_needs_64_bits() -> None:
    import triton.language as tl

    def distance(value: torch.Tensor) -> object:
        arguments = launch.value_arguments("value", value, tiles.Tile(64, 64, 64, 4, 2), 64)
        return launch.with_index_type(arguments)["INDEX"]

    assert distance(torch.empty(4, 1, 1, 2**31 - 2**25, device="meta")) == tl.int32
    assert distance(torch.empty(1, 1, 2, 2**30, device="meta")) == tl.int64


def bank(*shape: int, capacity: int, dtype: torch.dtype = torch.bfloat16) -> torch.Tensor:
    """A view of the first items of a bank."""
    return torch.empty(*shape[:-1], capacity, dtype=dtype)[..., : shape[-1]]


def channels_last(*shape: int, capacity: int, dtype: torch.dtype = torch.bfloat16) -> torch.Tensor:
    """A view of the first channels of a bank whose channels lie side by side."""
    return torch.empty(*shape[:-2], shape[-1], capacity, dtype=dtype).mT[..., : shape[-2], :]


DESCRIBED = {
    "bank of odd size": (bank(1, 16, 35, capacity=40), (16, 35, 40)),
    "objects": (bank(1, 3, 16, 35, capacity=40), (48, 35, 40)),
    "batches of whole blocks": (bank(2, 16, 35, capacity=40), (32, 35, 40)),
    "float32 of half the capacity": (bank(1, 16, 35, capacity=36, dtype=torch.float32), (16, 35, 36)),
    "channels last": (channels_last(1, 16, 35, capacity=24), (35, 16, 24)),
    "objects, channels last": (torch.empty(1, 35, 3, 16, dtype=torch.bfloat16).permute(0, 2, 3, 1), (35, 48, 48)),
    "batches of whole blocks, channels last": (channels_last(2, 16, 32, capacity=24), (64, 16, 24)),
    "batch that is expanded": (bank(1, 16, 35, capacity=40).expand(2, -1, -1), None),
    "batches whose blocks overlap": (bank(2, 12, 35, capacity=40), None),
    "batches whose blocks overlap, channels last": (channels_last(2, 16, 35, capacity=24), None),
    "odd strides": (bank(1, 16, 35, capacity=35), None),
    "odd offset": (bank(1, 16, 40, capacity=40)[..., 4:], None),
    "objects with a gap": (bank(1, 3, 20, 35, capacity=40)[:, :, :16], None),
    "objects apart, channels last": (channels_last(1, 3, 16, 35, capacity=24), None),
    "every other": (torch.empty(1, 16, 80, dtype=torch.bfloat16)[..., ::2], None),
}


@pytest.mark.parametrize(("tensor", "matrix"), DESCRIBED.values(), ids=list(DESCRIBED))
def test_descriptors_only_of_what_they_can_describe(tensor: torch.Tensor, matrix: tuple[int, int, int] | None) -> None:
    assert launch.source("key", tensor, 16, 16)["key_descriptor"] is None
    with chips.pretending(chips.CHIPS["sm_90"]):
        arguments = launch.source("key", tensor, 16, 16)
    descriptor = arguments["key_descriptor"]
    if matrix is None:
        assert descriptor is None
        return
    assert descriptor.shape == list(matrix[:2])
    assert descriptor.strides == [matrix[2], 1]
    assert arguments["KEY_BY_ITEM"] == (True if tensor.stride(-1) > 1 else None)


def test_queries_are_copied_only_where_a_copy_helps() -> None:
    odd, even = bank(1, 16, 35, capacity=35), bank(1, 16, 35, capacity=40)
    odd.normal_()
    assert launch.aligned(odd) is odd
    with chips.pretending(chips.CHIPS["sm_90"]):
        copy = launch.aligned(odd)
        assert launch.source("query", copy, 16, 16)["query_descriptor"] is not None
        assert torch.equal(copy, odd)
        assert launch.aligned(even) is even
        last = channels_last(1, 16, 35, capacity=24)
        assert launch.aligned(last) is last


@pytest.mark.parametrize(
    ("tensor", "size"),
    [
        (bank(1, 16, 35, capacity=40), 16),
        (bank(1, 16, 36, capacity=36), 8),
        (bank(1, 16, 34, capacity=34), 4),
        (bank(1, 16, 35, capacity=36), 2),
        (bank(1, 16, 40, capacity=40)[..., 4:], 8),
        (bank(1, 16, 40, capacity=40)[..., 1:], 2),
        (torch.empty(1, 16, 100, dtype=torch.bfloat16).as_strided((1, 16, 36), (999, 100, 1)), 8),
        (channels_last(2, 12, 35, capacity=12), 8),
        (channels_last(1, 9, 35, capacity=12), 2),
        (torch.empty(1, 16, 80, dtype=torch.bfloat16)[..., ::2], 2),
    ],
)
def test_bytes_of_a_copy(tensor: torch.Tensor, size: int) -> None:
    assert layouts.copy_bytes(tensor) == size


def tile_on_hopper(operation: str, channels: int, value_channels: int, capacity: int = 16) -> tiles.Tile:
    key, value = bank(1, channels, 9, capacity=capacity), bank(1, 1, value_channels, 9, capacity=capacity)
    with chips.pretending(chips.CHIPS["sm_90"]):
        return tiles.tile_for(operation, key, value)


def test_what_is_held_fits_into_shared_memory() -> None:
    assert tile_on_hopper("key_gradient", 64, 512)[:3] == (32, 128, 512)
    assert tile_on_hopper("key_gradient", 128, 512)[:3] == (32, 64, 512)
    assert tile_on_hopper("query_gradient", 128, 512)[:3] == (64, 32, 512)
    assert tile_on_hopper("key_gradient", 64, 9)[:3] == (32, 128, 16)
    assert tile_on_hopper("key_gradient", 64, 2048)[:3] == (64, 64, 64)
    assert tile_on_hopper("key_gradient", 256, 512)[:3] == (64, 64, 64)
    assert tile_on_hopper("read", 128, 512)[:5] == (128, 64, 256, 8, 3)
    assert tile_on_hopper("read", 256, 512)[:5] == (128, 64, 256, 8, 2)


def test_the_tile_depends_on_how_a_memory_lies() -> None:
    assert tile_on_hopper("read", 128, 512, capacity=12)[:5] == (128, 32, 128, 8, 2)
    assert tile_on_hopper("key_gradient", 128, 512, capacity=12)[:3] == (64, 64, 64)


def test_tiles_are_no_wider_than_the_values() -> None:
    tile = tiles.Tile(64, 64, 256, 8, 2)
    assert [tiles.narrowed(tile, rows).value_channels for rows in (1, 17, 200, 2048)] == [16, 32, 256, 256]
