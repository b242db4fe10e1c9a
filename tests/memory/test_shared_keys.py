"""Memories of objects that share their keys: stored once, and read with one affinity for each group."""

import itertools
import math
from pathlib import Path

import pytest
import torch

from stm_fast import MemoryPolicy
from stm_fast.errors import RunStateError
from stm_fast.memory import DiskStore, HostStore, MemoryBank, presets
from tests.memory.banks import HEIGHT, KEY, VALUE, WIDTH
from tests.memory.reads import assert_aligned, watched
from tests.memory.shared_keys import POLICIES, presence_of, query_of, shared_frame_of

pytestmark = pytest.mark.usefixtures("poisoned")


@pytest.mark.parametrize(
    ("name", "value_dtype", "store", "top_k"),
    [
        *itertools.product(["official", "window", "auto"], [None, torch.bfloat16], [None], [None, 5]),
        *itertools.product(["official", "window", "auto"], [torch.int8], [None], [None]),
        *itertools.product(["official"], [None, torch.bfloat16], ["host", "disk"], [None]),
    ],
    ids=str,
)
def test_equals_a_bank_of_objects_with_keys_of_their_own(
    name: str, value_dtype: torch.dtype | None, store: str | None, top_k: int | None, tmp_path: Path
) -> None:
    """As objects join and go, until a policy that looks at tokens evicts any."""
    keep = {None: None, "host": HostStore(), "disk": DiskStore(tmp_path)}[store]
    bank, same = (
        MemoryBank(POLICIES[name], store=keep, split_bytes=2000, value_dtype=value_dtype, shared_keys=each)
        for each in (True, False)
    )
    objects = 0
    for index in range(20):
        before, objects = objects, objects + {0: 3, 4: 2, 9: 1}.get(index, 0)
        keys, values = shared_frame_of(objects, index)
        annotated = [row >= before for row in range(objects)]
        for each, rows in ((bank, 1), (same, objects)):
            repeated = keys.expand(rows, -1, -1, -1)
            each.memorise(index, repeated, values, annotated=annotated, presence=presence_of(objects, index))
            if index in (7, 13):
                each.remove(1)
        objects -= index in (7, 13)
        read, expected = (each.read(query_of(index), top_k=top_k) for each in (bank, same))
        assert read.shape == (objects, VALUE, HEIGHT, WIDTH)
        # Splits, of which there are other ones, are rounded each.
        error = 2**-7 if store and value_dtype else 1e-5
        torch.testing.assert_close(read, expected, rtol=max(error, 1e-4), atol=error)
        assert (bank.objects, bank.frames, bank.tokens) == (same.objects, same.frames, same.tokens)
        assert store or bank.nbytes < same.nbytes
    assert [group.objects for group in bank.groups] == [1, 2, 1]
    assert (store is None) == (bank.stored_bytes == 0)
    if POLICIES[name].tracks_usage:
        seen = {(row.frame, name): row.usage for row in bank.table("abcdef").rows for name in row.objects}
        assert seen == pytest.approx({(row.frame, row.objects[0]): row.usage for row in same.table("abcdef").rows})


@pytest.mark.parametrize("name", POLICIES)
@pytest.mark.parametrize("value_dtype", [None, torch.int8], ids=str)
def test_a_read_is_one_affinity_over_views(name: str, value_dtype: torch.dtype | None) -> None:
    bank = MemoryBank(POLICIES[name], value_dtype=value_dtype, shared_keys=True)
    for index in range(15):
        bank.memorise(index, *shared_frame_of(4, index), annotated=index == 0)
        bank.read(query_of(index))
    (group,) = bank.groups
    with watched() as seen:
        bank.read(query_of(99))
    for keys, values in seen:
        assert keys.shape[0] == 1
        assert values.shape[:3] == (1, 4, VALUE)
        assert keys.untyped_storage().data_ptr() == group.storage.block.keys.untyped_storage().data_ptr()
        assert_aligned(keys)
        assert_aligned(values)
    if value_dtype is None:
        ((_, values),) = seen
        assert values.untyped_storage().data_ptr() == group.storage.block.values.untyped_storage().data_ptr()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("top_k", [None, 7])
def test_many_objects_with_many_channels(dtype: torch.dtype, top_k: int | None) -> None:
    """Together they have more channels than a single value may have."""
    objects, channels, key_channels, grid = 40, 96, 32, (5, 7)
    generator = torch.Generator().manual_seed(0)
    bank = MemoryBank(presets.auto(9, 1), shared_keys=True)
    frames = [
        tuple(torch.randn(*shape, *grid, generator=generator) for shape in ((1, key_channels), (objects, channels)))
        for _ in range(4)
    ]
    for index, (keys, values) in enumerate(frames):
        bank.memorise(index, keys.to(dtype), values.to(dtype))
    query = torch.randn(1, key_channels, *grid, generator=generator).to(dtype)
    keys = torch.cat([keys.to(dtype)[0].flatten(1) for keys, _ in frames], 1).double()
    values = torch.cat([values.to(dtype).flatten(2) for _, values in frames], 2).double()
    scores = keys.T @ query[0].flatten(1).double() / key_channels**0.5
    if top_k is not None:
        scores = scores.masked_fill(scores < scores.topk(top_k, 0).values[-1], -math.inf)
    expected = (values @ scores.softmax(0)).unflatten(2, grid)
    tolerance = 1e-4 if dtype == torch.float32 else 2**-6
    torch.testing.assert_close(bank.read(query, top_k=top_k).double(), expected, rtol=tolerance, atol=tolerance)


