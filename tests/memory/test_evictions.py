"""Which frame goes when a memory is full, and what long-term memory keeps of it."""

import math
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from stm_fast import memory_read
from stm_fast.memory import presets
from stm_fast.memory.bank import MemoryBank
from stm_fast.memory.frames import Role
from stm_fast.memory.policies import LeastUsed, LongTerm, MemoryPolicy, MostAlike, Novel, ObjectMemory, distance
from stm_fast.memory.tokens import TokenBlock

KEY, VALUE, HEIGHT, WIDTH = 8, 6, 3, 4
TOKENS = HEIGHT * WIDTH
BOUNDED = (presets.window, presets.least_used, presets.long_term, presets.diverse)


def frame_of(seed: int, objects: int = 1) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    keys = torch.randn(objects, KEY, HEIGHT, WIDTH, generator=generator)
    return keys, torch.randn(objects, VALUE, HEIGHT, WIDTH, generator=generator)


def filled(policy: MemoryPolicy, looks: list[int], presence: list[float] | None = None) -> MemoryBank:
    """Return a bank that saw one frame after the other; equal numbers look equal."""
    bank = MemoryBank(policy)
    for index, look in enumerate(looks):
        there = None if presence is None else torch.full((1, HEIGHT, WIDTH), presence[index])
        bank.memorise(index, *frame_of(look), annotated=index == 0, presence=there)
    return bank


def test_the_frame_goes_that_was_read_least() -> None:
    bank = MemoryBank(MemoryPolicy(every=1, max_frames=5, eviction=LeastUsed()))
    for index in range(30):
        bank.memorise(index, *frame_of(index), annotated=index == 0)
        for look in (3, 7):
            bank.read(4 * frame_of(look)[0])
    assert {0, 3, 7, 29} < set(bank.frames)


def test_of_frames_that_were_never_read_the_oldest_goes() -> None:
    assert filled(MemoryPolicy(every=1, max_frames=4, eviction=LeastUsed()), list(range(8))).frames == (0, 5, 6, 7)


def test_usage_is_that_of_the_reads_since_a_frame_came() -> None:
    bank = MemoryBank(MemoryPolicy(every=1, eviction=LeastUsed()))
    bank.memorise(0, *frame_of(0))
    queries = [frame_of(seed)[0] for seed in (10, 11, 12)]
    bank.read(queries[0])
    bank.memorise(1, *frame_of(1))
    for query in queries[1:]:
        bank.read(query)
    keys = torch.cat([frame_of(0)[0].flatten(2), frame_of(1)[0].flatten(2)], 2)
    shares = [memory_read(query.flatten(2), keys, keys, return_usage=True).usage[0] for query in queries[1:]]
    first = (TOKENS + sum(float(share[:TOKENS].sum()) for share in shares)) / (3 * TOKENS)
    second = sum(float(share[TOKENS:].sum()) for share in shares) / (2 * TOKENS)
    rows = bank.table().rows
    assert [row.usage for row in rows] == pytest.approx([first, second], rel=1e-4)


def test_what_stays_is_diverse() -> None:
    """Of looks that come in long runs, each stays."""
    looks = [0] * 5 + [1] * 20 + [2] * 3 + [3] * 20 + [1] * 20
    bank = filled(MemoryPolicy(every=1, max_frames=6, eviction=MostAlike(recent=1)), looks)
    assert {looks[frame] for frame in bank.frames} == {0, 1, 2, 3}


def test_the_last_frames_stay_whatever_they_say() -> None:
    """Also when they do not show the object, and are otherwise the first to go."""
    looks, presence = [0, 1, 2, *range(10, 30)], [1.0] * 3 + [0.0] * 20
    bank = filled(MemoryPolicy(every=1, max_frames=8, eviction=MostAlike(recent=3)), looks, presence)
    assert {0, 1, 2, 19, 20, 21, 22} < set(bank.frames)


