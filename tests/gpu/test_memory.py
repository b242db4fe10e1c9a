"""Memories on a real GPU: parts that come from the host on a stream of their own, states, and one process of nccl."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from stm_fast import MemoryPolicy
from stm_fast.memory import presets
from stm_fast.memory.bank import MemoryBank
from stm_fast.memory.distributed import ShardedMemory
from stm_fast.memory.stores import DiskStore, HostStore, Store
from tests.memory.reads import assert_aligned, watched

if not torch.cuda.is_available():
    pytest.skip("no GPU", allow_module_level=True)

KEY, VALUE, HEIGHT, WIDTH = 64, 256, 30, 54
FRAME_BYTES = 4 * (KEY + VALUE + 3) * HEIGHT * WIDTH
OFFICIAL = MemoryPolicy(every=1)


def frame_of(seed: int) -> tuple[Tensor, Tensor]:
    random = torch.Generator("cuda").manual_seed(seed)
    keys = torch.randn(2, KEY, HEIGHT, WIDTH, generator=random, device="cuda")
    return keys, torch.randn(2, VALUE, HEIGHT, WIDTH, generator=random, device="cuda")


def fill(bank: MemoryBank, frames: int = 40) -> MemoryBank:
    for index in range(frames):
        bank.memorise(index, *frame_of(index), annotated=index == 0)
    return bank


def check_equal(bank: MemoryBank, whole: MemoryBank) -> None:
    query = frame_of(1000)[0][:1]
    torch.testing.assert_close(bank.read(query), whole.read(query), rtol=1e-3, atol=1e-4)


@pytest.fixture(params=["host", "disk"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return HostStore() if request.param == "host" else DiskStore(tmp_path)


def test_parts_on_the_host_are_read_as_one_memory(store: Store) -> None:
    bank = fill(MemoryBank(OFFICIAL, store=store, split_bytes=8 * FRAME_BYTES))
    assert bank.stored_bytes > 0
    check_equal(bank, fill(MemoryBank(OFFICIAL)))


def test_reads_of_parts_need_no_more_memory_each_time(store: Store) -> None:
    bank = fill(MemoryBank(OFFICIAL, store=store, split_bytes=8 * FRAME_BYTES))
    query = frame_of(1000)[0][:1]
    reserved = []
    for _ in range(40):
        bank.read(query)
        reserved.append(torch.cuda.memory_reserved())
    assert reserved[-1] == reserved[3]


def test_parts_are_aligned_on_the_device(store: Store) -> None:
    """Of frames of 1620 tokens three make no multiple of 8."""
    bank = fill(MemoryBank(OFFICIAL, store=store, split_bytes=2 * 3 * FRAME_BYTES))
    assert len(bank.groups[0].offloaded.stored[0].frames) == 3
    with watched() as seen:
        check_equal(bank, fill(MemoryBank(OFFICIAL)))
    for tensors in seen:
        for tensor in tensors:
            assert tensor.is_cuda
            assert_aligned(tensor)


def test_pinned_parts_stay_pinned_when_restored() -> None:
    tensors, rest = fill(MemoryBank(OFFICIAL)).state()
    bank = MemoryBank(OFFICIAL, store=HostStore(), split_bytes=8 * FRAME_BYTES)
    bank.restore({name: part.cpu() for name, part in tensors.items()}, rest, "cuda")
    assert all(part.keys.is_pinned() for part in bank.groups[0].offloaded.stored)
    check_equal(bank, fill(MemoryBank(OFFICIAL)))


@pytest.mark.parametrize("preset", [presets.window, presets.least_used, presets.long_term, presets.diverse])
def test_states_go_from_the_host_to_the_device(preset) -> None:
    whole, bank = fill(MemoryBank(preset(10, every=1))), MemoryBank(preset(10, every=1))
    tensors, rest = whole.state()
    bank.restore({name: part.cpu() for name, part in tensors.items()}, rest, "cuda")
    assert bank.table() == whole.table()
    check_equal(bank, whole)


@pytest.fixture
def nccl() -> Iterator[None]:
    if not dist.is_nccl_available():
        pytest.skip("torch has no nccl")
    dist.init_process_group("nccl", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.usefixtures("nccl")
def test_one_process_of_nccl_reads_as_a_whole_memory() -> None:
    check_equal(fill(ShardedMemory(OFFICIAL)), fill(MemoryBank(OFFICIAL)))