def test_removing_an_object_leaves_the_keys_where_they_are() -> None:
    bank = MemoryBank(presets.auto(9, 1), shared_keys=True)
    for index in range(3):
        bank.memorise(index, *shared_frame_of(3, index))
    (group,) = bank.groups
    held, before = group.keys.data_ptr(), bank.read(query_of(0))
    bank.remove(1)
    assert group.keys.data_ptr() == held
    torch.testing.assert_close(bank.read(query_of(0)), before[[0, 2]], rtol=1e-4, atol=1e-5)
    bank.remove(1)
    bank.memorise(3, *shared_frame_of(2, 3))
    assert [group.objects for group in bank.groups] == [1, 1]
    bank.remove(0)
    assert [group.frames for group in bank.groups] == [(3,)]
    bank.remove(0)
    assert (bank.objects, bank.groups) == (0, [])


@pytest.mark.parametrize("name", POLICIES)
@pytest.mark.parametrize("value_dtype", [None, torch.int8], ids=str)
def test_a_memory_resumes_where_its_state_was_taken(name: str, value_dtype: torch.dtype | None) -> None:
    """To the same bits."""
    bank, other = (MemoryBank(POLICIES[name], value_dtype=value_dtype, shared_keys=True) for _ in range(2))
    objects = 3
    for index in range(36):
        if index == 17:
            tensors, rest = bank.state()
            assert tensors["arena0.keys"].shape[0] == 1
            other.restore({part: tensor.clone() for part, tensor in tensors.items()}, rest)
        objects += 2 * (index == 9)
        uncertainty = 2 * torch.rand(objects, generator=torch.Generator().manual_seed(index))
        for each in (bank, other)[: 1 + (index >= 17)]:
            each.memorise(
                index,
                *shared_frame_of(objects, index % 9),
                annotated=index in (0, 9),
                presence=presence_of(objects, index),
                uncertainty=uncertainty,
            )
            if index in (12, 25):
                each.remove(0)
        objects -= index in (12, 25)
        readout = bank.read(query_of(0))
        if index >= 17:
            assert torch.equal(other.read(query_of(0)), readout)
            assert other.table() == bank.table()


def test_a_state_with_splits_in_a_store_resumes(tmp_path: Path) -> None:
    """Also with rows of objects that were removed, and from a memory without a store."""
    store = DiskStore(tmp_path)
    bank, other, whole, moved = (
        MemoryBank(MemoryPolicy(every=1), store=each, split_bytes=1500, shared_keys=True)
        for each in (store, store, None, store)
    )
    for index in range(20):
        for each in (bank, whole):
            each.memorise(index, *shared_frame_of(5 - (index > 9), index))
            if index == 9:
                each.remove(1)
    bank.remove(2)
    whole.remove(2)
    other.restore(*bank.state())
    moved.restore(*whole.state())
    assert 0 < other.stored_bytes < bank.stored_bytes
    for index in range(20, 26):
        for each in (bank, other, whole, moved):
            each.memorise(index, *shared_frame_of(3, index))
        assert torch.equal(other.read(query_of(index)), bank.read(query_of(index)))
        for each in (bank, moved):
            torch.testing.assert_close(each.read(query_of(index)), whole.read(query_of(index)), rtol=1e-4, atol=1e-5)
    stored = bank.stored_bytes
    bank.remove(0)
    assert bank.stored_bytes < stored
    torch.testing.assert_close(bank.read(query_of(0)), whole.read(query_of(0))[1:], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("saved", "said"), [(True, "with"), (False, "without")])
def test_a_state_of_the_other_kind_is_refused(saved: bool, said: str) -> None:
    bank, other = MemoryBank(shared_keys=saved), MemoryBank(shared_keys=not saved)
    bank.memorise(0, *shared_frame_of(1, 0))
    with pytest.raises(RunStateError, match=f"the memory was saved {said} shared keys: it cannot be restored"):
        other.restore(*bank.state())


@pytest.mark.parametrize(
    ("keys", "values", "message"),
    [
        (
            (2, KEY, HEIGHT, WIDTH),
            (2, VALUE, HEIGHT, WIDTH),
            r"keys must be \(1, Ck, h, w\) and values \(O, Cv, h, w\)",
        ),
        ((1, KEY, HEIGHT, WIDTH), (2, VALUE, HEIGHT, 5), "with the same h and w"),
        ((1, KEY, 5, WIDTH), (2, VALUE, 5, WIDTH), r"keys must be \(1, 4, 2, 3\), got \(1, 4, 5, 3\)"),
        ((1, KEY, HEIGHT, WIDTH), (2, 9, HEIGHT, WIDTH), r"values must be \(O, 3, 2, 3\), got \(2, 9, 2, 3\)"),
        ((1, KEY, HEIGHT, WIDTH), (1, VALUE, HEIGHT, WIDTH), "a row for each of at least 2 objects, got 1"),
    ],
)
def test_what_does_not_fit_is_refused(keys: tuple[int, ...], values: tuple[int, ...], message: str) -> None:
    bank = MemoryBank(shared_keys=True)
    bank.memorise(0, *shared_frame_of(2, 0))
    with pytest.raises(ValueError, match=message):
        bank.memorise(1, torch.zeros(keys), torch.zeros(values))
    assert bank.frames == (0,)