def test_a_frame_that_adds_nothing_is_not_kept() -> None:
    looks = [0, 0, 1, 1, 0, 2, 2]
    bank = filled(MemoryPolicy(every=1, admission=Novel(0.05)), looks)
    roles = {slot.frame: slot.role for slot in bank.groups[0].slots}
    assert roles == {0: Role.permanent, 2: Role.working, 5: Role.working, 6: Role.temporary}


def test_frames_without_the_object_add_nothing() -> None:
    bank = filled(MemoryPolicy(every=1, admission=Novel(0.05)), [0, 1, 2, 3], [0.5, 0.0, 0.4, 0.0])
    assert bank.frames == (0, 2, 3)


def test_distance_is_how_differently_two_frames_answer() -> None:
    bank = filled(MemoryPolicy(every=1), [0, 1, 0])
    first, second = ([part.flatten(2) for part in frame_of(look)] for look in (0, 1))
    said, own = memory_read(second[0], *first), memory_read(second[0], *second)
    expected = ((said - own).square().sum(1) / own.square().sum(1)).mean()
    assert distance(bank.groups[0], 1, 0) == pytest.approx(float(expected), rel=1e-5)
    assert distance(bank.groups[0], 2, 0) == 0


def test_prototypes_are_the_tokens_used_most() -> None:
    """With the values that their keys read from all that they stand for."""
    eviction = LongTerm(recent=1, prototypes=4 / TOKENS, long_term_frames=8, object_share=0.0)
    bank = MemoryBank(MemoryPolicy(every=1, max_frames=4, eviction=eviction))
    query = frame_of(50)[0]
    usage = torch.zeros(4 * TOKENS)
    born = torch.arange(4).repeat_interleave(TOKENS)
    for index in range(4):
        bank.memorise(index, *frame_of(index), annotated=index == 0)
        bank.read(query)
        keys = torch.cat([frame_of(seed)[0].flatten(2) for seed in range(index + 1)], 2)
        used = memory_read(query.flatten(2), keys, keys, return_usage=True).usage[0]
        usage[: len(used)] += used
    bank.memorise(4, *frame_of(4))
    assert bank.frames == (0, 3, 4)
    (group,) = bank.groups
    rates = (usage / (4 - born))[TOKENS : 3 * TOKENS]
    keys, values = (torch.cat([frame_of(seed)[side].flatten(2) for seed in (1, 2)], 2) for side in (0, 1))
    chosen = keys[..., rates.topk(4).indices]
    torch.testing.assert_close(group.prototypes.keys, chosen)
    torch.testing.assert_close(group.prototypes.values, memory_read(chosen, keys, values))
    expected = memory_read(
        query.flatten(2),
        torch.cat([chosen, *(frame_of(seed)[0].flatten(2) for seed in (0, 3, 4))], 2),
        torch.cat([memory_read(chosen, keys, values), *(frame_of(seed)[1].flatten(2) for seed in (0, 3, 4))], 2),
    )
    torch.testing.assert_close(bank.read(query).flatten(2), expected, rtol=1e-4, atol=1e-5)


def test_long_term_memory_is_bounded() -> None:
    """By its room, rounded up to a multiple of 8 tokens."""
    eviction = LongTerm(recent=2, prototypes=5 / TOKENS, long_term_frames=17 / TOKENS)
    bank = MemoryBank(MemoryPolicy(every=1, max_frames=6, eviction=eviction))
    for index in range(60):
        bank.memorise(index, *frame_of(index, 2), annotated=index == 0)
        assert bank.read(frame_of(99)[0]).isfinite().all()
        assert bank.tokens <= 6 * TOKENS + 24
    assert bank.groups[0].prototypes.number == 24
    assert bank.table().rows[-1].role == "long-term"


def test_a_share_of_the_prototypes_is_left_to_the_object() -> None:
    """Also when they have not been read for long: of all but the newest prototypes."""
    eviction = LongTerm(recent=1, prototypes=4 / TOKENS, long_term_frames=1, object_share=0.5)
    bank = MemoryBank(MemoryPolicy(every=1, max_frames=4, eviction=eviction))
    there = torch.zeros(1, HEIGHT, WIDTH)
    there[..., 0] = 1
    for index in range(40):
        presence = there if index < 6 else torch.zeros_like(there)
        keys, values = frame_of(index)
        bank.memorise(index, torch.where(presence.bool()[:, None], -keys, keys), values, presence=presence)
        bank.read(frame_of(index)[0])
    assert (bank.groups[0].prototypes.presence >= 0.5).sum() == (12 - 4) // 2


