"""Memories by which each object decides for itself: what holds after any step of any video."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stm_fast import MemoryPolicy
from stm_fast.memory import readers
from stm_fast.memory.bank import MemoryBank
from stm_fast.memory.frames import Role
from stm_fast.memory.groups import ObjectGroup
from stm_fast.memory.policies import Certain, LeastUsed, LongTerm, MostAlike, Novel, Oldest
from stm_fast.ops import read_memory

pytestmark = pytest.mark.usefixtures("poisoned")

KEY, VALUE, HEIGHT, WIDTH = 4, 3, 2, 3
FRAME_BYTES = 4 * (KEY + VALUE + 3) * HEIGHT * WIDTH
MAX_OBJECTS = 4

policies = st.builds(
    MemoryPolicy,
    every=st.sampled_from([1, 2, 3]),
    keep_previous=st.booleans(),
    max_frames=st.sampled_from([3, 4, 9, None]),
    max_bytes=st.sampled_from([None, FRAME_BYTES * 6 * MAX_OBJECTS]),
    admission=st.sampled_from([Certain(), Novel(0.3)]),
    eviction=st.sampled_from([Oldest(), LeastUsed(), MostAlike(recent=1), LongTerm(recent=1, long_term_frames=2)]),
)
steps = st.lists(
    st.fixed_dictionaries(
        {
            "joining": st.sampled_from([0, 0, 0, 1, 2]),
            "annotated": st.lists(st.sampled_from([False, False, False, True]), min_size=4, max_size=4),
            "uncertainty": st.lists(st.sampled_from([math.nan, 0.5, 1.0, 9.0]), min_size=4, max_size=4),
            "leaving": st.none() | st.none() | st.integers(0, 3),
            "frozen": st.sampled_from([False, False, False, True]),
            "repeated": st.booleans(),
        }
    ),
    max_size=24,
)


def tokens_of(objects: list[int], index: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Keys, values and presence; those of an object in a frame are always the same."""
    rows = []
    for found in objects:
        generator = torch.Generator().manual_seed(1000 * found + index)
        rows.append(torch.rand(KEY + VALUE + 1, HEIGHT, WIDTH, generator=generator))
    keys, values, presence = torch.stack(rows).split([KEY, VALUE, 1], dim=1)
    return keys, values, presence[:, 0]


@settings(max_examples=80, deadline=None)
@given(policies, steps)
def test_bounds_hold_and_frames_are_what_they_were(policy: MemoryPolicy, video: list[dict]) -> None:
    bank, objects, created, query = MemoryBank(policy), [], 0, torch.rand(1, KEY, HEIGHT, WIDTH)
    first = {"joining": 1, "annotated": [True] * 4, "uncertainty": [math.nan] * 4, "leaving": None, "frozen": False}
    for index, step in enumerate([first | {"repeated": False}, *video]):
        joining = min(step["joining"], MAX_OBJECTS - len(objects))
        before = len(objects)
        objects += range(created, created + joining)
        created += joining
        if not objects:
            continue
        annotated = [*step["annotated"][:before], *[True] * joining]
        uncertainty = torch.tensor(step["uncertainty"][: len(objects)])
        bank.frozen = step["frozen"]
        keys, values, presence = tokens_of(objects, index)
        for _ in range(1 + step["repeated"]):
            bank.memorise(index, keys, values, annotated=annotated, presence=presence, uncertainty=uncertainty)
            check(bank, policy, objects)
        if policy.keep_previous and not bank.frozen:
            assert all(index in group.frames for group in bank.groups)
        bank.read(query)
        assert_restored_is_the_same(bank, policy)
        if step["leaving"] is not None and step["leaving"] < len(objects):
            bank.remove(step["leaving"])
            del objects[step["leaving"]]
            check(bank, policy, objects)


def check(bank: MemoryBank, policy: MemoryPolicy, objects: list[int]) -> None:
    assert [group.objects for group in bank.groups] == [1] * len(objects)
    if policy.max_bytes is not None:
        assert bank.nbytes <= policy.max_bytes
    for group, found in zip(bank.groups, objects, strict=True):
        assert policy.max_frames is None or len(group.slots) <= policy.max_frames
        assert len(group.slots_of(Role.temporary)) <= 1
        assert Role.permanent in {slot.role for slot in group.slots}
        assert_frames_are_whole(group, found)


def assert_frames_are_whole(group: ObjectGroup, found: int) -> None:
    for number, slot in enumerate(group.slots):
        held = group.tokens_of(number)
        keys, values, presence = tokens_of([found], slot.frame)
        assert torch.equal(held.keys.view_as(keys), keys)
        assert torch.equal(held.values.view_as(values), values)
        assert torch.equal(held.presence.view_as(presence), presence)


def assert_restored_is_the_same(bank: MemoryBank, policy: MemoryPolicy) -> None:
    other = MemoryBank(policy)
    other.restore(*bank.state())
    assert other.table() == bank.table()
    for one, same in zip(bank.groups, other.groups, strict=True):
        assert torch.equal(one.keys, same.keys)
        assert torch.equal(one.values, same.values)
        assert (one.notes, one.distances) == (same.notes, same.distances)


@pytest.mark.parametrize("failing", [0, 1, 2])
def test_a_read_that_fails_for_one_object_is_taken_back_for_all(failing: int, monkeypatch: pytest.MonkeyPatch) -> None:
    bank, same = (MemoryBank(MemoryPolicy(every=1, eviction=LeastUsed())) for _ in range(2))
    query = torch.rand(1, KEY, HEIGHT, WIDTH)
    for each in (bank, same):
        for index in range(3):
            keys, values, presence = tokens_of([0, 1, 2], index)
            each.memorise(index, keys, values, annotated=index == 0, presence=presence)
            each.read(query)
    reads = []

    def fails(*args: object, **options: object) -> object:
        reads.append(args)
        if len(reads) > failing:
            raise MemoryError
        return read_memory(*args, **options)

    monkeypatch.setattr(readers, "read_memory", fails)
    with pytest.raises(MemoryError):
        bank.read(query)
    bank.roll_back_read()
    monkeypatch.undo()
    for each in (bank, same):
        each.read(query)
    assert bank.table() == same.table()
