import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from stm_fast import MemoryPolicy
from stm_fast.memory.bank import MemoryBank
from stm_fast.memory.policies import Certain
from stm_fast.memory.tokens import TokenBlock, aligned
from tests.memory.banks import BYTES_PER_TOKEN, HEIGHT, KEY, VALUE, WIDTH, frame_of, frames_of

pytestmark = pytest.mark.usefixtures("poisoned")


def test_views_share_the_block() -> None:
    bank = MemoryBank(MemoryPolicy(every=1))
    for index in range(3):
        bank.memorise(index, *frame_of(2, index))
    (group,) = bank.groups
    assert group.keys.shape == (2, KEY, 3 * HEIGHT * WIDTH)
    assert group.values.shape == (2, VALUE, 3 * HEIGHT * WIDTH)
    assert group.keys.data_ptr() == group.storage.block.keys.data_ptr()
    assert group.values.data_ptr() == group.storage.block.values.data_ptr()


def test_growth_moves_the_block_seldom() -> None:
    """The frames of a long video are copied a bounded number of times each, not once a frame."""
    bank, moved, address = MemoryBank(MemoryPolicy(every=1)), 0, None
    for index in range(150):
        held = bank.tokens
        bank.memorise(index, *frame_of(1, index))
        if bank.groups[0].keys.data_ptr() != address:
            address = bank.groups[0].keys.data_ptr()
            moved += held
    assert moved <= 3 * bank.tokens
    assert bank.nbytes <= 1.5 * BYTES_PER_TOKEN * bank.tokens


def test_a_bounded_memory_grows_to_its_bound() -> None:
    """A short video takes no room for the frames of a long one."""
    bank = MemoryBank(MemoryPolicy(every=1, max_frames=30))
    capacities = []
    for index in range(50):
        bank.memorise(index, *frame_of(1, index), annotated=index == 0)
        assert bank.nbytes <= max(8, 1.5 * len(bank.frames)) * HEIGHT * WIDTH * BYTES_PER_TOKEN
        capacities.append(bank.nbytes)
    assert list(bank.frames) == [0, *range(21, 50)]
    assert len(set(capacities)) == 5
    assert capacities[-1] == aligned(30 * HEIGHT * WIDTH) * BYTES_PER_TOKEN


def test_annotations_go_last_and_the_first_of_them_never_while_there_are_others() -> None:
    bank = MemoryBank(MemoryPolicy(every=5, max_frames=3))
    seen = []
    for index in range(12):
        bank.memorise(index, *frame_of(1, index), annotated=index < 5)
        seen.append(bank.frames)
    assert seen[2:8] == [(0, 1, 2), (0, 2, 3), (0, 3, 4), (0, 4, 5), (0, 4, 6), (0, 4, 7)]
    assert seen[-1] == (0, 4, 11)


@pytest.mark.parametrize("objects", [1, 3])
def test_a_bound_in_bytes_holds_for_all_objects_together(objects: int) -> None:
    max_bytes = 12 * HEIGHT * WIDTH * BYTES_PER_TOKEN
    bank = MemoryBank(MemoryPolicy(every=1, max_bytes=max_bytes))
    for index in range(40):
        joined = 1 if index < 20 else objects
        bank.memorise(index, *frame_of(joined, index), annotated=index == 20)
        assert bank.nbytes <= max_bytes
    assert len(bank.groups[0].frames) == 12 // objects
    bank = MemoryBank(MemoryPolicy(every=1, max_tokens=7 * HEIGHT * WIDTH + 3))
    for index in range(20):
        bank.memorise(index, *frame_of(objects, index))
    assert bank.tokens == 7 * HEIGHT * WIDTH