@pytest.mark.parametrize(
    "policy",
    [
        presets.official(1),
        presets.window(5, 1),
        presets.least_used(5, 1),
        presets.long_term(5, 1),
        presets.diverse(10, 1),
    ],
    ids=["official", "window", "least-used", "long-term", "diverse"],
)
@pytest.mark.parametrize("value_dtype", [None, torch.bfloat16, torch.int8], ids=str)
def test_a_memory_resumes_where_its_state_was_taken(policy: MemoryPolicy, value_dtype: torch.dtype | None) -> None:
    """To the same bits."""
    bank, other = (MemoryBank(policy, value_dtype=value_dtype) for _ in range(2))
    for index in range(40):
        if index == 17:
            tensors, rest = bank.state()
            other.restore({name: part.clone() for name, part in tensors.items()}, rest)
        objects = 1 if index < 10 else 3
        generator = torch.Generator().manual_seed(index)
        presence = torch.rand(objects, HEIGHT, WIDTH, generator=generator)
        uncertainty = torch.rand(objects, generator=generator)
        for each in (bank, other)[: 1 + (index >= 17)]:
            each.memorise(
                index,
                *frame_of(index % 9, objects),
                annotated=index in (0, 10),
                presence=presence,
                uncertainty=uncertainty,
            )
        if index >= 17:
            assert other.table() == bank.table()
            assert torch.equal(other.read(frame_of(100)[0]), bank.read(frame_of(100)[0]))
        else:
            bank.read(frame_of(100)[0])


