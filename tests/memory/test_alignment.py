"""Whatever is read begins at a multiple of 16 bytes, and so does each of its rows, for grids of any size."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from stm_fast import MemoryPolicy, memory_read
from stm_fast.memory import presets
from stm_fast.memory.bank import MemoryBank
from stm_fast.memory.policies import Eviction, LeastUsed, LongTerm, Oldest
from stm_fast.memory.stores import DiskStore, HostStore, Store
from tests.memory.reads import assert_aligned, watched

pytestmark = pytest.mark.usefixtures("poisoned")

KEY, VALUE = 4, 3
LONG_TERM = LongTerm(recent=1, prototypes=0.31, long_term_frames=0.9)
"""Of shares that are no multiples of 8 tokens."""
Grid = tuple[int, int]
grids = pytest.mark.parametrize("grid", [(5, 7), (30, 54)], ids=str)


def frame_of(grid: Grid, objects: int, seed: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    keys = torch.randn(objects, KEY, *grid, generator=generator)
    return keys.to(dtype), torch.randn(objects, VALUE, *grid, generator=generator).to(dtype)


def follow(bank: MemoryBank, grid: Grid, dtype: torch.dtype) -> None:
    """A video in which two objects join and one leaves: all that is read is aligned."""
    with watched() as seen:
        for index in range(14):
            bank.memorise(index, *frame_of(grid, 1 if index < 2 else 3 - (index > 5), index, dtype))
            if index == 5:
                bank.remove(0)
            assert bank.read(frame_of(grid, 1, 99, dtype)[0]).isfinite().all()
    for keys, values in seen:
        assert_aligned(keys)
        assert_aligned(values)


@grids
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("value_dtype", [None, torch.bfloat16, torch.int8], ids=str)
@pytest.mark.parametrize(
    "policy",
    [
        presets.official(1),
        presets.window(3, 1),
        MemoryPolicy(every=1, max_frames=5, eviction=LeastUsed()),
        MemoryPolicy(every=1, max_frames=5, eviction=LONG_TERM),
    ],
    ids=["growing", "window", "least-used", "long-term"],
)
def test_frames_and_prototypes(
    policy: MemoryPolicy, value_dtype: torch.dtype | None, dtype: torch.dtype, grid: Grid
) -> None:
    bank = MemoryBank(policy, value_dtype=value_dtype)
    follow(bank, grid, dtype)
    for group in bank.groups:
        block = group.storage.block
        assert block.nbytes == sum(part.untyped_storage().nbytes() for part in block.tensors().values())
        assert (group.prototypes.number > 8) == (policy.eviction is LONG_TERM)


@grids
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("store", ["host", "disk"])
@pytest.mark.parametrize("frames", [1, 3])
def test_parts_in_a_store(tmp_path: Path, store: str, dtype: torch.dtype, frames: int, grid: Grid) -> None:
    """Those that moved out, and those that come from a state without room behind their tokens."""
    kept: Store = HostStore() if store == "host" else DiskStore(tmp_path)
    split_bytes = frames * grid[0] * grid[1] * (dtype.itemsize * (KEY + VALUE) + 12)
    bank, other = (MemoryBank(MemoryPolicy(every=1), store=kept, split_bytes=split_bytes) for _ in range(2))
    follow(bank, grid, dtype)
    parts = [part for group in bank.groups for part in group.offloaded.stored]
    assert len(parts) > 1
    held = [tensor for part in parts for tensor in (part.keys, part.values)]
    assert bank.stored_bytes == sum(tensor.nbytes for tensor in held)
    assert all(tensor.shape[-1] % 8 == 0 for tensor in held)
    tensors, rest = bank.state()
    other.restore({name: part.clone(memory_format=torch.contiguous_format) for name, part in tensors.items()}, rest)
    query, _ = frame_of(grid, 1, 100, dtype)
    with watched() as seen:
        assert torch.equal(other.read(query), bank.read(query))
    for keys, values in seen:
        assert_aligned(keys)
        assert_aligned(values)


@grids
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_the_same_bits_as_a_read_of_tensors_without_gaps(dtype: torch.dtype, grid: Grid) -> None:
    bank = MemoryBank(MemoryPolicy(every=1, max_frames=5))
    query, _ = frame_of(grid, 1, 99, dtype)
    for index in range(7):
        bank.memorise(index, *frame_of(grid, 1, index, dtype))
        keys, values = (part.contiguous() for part in (bank.groups[0].keys, bank.groups[0].values))
        assert torch.equal(bank.read(query), memory_read(query, keys.contiguous(), values.contiguous()))


@pytest.mark.parametrize("grid", [(1, 1), (3, 3), (5, 7)], ids=str)
@pytest.mark.parametrize("eviction", [Oldest(), LONG_TERM], ids=["oldest", "long-term"])
def test_bounds_in_bytes_are_of_what_is_allocated(eviction: Eviction, grid: Grid) -> None:
    def fill(max_bytes: int) -> MemoryBank:
        bank = MemoryBank(MemoryPolicy(every=1, max_bytes=max_bytes, eviction=eviction))
        for index in range(12):
            bank.memorise(index, *frame_of(grid, 1 + (index > 4), index))
            assert bank.nbytes <= max_bytes
        return bank

    with pytest.raises(ValueError, match="max_bytes must be at least") as told:
        MemoryBank(MemoryPolicy(max_bytes=1, eviction=eviction)).memorise(0, *frame_of(grid, 2, 0))
    least = int(str(told.value).split()[5])
    assert fill(least).nbytes == least
    for spare in (1, 100, 1000, 3000):
        fill(least + spare)
    with pytest.raises(ValueError, match=f"max_bytes must be at least {least} for 2 objects"):
        fill(least - 1)


def test_states_whose_prototypes_were_not_aligned() -> None:
    """A memory reads them and continues."""
    policy = MemoryPolicy(every=1, max_frames=5, eviction=LONG_TERM)
    bank, other, grid = MemoryBank(policy), MemoryBank(policy), (5, 7)
    for index in range(12):
        bank.memorise(index, *frame_of(grid, 1, index))
    tensors, rest = bank.state()
    rest["arenas"][0]["long_term"] -= 3
    other.restore({name: part[..., 3:].clone() for name, part in tensors.items()}, rest)
    for index in range(12, 24):
        other.memorise(index, *frame_of(grid, 1, index))
        (group,) = other.groups
        query, _ = frame_of(grid, 1, 99)
        expected = memory_read(query, group.keys.contiguous(), group.values.contiguous())
        assert torch.equal(other.read(query), expected)
    with watched() as seen:
        other.read(query)
    for keys, values in seen:
        assert_aligned(keys)
        assert_aligned(values)
