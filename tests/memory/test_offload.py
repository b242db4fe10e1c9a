"""A memory whose frames move out reads as one that keeps them."""

import errno
import os
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from stm_fast import MemoryPolicy
from stm_fast.memory import splits
from stm_fast.memory.bank import MemoryBank
from stm_fast.memory.stores import DiskStore, HostStore
from tests.memory.banks import FRAME_BYTES, HEIGHT, KEY, VALUE, WIDTH, frame_of


def offloaded(folder: Path, policy: MemoryPolicy | None = None, frames: int = 3) -> MemoryBank:
    return MemoryBank(policy, store=DiskStore(folder), split_bytes=frames * FRAME_BYTES)


policies = st.builds(
    MemoryPolicy, every=st.sampled_from([None, 1, 2, 3]), keep_first=st.just(True), keep_previous=st.booleans()
)
steps = st.lists(st.tuples(st.sampled_from([0, 0, 0, 1, 2]), st.booleans(), st.none() | st.integers(0, 3)), max_size=18)


@settings(max_examples=40)
@given(policies, steps, st.integers(1, 4), st.booleans())
def test_equals_a_bank_that_keeps_everything(
    tmp_path_factory: pytest.TempPathFactory,
    policy: MemoryPolicy,
    video: list[tuple[int, bool, int | None]],
    frames: int,
    interrupted: bool,
) -> None:
    """Also where every frame at which objects join is memorised without them first, as after a step that failed."""
    store = DiskStore(tmp_path_factory.mktemp("memory"))
    bank, whole, objects = MemoryBank(policy, store=store, split_bytes=frames * FRAME_BYTES), MemoryBank(policy), 0
    for index, (joining, corrected, leaving) in enumerate([(1, True, None), *video]):
        for count in sorted({objects, objects + joining} if interrupted else {objects + joining}):
            if count:
                keys, values = frame_of(count, index)
                for each in (bank, whole):
                    each.memorise(index, keys, values, annotated=corrected or joining > 0)
        objects += joining
        if leaving is not None and leaving < objects:
            objects -= 1
            for each in (bank, whole):
                each.remove(leaving)
        assert bank.objects == whole.objects
        assert sorted(bank.frames) == sorted(whole.frames)
        if bank.frames:
            query, _ = frame_of(1, 10_000 + index)
            torch.testing.assert_close(bank.read(query), whole.read(query), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("store", ["host", "disk"])
def test_what_is_on_the_device_stays_small(tmp_path: Path, store: str) -> None:
    store = HostStore() if store == "host" else DiskStore(tmp_path)
    bank = MemoryBank(MemoryPolicy(every=1), store=store, split_bytes=10 * FRAME_BYTES)
    for index in range(200):
        bank.memorise(index, *frame_of(1, index))
        assert bank.nbytes <= 16 * FRAME_BYTES
    assert bank.frames == tuple(range(200))
    assert bank.tokens == 200 * HEIGHT * WIDTH
    assert bank.stored_bytes >= 180 * 4 * (KEY + VALUE) * HEIGHT * WIDTH


def test_a_memory_without_a_store_continues_with_one(tmp_path: Path) -> None:
    """What it held goes to the store in splits, and the device has room again."""
    whole, bank = MemoryBank(MemoryPolicy(every=1)), offloaded(tmp_path, MemoryPolicy(every=1), frames=5)
    for index in range(98):
        whole.memorise(index, *frame_of(2, index), annotated=index == 97)
    bank.restore(*whole.state())
    assert bank.nbytes <= 2 * 10 * FRAME_BYTES
    for index in range(97, 110):
        for each in (whole, bank):
            each.memorise(index, *frame_of(2, index))
        query, _ = frame_of(1, 1000 + index)
        torch.testing.assert_close(bank.read(query), whole.read(query), rtol=1e-4, atol=1e-5)
        assert bank.frames == whole.frames
    assert bank.nbytes <= 2 * 16 * FRAME_BYTES


def test_files_have_no_name_and_their_room_returns(tmp_path: Path) -> None:
    bank = offloaded(tmp_path / "new", MemoryPolicy(every=1))
    for index in range(20):
        bank.memorise(index, *frame_of(2, index))
    assert bank.stored_bytes > 0
    assert list((tmp_path / "new").iterdir()) == []

    def mapped() -> int:
        return Path("/proc/self/maps").read_text().count(".stm-fast-memory-")

    before = mapped()
    bank.remove(0)
    bank.remove(0)
    assert bank.stored_bytes == 0
    assert mapped() < before


def test_a_full_disk_is_said_and_can_be_repaired(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bank, whole = offloaded(tmp_path, MemoryPolicy(every=1)), MemoryBank(MemoryPolicy(every=1))
    for index in range(3):
        for each in (bank, whole):
            each.memorise(index, *frame_of(1, index))

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", full)
        with pytest.raises(OSError, match="No space left"):
            bank.memorise(3, *frame_of(1, 3))
    assert bank.frames == (0, 1, 2)
    assert list(tmp_path.iterdir()) == []
    for each in (bank, whole):
        each.memorise(3, *frame_of(1, 3))
    query, _ = frame_of(1, 99)
    torch.testing.assert_close(bank.read(query), whole.read(query), rtol=1e-4, atol=1e-5)


def test_many_splits_round_once(tmp_path: Path) -> None:
    """Sums of splits are in float32, so that many splits do not blur 16-bit values."""
    policy, bits = MemoryPolicy(every=1), torch.bfloat16
    bank, exact = offloaded(tmp_path, policy, frames=1), MemoryBank(policy)
    for index in range(60):
        keys, values = frame_of(1, index, bits)
        bank.memorise(index, keys, values)
        exact.memorise(index, keys.double(), values.double())
    query, _ = frame_of(1, 99, bits)
    readout, truth = bank.read(query), exact.read(query.double())
    assert readout.dtype == bits
    torch.testing.assert_close(readout.double(), truth, rtol=2**-8, atol=1e-3)


def test_what_does_not_fit_is_refused_when_all_has_moved_out(tmp_path: Path) -> None:
    bank = offloaded(tmp_path, MemoryPolicy(every=1, keep_previous=False), frames=1)
    for index in range(3):
        bank.memorise(index, *frame_of(1, index))
    (group,) = bank.groups
    group.offloaded.move(group.table, group.storage)
    with pytest.raises(ValueError, match=r"index must not be below .*\(2\), got 1"):
        bank.memorise(1, *frame_of(1, 1))
    with pytest.raises(TypeError, match=r"keys must be torch.float32 as in memory, got torch.bfloat16"):
        bank.memorise(3, *frame_of(1, 3, torch.bfloat16))
    keys, values = frame_of(1, 3)
    with pytest.raises(ValueError, match=r"keys must be \(O, 4, 2, 3\), got \(1, 4, 2, 2\)"):
        bank.memorise(3, keys[..., :2], values[..., :2])


def test_options_that_do_not_go_with_a_store_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"policy must have no bound, .* with a store, got .*max_frames=5"):
        offloaded(tmp_path, MemoryPolicy(max_frames=5))
    bank = offloaded(tmp_path, MemoryPolicy(every=1))
    for index in range(9):
        bank.memorise(index, *frame_of(1, index))
    with pytest.raises(ValueError, match="top_k must be None for a memory of which parts have moved to a store, got 3"):
        bank.read(frame_of(1, 9)[0], top_k=3)


def test_what_was_of_removed_objects_is_neither_read_nor_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bank = offloaded(tmp_path, MemoryPolicy(every=1), frames=30)
    for index in range(12):
        bank.memorise(index, *frame_of(10, index))
    stored, moved, rows = bank.stored_bytes, len(bank.groups[0].offloaded.stored), []
    read = splits.read_memory

    def watched(query: Tensor, *rest: Tensor, **more: object) -> object:
        rows.append(len(query))
        return read(query, *rest, **more)

    monkeypatch.setattr(splits, "read_memory", watched)
    for _ in range(3):
        bank.remove(1)
    bank.read(frame_of(1, 99)[0])
    assert sum(rows) == 7 * (moved + 1)
    for _ in range(6):
        bank.remove(1)
    assert bank.stored_bytes <= stored // 4


def test_a_state_is_of_the_objects_that_are_left_and_copies_nothing(tmp_path: Path) -> None:
    bank, other = (offloaded(tmp_path / name, MemoryPolicy(every=1)) for name in ("one", "other"))
    for index in range(20):
        bank.memorise(index, *frame_of(3, index))
    bank.remove(1)
    tensors, rest = bank.state()
    assert tensors["arena0.stored0.keys"].data_ptr() == bank.groups[0].offloaded.stored[0].keys.data_ptr()
    other.restore(tensors, rest)
    query, _ = frame_of(1, 1000)
    assert torch.equal(other.read(query), bank.read(query))
    assert other.stored_bytes < bank.stored_bytes


def test_double_precision_and_mixed_dtypes(tmp_path: Path) -> None:
    for dtypes in ((torch.float64, torch.float64), (torch.bfloat16, torch.float32)):
        bank, whole = offloaded(tmp_path, MemoryPolicy(every=1), frames=1), MemoryBank(MemoryPolicy(every=1))
        for index in range(5):
            pair = [part[..., :1, :1].to(dtype) for part, dtype in zip(frame_of(1, index), dtypes, strict=True)]
            for each in (bank, whole):
                each.memorise(index, *pair)
        query = frame_of(1, 99)[0].to(dtypes[0])
        torch.testing.assert_close(bank.read(query), whole.read(query))


def test_a_lack_of_memory_is_an_os_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("unable to mmap 5 bytes")

    monkeypatch.setattr(torch, "from_file", refuse)
    with pytest.raises(OSError, match=r"Cannot allocate memory .unable to mmap"):
        DiskStore(tmp_path).put(*frame_of(1, 0))
    assert list(tmp_path.iterdir()) == []