@pytest.mark.parametrize("value_dtype", [None, torch.int8], ids=str)
@pytest.mark.parametrize("part", ["put", "copy"])
@pytest.mark.parametrize("saved", [False, True])
def test_an_interrupted_consolidation_is_finished(
    part: str, saved: bool, value_dtype: torch.dtype | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Interrupted after each of its steps, then repeated or saved and restored: the memory is as without."""
    policy = presets.long_term(6, 1)

    def memorise(bank: MemoryBank, index: int) -> None:
        bank.memorise(index, *frame_of(index % 9), annotated=index == 0)

    whole, interrupted = (MemoryBank(policy, value_dtype=value_dtype) for _ in range(2))
    step, raised = getattr(TokenBlock, part), 0
    for index in range(40):
        memorise(whole, index)
        calls = 0

        def fails(self: TokenBlock, *args: object, last: int = 1 + index % 5) -> None:
            nonlocal calls
            calls += 1
            step(self, *args)
            if calls == last:
                raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(TokenBlock, part, fails)
            try:
                memorise(interrupted, index)
            except KeyboardInterrupt:
                raised += 1
        if saved:
            state = interrupted.state()
            interrupted = MemoryBank(policy, value_dtype=value_dtype)
            interrupted.restore(*state)
        memorise(interrupted, index)
        for bank in (whole, interrupted):
            bank.read(frame_of(100)[0])
        assert interrupted.table() == whole.table()
        for one, other in zip(whole.groups, interrupted.groups, strict=True):
            assert torch.equal(one.prototypes.keys, other.prototypes.keys)
            assert torch.equal(one.prototypes.values, other.prototypes.values)
    assert raised > 5


@pytest.mark.parametrize(("value_dtype", "error"), [(torch.bfloat16, 2**-7), (torch.int8, 0.02)])
def test_values_stored_in_fewer_bits(value_dtype: torch.dtype, error: float) -> None:
    policy = MemoryPolicy(every=1, eviction=LeastUsed())
    exact, short = MemoryBank(policy), MemoryBank(policy, value_dtype=value_dtype)
    for index in range(30):
        for bank in (exact, short):
            bank.memorise(index, *frame_of(index, 2))
            bank.read(frame_of(100)[0])
    query = frame_of(101)[0]
    truth, readout = exact.read(query), short.read(query)
    assert readout.dtype == torch.float32
    assert (readout - truth).norm() / truth.norm() < error
    assert [row.usage for row in short.table().rows] == pytest.approx(
        [row.usage for row in exact.table().rows], rel=1e-3
    )
    assert (
        exact.groups[0].storage.block.values.element_size() / short.groups[0].storage.block.values.element_size() >= 2
    )
    assert short.nbytes < exact.nbytes


def test_values_in_int8_refuse_top_k_and_stores() -> None:
    bank = MemoryBank(value_dtype=torch.int8)
    bank.memorise(0, *frame_of(0))
    with pytest.raises(ValueError, match="top_k must be None for a memory with values in int8, got 3"):
        bank.read(frame_of(1)[0], top_k=3)
    with pytest.raises(TypeError, match=r"value_dtype must be None or one of .*, got torch\.int32"):
        MemoryBank(value_dtype=torch.int32)


def test_an_eviction_that_makes_no_room_is_named() -> None:
    @dataclass(frozen=True)
    class Idle(LeastUsed):
        def make_room(self, memory: ObjectMemory) -> None:
            pass

    with pytest.raises(RuntimeError, match=r"Idle\(\) made no room in a memory of 3 frames"):
        filled(MemoryPolicy(every=1, max_frames=3, eviction=Idle()), [0, 1, 2, 3, 4])


def test_distances_are_those_of_the_objects_that_are_left() -> None:
    bank = MemoryBank(MemoryPolicy(every=1))
    for index in range(2):
        keys, values = frame_of(0, 2)
        bank.memorise(index, keys, torch.stack([values[0], values[1] * (1 - 2 * index)]))
    assert distance(bank.groups[0], 1, 0) == pytest.approx(4)
    bank.remove(1)
    assert distance(bank.groups[0], 1, 0) == 0


def test_diverse_memories_of_one_frame() -> None:
    policy = MemoryPolicy(every=1, keep_first=False, max_frames=1, eviction=MostAlike())
    assert filled(policy, [0, 1, 2]).frames == (2,)


def test_table_is_printed_in_columns() -> None:
    bank = MemoryBank(MemoryPolicy(every=2, eviction=LeastUsed()))
    for index in range(4):
        bank.memorise(index, *frame_of(index, 1 + (index >= 2)), annotated=index in (0, 2))
        bank.read(frame_of(9)[0])
    lines = str(bank.table(["cat", 12])).splitlines()
    assert lines[0].split() == ["frame", "role", "objects", "tokens", "MB", "usage"]
    assert [line.split()[:3] for line in lines[1:]] == [
        ["0", "permanent", "cat"],
        ["2", "permanent", "cat"],
        ["3", "temporary", "cat"],
        ["2", "permanent", "12"],
        ["3", "temporary", "12"],
    ]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LongTerm(recent=-1), "recent must be at least 0, got -1"),
        (lambda: LongTerm(prototypes=0), r"prototypes must be above 0 and at most long_term_frames \(6.0\), got 0"),
        (lambda: LongTerm(prototypes=9), r"prototypes must be above 0 and at most long_term_frames \(6.0\), got 9"),
        (lambda: LongTerm(object_share=1.5), r"object_share must be between 0 and 1, got 1\.5"),
        (lambda: LongTerm(long_term_frames=math.inf), "long_term_frames must be finite, got inf"),
        (lambda: Novel(math.nan), "least must be at least 0, got nan"),
        (lambda: Novel(-1), "least must be at least 0, got -1"),
        (lambda: MostAlike(-1), "recent must be at least 0, got -1"),
    ],
)
def test_options_out_of_range(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("eviction", [LongTerm, MostAlike])
def test_recent_frames_are_whole(eviction) -> None:
    with pytest.raises(TypeError, match=r"recent must be a whole number, got 1\.5"):
        eviction(recent=1.5)
