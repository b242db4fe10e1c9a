from dataclasses import dataclass, field

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from stm_fast import MemoryPolicy
from stm_fast.memory.bank import MemoryBank

pytestmark = pytest.mark.usefixtures("poisoned")

KEY, VALUE, HEIGHT, WIDTH = 4, 3, 2, 3


def frame_of(objects: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    keys = torch.randn(objects, KEY, HEIGHT, WIDTH, generator=generator)
    return keys, torch.randn(objects, VALUE, HEIGHT, WIDTH, generator=generator)


@dataclass
class Remembered:
    index: int
    pinned: bool
    kept: bool
    tokens: dict[int, tuple[Tensor, Tensor]]


@dataclass
class NaiveBank:
    """What `MemoryBank` promises, written as a list of frames that are dictionaries by object."""

    policy: MemoryPolicy
    frames: list[Remembered] = field(default_factory=list)

    def memorise(self, index: int, tokens: dict[int, tuple[Tensor, Tensor]], annotated: bool) -> None:
        self.frames = [frame for frame in self.frames if frame.kept]
        pinned = self.policy.keep_first and annotated
        periodic = self.policy.every is not None and index % self.policy.every == 0
        if not (pinned or periodic or self.policy.keep_previous):
            return
        bound = self.policy.max_frames
        if bound is not None and len(self.frames) >= bound:
            oldest = next((frame for frame in self.frames if not frame.pinned), None)
            self.frames = [frame for frame in self.frames if frame is not oldest]
        self.frames.append(Remembered(index, pinned, pinned or periodic, tokens))

    def remove(self, key: int) -> None:
        for frame in self.frames:
            frame.tokens.pop(key, None)
        self.frames = [frame for frame in self.frames if frame.tokens]

    def read(self, key: int, query: Tensor) -> Tensor:
        frames = [frame.tokens[key] for frame in self.frames if key in frame.tokens]
        keys = torch.cat([keys.flatten(1) for keys, _ in frames], 1).double()
        values = torch.cat([values.flatten(1) for _, values in frames], 1).double()
        weights = torch.softmax(keys.T @ query.flatten(1).double() / KEY**0.5, 0)
        return (values @ weights).view(VALUE, HEIGHT, WIDTH).float()


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
    assert sorted(bank.frames) == [frame.index for frame in naive.frames]
    assert bank.tokens == len(naive.frames) * HEIGHT * WIDTH
    assert bank.keys.isfinite().all()
    assert bank.values.isfinite().all()
    mask = torch.ones(len(objects), len(bank.frames), HEIGHT, WIDTH).bool() if bank.mask is None else bank.mask
    frames = {frame.index: frame for frame in naive.frames}
    for slot, index in enumerate(bank.frames):
        for row, key in enumerate(objects):
            remembered = key in frames[index].tokens
            assert mask[row, slot].tolist() == [[remembered] * WIDTH] * HEIGHT
            if remembered:
                keys, values = frames[index].tokens[key]
                assert torch.equal(bank.keys[row, :, slot], keys)
                assert torch.equal(bank.values[row, :, slot], values)


def assert_same_reads(bank: MemoryBank, naive: NaiveBank, objects: list[int]) -> None:
    if naive.frames:
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
        contents = [(bank.keys, bank.values, bank.mask) for bank in (again, once)]
        torch.testing.assert_close(*contents, rtol=0, atol=0)


def test_views_share_the_block() -> None:
    bank = MemoryBank(MemoryPolicy(every=1))
    for index in range(3):
        bank.memorise(index, *frame_of(2, index))
    assert bank.keys.shape == (2, KEY, 3, HEIGHT, WIDTH)
    assert bank.values.shape == (2, VALUE, 3, HEIGHT, WIDTH)
    assert bank.keys.data_ptr() == bank.keys.data_ptr()
    assert bank.keys.flatten(2).data_ptr() == bank.keys.data_ptr(), (
        "the tokens of an object must flatten without a copy"
    )


def test_growth_moves_the_block_seldom() -> None:
    """The frames of a long video are copied a bounded number of times each, not once a frame."""
    bank, moved, address = MemoryBank(MemoryPolicy(every=1)), 0, None
    for index in range(150):
        held = bank.tokens
        bank.memorise(index, *frame_of(1, index))
        if bank.keys.data_ptr() != address:
            address = bank.keys.data_ptr()
            moved += held
    assert moved <= 3 * bank.tokens
    assert bank.nbytes <= 1.5 * 4 * (KEY + VALUE) * bank.tokens


def test_a_bounded_memory_never_reserves_more_than_its_bound() -> None:
    bank = MemoryBank(MemoryPolicy(every=1, max_frames=10))
    for index in range(50):
        bank.memorise(index, *frame_of(1, index), annotated=index == 0)
    assert sorted(bank.frames) == [0, *range(41, 50)]
    assert bank.nbytes == 10 * HEIGHT * WIDTH * 4 * (KEY + VALUE)


def test_annotations_outgrow_the_bound_but_the_previous_frame_finds_a_place() -> None:
    bank = MemoryBank(MemoryPolicy(every=5, max_frames=3))
    for index in range(12):
        bank.memorise(index, *frame_of(1, index), annotated=index < 4)
    assert sorted(bank.frames) == [0, 1, 2, 3, 11]


def test_the_previous_frame_is_replaced_in_place() -> None:
    bank = MemoryBank()
    for index in range(5):
        bank.memorise(index, *frame_of(1, index), annotated=index == 0)
        assert bank.frames == ((0, index) if index else (0,))


def test_memory_of_late_objects_is_finite_where_it_is_masked() -> None:
    bank = MemoryBank(MemoryPolicy(every=1))
    bank.memorise(0, *frame_of(1, 0))
    bank.memorise(1, *frame_of(3, 1), annotated=True)
    assert bank.mask is not None
    assert bank.mask[:, :, 0, 0].tolist() == [[True, True], [False, True], [False, True]]
    assert bank.keys.isfinite().all()
    assert bank.values.isfinite().all()


def test_memory_stays_finite_as_objects_come_and_go_and_it_grows() -> None:
    bank = MemoryBank(MemoryPolicy(every=1))
    objects = 2
    for index in range(20):
        if index % 3 == 1:
            bank.remove(0)
        objects += (index % 3 == 2) - (index % 3 == 1)
        bank.memorise(index, *frame_of(objects, index))
        assert bank.keys.isfinite().all()
        assert bank.values.isfinite().all()
        assert bank.read(frame_of(1, index)[0]).isfinite().all()


class MadeElements(TorchDispatchMode):
    """Elements of all floating tensors that operations make."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: object, types: object, args: tuple = (), kwargs: dict | None = None) -> object:
        result = func(*args, **(kwargs or {}))
        self.count += result.numel() if result.is_floating_point() else 0
        return result


def test_removing_copies_what_stays_once() -> None:
    bank = MemoryBank(MemoryPolicy(every=1))
    for index in range(3):
        bank.memorise(index, *frame_of(4, index))
    with MadeElements() as made:
        bank.remove(1)
    assert made.count == 3 * 3 * HEIGHT * WIDTH * (KEY + VALUE)
    assert torch.equal(bank.keys[1, :, 2], frame_of(4, 2)[0][2])


def test_a_failure_to_grow_can_be_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    bank = MemoryBank(MemoryPolicy(every=1))
    for index in range(8):
        bank.memorise(index, *frame_of(1, index))
    move = MemoryBank._moved

    def without_room_for_values(self: MemoryBank, block: Tensor, like: Tensor, capacity: int) -> Tensor:
        if like.shape[1] == VALUE:
            raise MemoryError
        return move(self, block, like, capacity)

    with monkeypatch.context() as patch:
        patch.setattr(MemoryBank, "_moved", without_room_for_values)
        with pytest.raises(MemoryError):
            bank.memorise(8, *frame_of(1, 8))
    bank.memorise(8, *frame_of(1, 8))
    assert bank.frames == tuple(range(9))
    assert torch.equal(bank.values[0, :, 8], frame_of(1, 8)[1][0])


def test_top_k_reads_the_best_token_alone() -> None:
    bank = MemoryBank()
    keys, values = frame_of(1, 0)
    bank.memorise(0, keys, values)
    readout = bank.read(10 * keys[:1], top_k=1)
    best = (keys[0].flatten(1).T @ keys[0].flatten(1)).argmax(0)
    torch.testing.assert_close(readout[0].flatten(1), values[0].flatten(1)[:, best])


def test_empty_memory() -> None:
    bank = MemoryBank()
    assert (bank.objects, bank.frames, bank.tokens, bank.mask, bank.nbytes) == (0, (), 0, None, 0)
    with pytest.raises(ValueError, match="the memory is empty"):
        bank.read(torch.zeros(1, KEY, HEIGHT, WIDTH))
    with pytest.raises(IndexError, match="row must be in"):
        bank.remove(0)


def test_a_bank_without_objects_takes_a_new_grid() -> None:
    bank = MemoryBank()
    bank.memorise(0, *frame_of(1, 0))
    bank.remove(0)
    bank.memorise(1, torch.ones(2, 7, 1, 1), torch.ones(2, 5, 1, 1))
    assert bank.keys.shape == (2, 7, 1, 1, 1)
    assert bank.frames == (1,)


@pytest.mark.parametrize(
    ("index", "keys", "values", "message"),
    [
        (1, (2, KEY, HEIGHT), (2, VALUE, HEIGHT, WIDTH), r"keys and values must be \(O, C, h, w\)"),
        (1, (2, KEY, HEIGHT, WIDTH), (3, VALUE, HEIGHT, WIDTH), "with the same O, h and w"),
        (1, (2, KEY, 5, WIDTH), (2, VALUE, 5, WIDTH), r"keys must be \(O, 4, 2, 3\), got \(2, 4, 5, 3\)"),
        (1, (2, KEY, HEIGHT, WIDTH), (2, 9, HEIGHT, WIDTH), r"values must be \(O, 3, 2, 3\), got \(2, 9, 2, 3\)"),
        (1, (1, KEY, HEIGHT, WIDTH), (1, VALUE, HEIGHT, WIDTH), "a row for each of at least 2 objects, got 1"),
        (-1, (2, KEY, HEIGHT, WIDTH), (2, VALUE, HEIGHT, WIDTH), r"index must not be below .* \(0\), got -1"),
    ],
)
def test_what_does_not_fit_is_refused(index: int, keys: tuple, values: tuple, message: str) -> None:
    bank = MemoryBank()
    bank.memorise(0, *frame_of(2, 0))
    with pytest.raises(ValueError, match=message):
        bank.memorise(index, torch.zeros(keys), torch.zeros(values))
    assert bank.frames == (0,)


def test_another_dtype_or_device_is_refused() -> None:
    bank = MemoryBank()
    keys, values = frame_of(1, 0)
    bank.memorise(0, keys, values)
    with pytest.raises(TypeError, match=r"values must be torch\.float32 as in memory, got torch\.bfloat16"):
        bank.memorise(1, keys, values.bfloat16())
    with pytest.raises(ValueError, match="keys must be on cpu as in memory, got meta"):
        bank.memorise(1, keys.to("meta"), values)
    assert bank.frames == (0,)
