"""A bank holds what a list of frames holds, after any step of any video."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stm_fast import MemoryPolicy
from stm_fast.memory.bank import MemoryBank
from tests.memory.banks import NaiveBank, frame_of, frames_of

pytestmark = pytest.mark.usefixtures("poisoned")

policies = st.builds(
    MemoryPolicy,
    every=st.sampled_from([None, 1, 2, 3, 5]),
    keep_first=st.just(True),
    keep_previous=st.booleans(),
    max_frames=st.sampled_from([None, 2, 3, 4, 9]),
) | st.builds(
    MemoryPolicy,
    every=st.sampled_from([None, 2, 3]),
    keep_first=st.just(False),
    max_frames=st.sampled_from([None, 1, 2, 4]),
)
steps = st.lists(st.tuples(st.sampled_from([0, 0, 0, 1, 2]), st.booleans(), st.none() | st.integers(0, 3)), max_size=18)
"""Per frame: how many objects join (it is annotated then), whether it is annotated besides, and which object is removed
afterwards."""


@settings(max_examples=40)
@given(policies, steps)
def test_bank_equals_a_list_of_frames(policy: MemoryPolicy, video: list[tuple[int, bool, int | None]]) -> None:
    bank, naive, objects, created = MemoryBank(policy), NaiveBank(policy), [], 0
    for index, (joining, corrected, leaving) in enumerate([(1, True, None), *video]):
        objects += range(created, created + joining)
        created += joining
        annotated = corrected or joining > 0
        if objects:
            keys, values = frame_of(len(objects), index)
            bank.memorise(index, keys, values, annotated=annotated)
            naive.memorise(index, {key: (keys[row], values[row]) for row, key in enumerate(objects)}, annotated)
        if leaving is not None and leaving < len(objects):
            bank.remove(leaving)
            naive.remove(objects.pop(leaving))
        assert_same(bank, naive, objects)
    assert_same_reads(bank, naive, objects)


def assert_same(bank: MemoryBank, naive: NaiveBank, objects: list[int]) -> None:
    assert bank.objects == len(objects)
    assert list(bank.frames) == naive.indices
    rows = iter(objects)
    for group in bank.groups:
        keys, values = frames_of(group)
        for row in range(group.objects):
            remembered = naive.remembered(next(rows))
            assert sorted(group.frames) == sorted(remembered)
            for slot, index in enumerate(group.frames):
                assert torch.equal(keys[row, :, slot], remembered[index][0])
                assert torch.equal(values[row, :, slot], remembered[index][1])


def assert_same_reads(bank: MemoryBank, naive: NaiveBank, objects: list[int]) -> None:
    if objects:
        query, _ = frame_of(1, 10_000)
        readout = bank.read(query)
        for row, key in enumerate(objects):
            torch.testing.assert_close(readout[row], naive.read(key, query[0]), rtol=1e-4, atol=1e-5)


@settings(max_examples=40)
@given(policies, steps)
def test_the_last_frame_memorised_again_takes_its_own_place(
    policy: MemoryPolicy, video: list[tuple[int, bool, int | None]]
) -> None:
    once, again, objects = MemoryBank(policy), MemoryBank(policy), 0
    for index, (joining, corrected, _) in enumerate([(1, True, None), *video]):
        objects += joining
        keys, values = frame_of(objects, index)
        again.memorise(index, -keys, -values)
        for bank in (once, again):
            bank.memorise(index, keys, values, annotated=corrected or joining > 0)
        assert again.frames == once.frames
        contents = [[frames_of(group) for group in bank.groups] for bank in (again, once)]
        torch.testing.assert_close(*contents, rtol=0, atol=0)
