"""What policies remember of objects that share their keys: they judge those that joined together as a whole."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from stm_fast import MemoryPolicy
from stm_fast.memory import MemoryBank, presets
from stm_fast.memory.frames import Role
from stm_fast.memory.policies import Certain, LeastUsed, LongTerm, Oldest
from stm_fast.memory.tokens import aligned
from tests.memory.banks import HEIGHT, KEY, VALUE, WIDTH
from tests.memory.shared_keys import POLICIES, TOKENS, presence_of, query_of, shared_frame_of

pytestmark = pytest.mark.usefixtures("poisoned")

policies = st.builds(
    MemoryPolicy,
    every=st.sampled_from([1, 2]),
    keep_previous=st.booleans(),
    max_frames=st.sampled_from([3, 4, 7, None]),
    admission=st.sampled_from([None, Certain()]),
    eviction=st.sampled_from([Oldest(), LeastUsed(), LongTerm(recent=1, prototypes=0.7, long_term_frames=2)]),
)
steps = st.lists(
    st.fixed_dictionaries(
        {
            "joining": st.sampled_from([0, 0, 0, 0, 1, 3]),
            "annotated": st.lists(st.sampled_from([False, False, False, True]), min_size=6, max_size=6),
            "uncertainty": st.lists(st.sampled_from([math.nan, 0.5, 1.0, 9.0]), min_size=6, max_size=6),
            "leaving": st.none() | st.none() | st.integers(0, 5),
            "frozen": st.sampled_from([False, False, False, True]),
        }
    ),
    max_size=20,
)


@settings(max_examples=30)
@given(policies, steps)
def test_a_group_is_as_one_object_with_all_their_values(policy: MemoryPolicy, video: list[dict]) -> None:
    """Which is where one of them is, as uncertain as they are on average, and annotated if one of them is."""
    bank = MemoryBank(policy, shared_keys=True)
    groups: list[tuple[MemoryBank, list[int]]] = []
    first = {"joining": 2, "annotated": [True] * 6, "uncertainty": [math.nan] * 6, "leaving": None, "frozen": False}
    objects = 0
    for index, step in enumerate([first, *video]):
        joining = min(step["joining"], 6 - objects)
        if joining:
            groups.append((MemoryBank(policy), list(range(joining))))
        annotated = [*step["annotated"][:objects], *[True] * joining]
        objects += joining
        if not objects:
            continue
        keys, values = shared_frame_of(objects, index)
        presence, uncertainty = presence_of(objects, index), torch.tensor(step["uncertainty"][:objects])
        bank.frozen = step["frozen"]
        bank.memorise(index, keys, values, annotated=annotated, presence=presence, uncertainty=uncertainty)
        row = 0
        for one, alive in groups:
            one.frozen = step["frozen"]
            rows = slice(row, row := row + len(alive))
            everything = torch.zeros(3, VALUE, HEIGHT, WIDTH)
            everything[alive] = values[rows]
            one.memorise(
                index,
                keys,
                everything.flatten(0, 1)[None],
                annotated=any(annotated[rows] if policy.looks_at_tokens else annotated),
                presence=presence[rows].amax(0, keepdim=True),
                uncertainty=uncertainty[rows].nanmean()[None],
            )
        assert [group.objects for group in bank.groups] == [len(alive) for _, alive in groups]
        readouts = iter(bank.read(query_of(index)))
        for group, (one, alive) in zip(bank.groups, groups, strict=True):
            of_one = one.groups[0]
            assert (group.slots, group.notes) == (of_one.slots, of_one.notes)
            assert torch.equal(group.keys, of_one.keys)
            assert torch.equal(group.prototypes.presence, of_one.prototypes.presence)
            readout = one.read(query_of(index)).view(3, VALUE, HEIGHT, WIDTH)
            for number in alive:
                torch.testing.assert_close(next(readouts), readout[number], rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(group.storage.usage, of_one.storage.usage)
        if step["leaving"] is not None and step["leaving"] < objects:
            bank.remove(step["leaving"])
            objects -= 1
            row = step["leaving"]
            for each in groups:
                if row < len(each[1]):
                    break
                row -= len(each[1])
            del each[1][row]
            if not each[1]:
                groups.remove(each)


def far(frame: tuple[Tensor, Tensor], presence: Tensor, other: tuple[Tensor, Tensor]) -> float:
    """Return how differently two frames of a group answer, for the object that differs most."""
    key, total = frame[0][0].flatten(1), presence.amax(0).flatten()

    def readout(keys: Tensor, values: Tensor) -> Tensor:
        return values.flatten(2) @ (keys[0].flatten(1).T @ key / KEY**0.5).softmax(0)

    own = readout(*frame)
    apart = (readout(*other) - own).square().sum(1) / own.square().sum(1)
    return float(((apart * total).sum(1) / total.sum().clamp(min=1)).max())


def test_what_stays_is_diverse_for_the_group() -> None:
    policy = presets.diverse(8, 1)
    bank, frames, held = MemoryBank(policy, shared_keys=True), [], []
    for index in range(30):
        keys, values = shared_frame_of(3, index % 11)
        # One of the objects looks the same in all frames.
        values[1] = 1
        frames.append((keys, values))
        bank.memorise(index, keys, values, annotated=index == 0, presence=presence_of(3, index))
        if len(held) == 8:
            apart = {
                one: min(far(frames[one], presence_of(3, one), frames[other]) for other in held if other != one)
                for one in held[1 : len(held) - policy.eviction.recent]
            }
            held.remove(min(apart, key=apart.get))
        held.append(index)
        (group,) = bank.groups
        assert sorted(group.frames) == held


def test_prototypes_are_the_tokens_used_most_with_a_value_for_each_object() -> None:
    eviction = LongTerm(recent=1, prototypes=4 / TOKENS, long_term_frames=8, object_share=0.5)
    bank = MemoryBank(MemoryPolicy(every=1, max_frames=4, eviction=eviction), shared_keys=True)
    there = torch.zeros(2, HEIGHT, WIDTH)
    there[0, 0, 0] = there[1, 1, 2] = 1
    usage, born = torch.zeros(4 * TOKENS), torch.arange(4).repeat_interleave(TOKENS)
    frames = [shared_frame_of(2, index) for index in range(5)]
    for index in range(4):
        bank.memorise(index, *frames[index], annotated=index == 0, presence=there)
        bank.read(query_of(0))
        keys = torch.cat([keys[0].flatten(1) for keys, _ in frames[: index + 1]], 1)
        used = (keys.T @ query_of(0)[0].flatten(1) / KEY**0.5).softmax(0).sum(1)
        usage[: len(used)] += used
    bank.memorise(4, *frames[4], presence=there)
    (group,) = bank.groups
    assert bank.frames == (0, 3, 4)
    rates = (usage / (4 - born))[TOKENS : 3 * TOKENS]
    present = there.amax(0).flatten().repeat(2)
    of_objects = rates.masked_fill(present < 0.5, -1).topk(2).indices
    index = torch.cat([of_objects, rates.index_fill(0, of_objects, -1).topk(2).indices])
    index = index[rates[index].add(10 * torch.tensor([1, 1, 0, 0])).argsort(descending=True)]
    keys, values = (torch.cat([frame[side].flatten(2) for frame in frames[1:3]], 2) for side in (0, 1))
    chosen = keys[..., index]
    weights = (keys[0].T @ chosen[0] / KEY**0.5).softmax(0)
    torch.testing.assert_close(group.prototypes.keys, chosen)
    torch.testing.assert_close(group.prototypes.values, values @ weights)
    assert group.prototypes.values.shape == (2, VALUE, 4)
    torch.testing.assert_close(group.prototypes.usage[0], usage[TOKENS : 3 * TOKENS][index], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["least-used", "long-term", "diverse"])
@pytest.mark.parametrize("value_dtype", [None, torch.int8], ids=str)
def test_bounds_hold_for_all_objects_together(name: str, value_dtype: torch.dtype | None) -> None:
    bank = MemoryBank(POLICIES[name], value_dtype=value_dtype, shared_keys=True)
    room = POLICIES[name].long_term_tokens(TOKENS)
    for index in range(60):
        bank.memorise(index, *shared_frame_of(4, index), annotated=index == 0)
        assert bank.read(query_of(index)).isfinite().all()
        assert len(bank.groups[0].slots) <= POLICIES[name].max_frames
        assert bank.tokens <= POLICIES[name].max_frames * TOKENS + room
    assert len(bank.groups) == 1
    values = 4 * (4 * VALUE if value_dtype is None else VALUE + 4)
    capacity = aligned(room + POLICIES[name].max_frames * TOKENS)
    assert bank.nbytes == capacity * (4 * (KEY + 3) + values)
    assert sum(row.nbytes for row in bank.table().rows) == bank.tokens * bank.nbytes // capacity


@pytest.mark.parametrize("eviction", [Oldest(), LongTerm(recent=1, prototypes=0.31, long_term_frames=0.9)], ids=repr)
def test_bounds_in_bytes_count_shared_keys_once(eviction: Oldest | LongTerm) -> None:
    def fill(max_bytes: int) -> MemoryBank:
        bank = MemoryBank(MemoryPolicy(every=1, max_bytes=max_bytes, eviction=eviction), shared_keys=True)
        for index in range(20):
            bank.memorise(index, *shared_frame_of(2 if index < 7 else 5, index), annotated=index in (0, 7))
            bank.read(query_of(index))
            assert bank.nbytes <= max_bytes
        assert [group.objects for group in bank.groups] == [2, 3]
        return bank

    room = 8 if isinstance(eviction, LongTerm) else 0
    least = aligned(2 * TOKENS + room) * 4 * (2 * (KEY + 3) + 5 * VALUE)
    assert fill(least).nbytes == least
    assert len(fill(4 * least).groups[0].frames) >= 8
    with pytest.raises(ValueError, match=f"max_bytes must be at least {least} for 5 objects .*, got {least - 1}"):
        fill(least - 1)


def test_a_group_is_annotated_if_one_of_its_objects_is() -> None:
    bank = MemoryBank(MemoryPolicy(every=None, admission=Certain()), shared_keys=True)
    bank.memorise(0, *shared_frame_of(2, 0), annotated=True)
    bank.memorise(1, *shared_frame_of(3, 1), annotated=[False, False, True])
    bank.memorise(2, *shared_frame_of(3, 2), annotated=[False, True, False])
    bank.memorise(3, *shared_frame_of(3, 3))
    assert [group.frames for group in bank.groups] == [(0, 2, 3), (1, 3)]
    assert [slot.role for slot in bank.groups[0].slots] == [Role.permanent, Role.permanent, Role.temporary]
    bank.forget(2)
    assert [group.frames for group in bank.groups] == [(0, 3), (1, 3)]


def test_uncertainty_of_a_group_is_the_mean_of_what_is_known() -> None:
    bank = MemoryBank(MemoryPolicy(every=1, admission=Certain()), shared_keys=True)
    for index, (uncertainty, mean) in enumerate(
        [([1.0, 3.0], 2.0), ([math.nan, 3.0], 3.0), ([math.nan] * 2, math.nan), ([0.5, 0.25], 0.375)]
    ):
        bank.memorise(index, *shared_frame_of(2, index), uncertainty=torch.tensor(uncertainty))
        assert bank.groups[0].uncertainty == pytest.approx(mean, nan_ok=True)


def test_presence_of_a_group_is_that_of_any_object() -> None:
    bank, presence = MemoryBank(presets.auto(), shared_keys=True), presence_of(3, 0)
    bank.memorise(0, *shared_frame_of(3, 0), presence=presence)
    assert torch.equal(bank.groups[0].tokens_of(0).presence, presence.amax(0).view(1, TOKENS))