def test_objects_that_join_find_room_made_for_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Within a bound in bytes, blocks of older objects shrink before one for new objects is made."""
    order = []
    made, resized = TokenBlock.empty, TokenBlock.resized
    bank = MemoryBank(MemoryPolicy(every=1, max_bytes=12 * HEIGHT * WIDTH * BYTES_PER_TOKEN))
    for index in range(12):
        bank.memorise(index, *frame_of(1, index))
    block = lambda *rest: order.append("made") or made(*rest)  # noqa: E731
    monkeypatch.setattr(TokenBlock, "empty", lambda like, capacity, dtype: block(like, capacity, dtype))
    monkeypatch.setattr(TokenBlock, "resized", lambda *rest: order.append("shrunk") or resized(*rest))
    bank.memorise(12, *frame_of(2, 12), annotated=True)
    assert order[-2:] == ["shrunk", "made"]


def test_a_bound_that_leaves_no_room_says_what_it_takes() -> None:
    bank = MemoryBank(MemoryPolicy(max_bytes=100))
    min_bytes = aligned(2 * HEIGHT * WIDTH) * BYTES_PER_TOKEN * 2
    with pytest.raises(ValueError, match=f"max_bytes must be at least {min_bytes} for 2 objects .*, got 100"):
        bank.memorise(0, *frame_of(2, 0), annotated=True)
    assert bank.objects == 0


def test_the_previous_frame_is_replaced_in_place() -> None:
    bank = MemoryBank()
    for index in range(5):
        bank.memorise(index, *frame_of(1, index), annotated=index == 0)
        assert bank.frames == ((0, index) if index else (0,))


def test_late_objects_take_no_room_for_what_they_have_not_seen() -> None:
    bank = MemoryBank(MemoryPolicy(every=1))
    for index in range(8):
        bank.memorise(index, *frame_of(1, index))
    before = bank.nbytes
    bank.memorise(8, *frame_of(3, 8), annotated=True)
    assert [group.objects for group in bank.groups] == [1, 2]
    assert [group.frames for group in bank.groups] == [tuple(range(9)), (8,)]
    assert bank.nbytes - 1.5 * before <= 2 * 8 * HEIGHT * WIDTH * BYTES_PER_TOKEN


def test_what_is_read_stays_finite_as_objects_come_and_go_and_it_grows() -> None:
    bank = MemoryBank(MemoryPolicy(every=1))
    objects = 2
    for index in range(20):
        if index % 3 == 1:
            bank.remove(0)
        objects += (index % 3 == 2) - (index % 3 == 1)
        bank.memorise(index, *frame_of(objects, index))
        assert bank.read(frame_of(1, index)[0]).isfinite().all()


def test_frozen_takes_annotated_frames_only() -> None:
    bank = MemoryBank(MemoryPolicy(every=1))
    bank.memorise(0, *frame_of(1, 0), annotated=True)
    bank.frozen = True
    bank.memorise(1, *frame_of(1, 1))
    assert bank.frames == (0,)
    bank.memorise(2, *frame_of(1, 2), annotated=True)
    assert bank.frames == (0, 2)
    bank.frozen = False
    bank.memorise(3, *frame_of(1, 3))
    assert bank.frames == (0, 2, 3)


def test_permanent_frames_stay() -> None:
    bank = MemoryBank(MemoryPolicy(every=1, max_frames=4))
    for index in range(20):
        bank.memorise(index, *frame_of(1, index), permanent=index == 3)
    assert bank.frames == (3, 17, 18, 19)


def test_forgetting_a_frame() -> None:
    bank = MemoryBank(MemoryPolicy(every=1))
    bank.memorise(0, *frame_of(1, 0))
    with pytest.raises(ValueError, match="frame 0 is all that an object remembers"):
        bank.forget(0)
    for index in range(1, 4):
        bank.memorise(index, *frame_of(2, index), annotated=index == 1)
    bank.forget(2)
    assert bank.frames == (0, 1, 3)
    keys, _ = frames_of(bank.groups[0])
    assert torch.equal(keys[0, :, bank.groups[0].frames.index(3)], frame_of(2, 3)[0][0])
    with pytest.raises(ValueError, match=r"frame must be one of \(0, 1, 3\), got 2"):
        bank.forget(2)


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
    capacity = bank.groups[0].storage.block.capacity
    assert made.count == 3 * capacity * BYTES_PER_TOKEN // 4
    assert torch.equal(frames_of(bank.groups[0])[0][1, :, 2], frame_of(4, 2)[0][2])


def test_a_failure_to_grow_can_be_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    bank = MemoryBank(MemoryPolicy(every=1))
    for index in range(8):
        bank.memorise(index, *frame_of(1, index))
    with monkeypatch.context() as patch:
        patch.setattr(TokenBlock, "resized", refuse)
        with pytest.raises(MemoryError):
            bank.memorise(8, *frame_of(1, 8))
    bank.memorise(8, *frame_of(1, 8))
    assert bank.frames == tuple(range(9))
    assert torch.equal(frames_of(bank.groups[0])[1][0, :, 8], frame_of(1, 8)[1][0])


def refuse(*_: object) -> None:
    raise MemoryError


def test_top_k_reads_the_best_token_alone() -> None:
    bank = MemoryBank()
    keys, values = frame_of(1, 0)
    bank.memorise(0, keys, values)
    readout = bank.read(10 * keys[:1], top_k=1)
    best = (keys[0].flatten(1).T @ keys[0].flatten(1)).argmax(0)
    torch.testing.assert_close(readout[0].flatten(1), values[0].flatten(1)[:, best])


def test_empty_memory() -> None:
    bank = MemoryBank()
    assert (bank.objects, bank.frames, bank.tokens, bank.nbytes, bank.table().rows) == (0, (), 0, 0, ())
    with pytest.raises(ValueError, match="the memory is empty"):
        bank.read(torch.zeros(1, KEY, HEIGHT, WIDTH))
    with pytest.raises(IndexError, match="row must be in"):
        bank.remove(0)


def test_a_bank_without_objects_takes_a_new_grid() -> None:
    bank = MemoryBank()
    bank.memorise(0, *frame_of(1, 0))
    bank.remove(0)
    bank.memorise(1, torch.ones(2, 7, 1, 1), torch.ones(2, 5, 1, 1))
    assert bank.groups[0].keys.shape == (2, 7, 1)
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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"keys": torch.ones(1, KEY, HEIGHT, WIDTH, dtype=torch.long)}, r"keys must be a tensor .*got torch\.int64"),
        ({"values": [[1.0]]}, "values must be a tensor of floating-point numbers, got list"),
        ({"presence": torch.ones(1, HEIGHT, WIDTH, dtype=torch.bool)}, r"presence must be .*got torch\.bool"),
        ({"uncertainty": torch.ones(1, dtype=torch.complex64)}, r"uncertainty must be .*got torch\.complex64"),
        ({"uncertainty": 0.5}, "uncertainty must be .*got float"),
        ({"annotated": "no"}, "annotated must be a truth value, or one for each object, got 'no'"),
        ({"annotated": {1: True}}, "annotated must be a truth value"),
        ({"annotated": []}, "annotated must be a truth value"),
        ({"annotated": None}, "annotated must be a truth value"),
    ],
)
def test_arguments_of_other_types_are_refused(arguments: dict, message: str) -> None:
    bank = MemoryBank()
    keys, values = frame_of(1, 0)
    bank.memorise(0, keys, values)
    with pytest.raises(TypeError, match=message):
        bank.memorise(1, **{"keys": keys, "values": values, **arguments})
    assert bank.frames == (0,)


@pytest.mark.parametrize(
    "annotated", [np.bool_(True), np.array([True, False]), torch.tensor([True, False]), (True, False)], ids=str
)
def test_truth_values_of_any_kind(annotated: object) -> None:
    bank = MemoryBank(MemoryPolicy(every=None))
    for index in range(3):
        bank.memorise(index, *frame_of(2, index), annotated=annotated)
    assert bank.frames == (0, 1, 2)


def test_a_frame_for_which_there_is_no_room_does_not_keep_others_from_making_some() -> None:
    """The first frame stays, the next one does not enter, and the block shrinks for the object that joins."""
    policy = MemoryPolicy(
        every=1, keep_previous=False, admission=Certain(), max_bytes=3 * HEIGHT * WIDTH * BYTES_PER_TOKEN
    )
    bank = MemoryBank(policy)
    for index in range(4):
        bank.memorise(index, *frame_of(1, index), annotated=index == 0)
    bank.memorise(4, *frame_of(2, 4), annotated=[False, True])
    assert bank.nbytes <= policy.max_bytes
    assert [group.frames for group in bank.groups] == [(0,), (4,)]


def test_another_dtype_or_device_is_refused() -> None:
    bank = MemoryBank()
    keys, values = frame_of(1, 0)
    bank.memorise(0, keys, values)
    with pytest.raises(TypeError, match=r"values must be torch\.float32 as in memory, got torch\.bfloat16"):
        bank.memorise(1, keys, values.bfloat16())
    with pytest.raises(ValueError, match="keys must be on cpu as in memory, got meta"):
        bank.memorise(1, keys.to("meta"), values)
    with pytest.raises(ValueError, match="presence must be on cpu as keys are, got meta"):
        bank.memorise(1, keys, values, presence=torch.ones(1, HEIGHT, WIDTH, device="meta"))
    assert bank.frames == (0,)
