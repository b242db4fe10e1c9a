"""A memory that processes share reads as one that is whole. What runs on all ranks is a function at the top level."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from hypothesis import given, settings
from hypothesis import strategies as st

from stm_fast import MemoryPolicy, Segmenter
from stm_fast.memory import presets
from stm_fast.memory.bank import MemoryBank
from stm_fast.memory.distributed import ShardedMemory
from stm_fast.memory.policies import Novel
from stm_fast.memory.stores import HostStore
from stm_fast.models.stm import STM
from tests.colours import BLOCK, COLOURS, ColourMemory, ColourQuery, Split, Threshold
from tests.memory.banks import FRAME_BYTES, HEIGHT, KEY, VALUE, WIDTH, frame_of
from tests.memory.processes import group_of
from tests.memory.reads import assert_aligned, watched

Group = Callable[..., list[Any]]
Video = list[tuple[int, bool, int | None]]
"""Per frame: how many objects join (it is annotated then), whether it is annotated besides, and which object is removed
afterwards."""


@pytest.fixture(scope="module", params=[2, 4])
def group(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Group]:
    with group_of(request.param, tmp_path_factory.mktemp("group")) as call:
        yield call


def refused(act: Callable[[], object]) -> str:
    """Return the error that a call raises."""
    try:
        act()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "nothing"


policies = st.builds(
    MemoryPolicy,
    every=st.sampled_from([None, 1, 2, 3]),
    keep_first=st.just(True),
    keep_previous=st.booleans(),
    max_frames=st.sampled_from([None, None, 2, 3, 5, 8]),
) | st.builds(
    MemoryPolicy, every=st.sampled_from([None, 2]), keep_first=st.just(False), max_frames=st.sampled_from([None, 1, 4])
)
steps = st.lists(st.tuples(st.sampled_from([0, 0, 0, 1, 2]), st.booleans(), st.none() | st.integers(0, 3)), max_size=18)


@settings(max_examples=20)
@given(policies, steps, st.booleans())
def test_equals_a_whole_bank(group: Group, policy: MemoryPolicy, video: Video, interrupted: bool) -> None:
    """Also where a frame at which objects join is memorised without them first, as after a step that failed."""
    for ranks in zip(*group(follow, policy, video, interrupted), strict=True):
        parts, bounds, readouts = zip(*ranks, strict=True)
        assert all(np.array_equal(readout, readouts[0]) for readout in readouts)
        for bound, of_arena in zip(bounds[0], zip(*parts, strict=True), strict=True):
            frames = [frame for part in of_arena for frame in part]
            assert len(set(frames)) == len(frames)
            if bound is None:
                assert max(map(len, of_arena)) - min(map(len, of_arena)) <= 1
            else:
                assert max(map(len, of_arena)) <= -(-bound // len(parts))


def follow(
    policy: MemoryPolicy, video: Video, interrupted: bool
) -> list[tuple[list[tuple[int, ...]], list[int | None], np.ndarray]]:
    """At each step, after it was compared with a whole bank: frames here and bounds by group, and the readout."""
    bank, whole, objects, seen = ShardedMemory(policy), MemoryBank(policy), 0, []
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
        assert (bank.objects, bank.frames, bank.tokens) == (whole.objects, whole.frames, whole.tokens)
        assert bank.table() == whole.table()
        readout = torch.zeros(0)
        if bank.frames:
            query, _ = frame_of(1, 10_000 + index)
            readout = bank.read(query)
            torch.testing.assert_close(readout, whole.read(query), rtol=1e-4, atol=1e-5)
        parts = [group.table.frames_here for group in bank.groups]
        assert bank.frames_here == tuple(sorted({frame for part in parts for frame in part}))
        seen.append((parts, [group.table.max_slots for group in bank.groups], readout.numpy()))
    return seen


@pytest.mark.parametrize("value_dtype", [None, torch.int8], ids=str)
def test_shared_keys(group: Group, value_dtype: torch.dtype | None) -> None:
    readouts = group(share_keys, value_dtype)
    assert all(np.array_equal(readout, readouts[0]) for readout in readouts)


def share_keys(value_dtype: torch.dtype | None) -> np.ndarray:
    """The last readout of a video in which objects join and go, of a memory that was saved and restored on the way."""
    policy = MemoryPolicy(every=2, max_frames=7)
    bank, other = (ShardedMemory(policy, value_dtype=value_dtype, shared_keys=True) for _ in range(2))
    whole = MemoryBank(policy, value_dtype=value_dtype, shared_keys=True)
    for index in range(24):
        keys, values = frame_of(3 + (index > 6) - (index > 10), index)
        for each in (bank, whole):
            each.memorise(index, keys[:1], values, annotated=index in (0, 7))
            if index == 10:
                each.remove(1)
        if index == 15:
            tensors, rest = bank.state()
            assert all(part.shape[0] == 1 for name, part in tensors.items() if name.endswith("keys"))
            other.restore(tensors, rest)
            bank = other
        query, _ = frame_of(1, 10_000 + index)
        readout = bank.read(query)
        torch.testing.assert_close(readout, whole.read(query), rtol=1e-4, atol=1e-5)
        assert bank.table() == whole.table()
        assert [each.objects for each in bank.groups] == [3 - (index > 9), 1][: 1 + (index > 6)]
    return readout.numpy()


def test_each_rank_takes_its_share_of_bytes(group: Group) -> None:
    for frames, nbytes in (ranks := group(grow)):
        assert frames == 96 // len(ranks)
        assert nbytes <= 1.5 * frames * FRAME_BYTES


def grow() -> tuple[int, int]:
    bank = ShardedMemory(MemoryPolicy(every=1))
    for index in range(96):
        bank.memorise(index, *frame_of(1, index))
    return len(bank.frames_here), bank.nbytes


def test_objects_that_joined_apart_begin_with_other_ranks(group: Group) -> None:
    """Otherwise the first rank would have the only frame of each of them."""
    assert group(join_one_by_one) == [[rank] for rank in range(len(group(dist.get_rank)))]


def join_one_by_one() -> list[int]:
    """Which of as many groups as ranks, of one frame each, lie here."""
    bank = ShardedMemory(MemoryPolicy(every=None))
    for index in range(dist.get_world_size()):
        bank.memorise(index, *frame_of(index + 1, index))
    return [number for number, group in enumerate(bank.groups) if group.table.frames_here]


@pytest.mark.parametrize("bound", [{"max_tokens": 4 * HEIGHT * WIDTH + 5}, {"max_bytes": 4 * FRAME_BYTES + 5}])
def test_bounds_in_tokens_and_bytes_are_each_ranks_own(group: Group, bound: dict[str, int]) -> None:
    for frames, here, nbytes in (ranks := group(fill, bound)):
        assert len(frames) == 4 * len(ranks)
        assert len(here) == 4
        assert nbytes == 4 * FRAME_BYTES
        assert frames == (0, *range(41 - len(frames), 40))


def fill(bound: dict[str, int]) -> tuple[tuple[int, ...], tuple[int, ...], int]:
    bank = ShardedMemory(MemoryPolicy(every=1, **bound))
    for index in range(40):
        bank.memorise(index, *frame_of(1, index), annotated=index == 0)
    return bank.frames, bank.frames_here, bank.nbytes


def test_frames_can_be_forgotten_and_memories_frozen(group: Group) -> None:
    group(forget)


def forget() -> None:
    banks = ShardedMemory(MemoryPolicy(every=1)), MemoryBank(MemoryPolicy(every=1))
    for bank in banks:
        for index in range(9):
            bank.memorise(index, *frame_of(2, index))
        for frame in (0, 5, 8):
            bank.forget(frame)
        bank.frozen = True
        bank.memorise(9, *frame_of(2, 9))
        bank.frozen = False
        bank.memorise(10, *frame_of(2, 10))
    assert banks[0].frames == banks[1].frames == (1, 2, 3, 4, 6, 7, 10)
    query, _ = frame_of(1, 99)
    torch.testing.assert_close(banks[0].read(query), banks[1].read(query), rtol=1e-4, atol=1e-5)


def test_16_bit_values_are_merged_in_float32(group: Group) -> None:
    group(merge_16_bits)


def merge_16_bits() -> None:
    policy, bits = MemoryPolicy(every=1), torch.bfloat16
    bank, exact = ShardedMemory(policy), MemoryBank(policy)
    for index in range(60):
        keys, values = frame_of(1, index, bits)
        bank.memorise(index, keys, values)
        exact.memorise(index, keys.double(), values.double())
    query, _ = frame_of(1, 99, bits)
    readout, truth = bank.read(query), exact.read(query.double())
    assert readout.dtype == bits
    torch.testing.assert_close(readout.double(), truth, rtol=2**-8, atol=1e-3)


@pytest.mark.parametrize(
    ("keys", "values", "stored"),
    [
        (torch.float64, torch.float64, None),
        (torch.bfloat16, torch.float32, None),
        (torch.float32, torch.float32, torch.bfloat16),
        (torch.float32, torch.float32, torch.int8),
    ],
)
def test_dtypes(group: Group, keys: torch.dtype, values: torch.dtype, stored: torch.dtype | None) -> None:
    group(read_dtypes, keys, values, stored)


def read_dtypes(key_dtype: torch.dtype, value_dtype: torch.dtype, stored: torch.dtype | None) -> None:
    banks = ShardedMemory(value_dtype=stored), MemoryBank(value_dtype=stored)
    for bank in banks:
        for index in range(30):
            keys, values = frame_of(2, index)
            bank.memorise(index, keys.to(key_dtype), values.to(value_dtype))
    readout, whole = (bank.read(frame_of(1, 99, key_dtype)[0]) for bank in banks)
    assert readout.dtype == whole.dtype == value_dtype
    coarse = stored == torch.bfloat16
    torch.testing.assert_close(readout, whole, rtol=2**-7 if coarse else 1e-4, atol=2**-8 if coarse else 1e-5)


def test_ranks_that_lost_step_are_told(group: Group) -> None:
    for frame, objects, kept, query in group(lose_step):
        assert frame.startswith("RuntimeError: all ranks must follow the same video in step; they differ in the number")
        assert "the number of the last frame memorised (from 5 to 6)" in frame
        assert "the number of objects (from 1 to 2)" in objects
        assert "digest of the frames in memory" in kept
        assert "digest of the query key's shape and dtype" in query


def lose_step() -> list[str]:
    errors, odd, query = [], dist.get_rank() == 1, frame_of(1, 99)[0]
    for index, objects, annotated in ((6 if odd else 5, 1, False), (5, 2 if odd else 1, False), (5, 1, odd)):
        bank = ShardedMemory()
        bank.memorise(index, *frame_of(objects, 0), annotated=annotated)
        errors.append(refused(lambda bank=bank: bank.read(query)))
    bank = ShardedMemory()
    bank.memorise(0, *frame_of(1, 0))
    errors.append(refused(lambda: bank.read(query[..., 1:] if odd else query)))
    return errors


def test_what_needs_the_whole_memory_is_refused(group: Group) -> None:
    for empty, read, segmenter, state in group(ask_too_much):
        assert empty == "ValueError: the memory is empty: memorise a frame before reading"
        assert read.startswith("ValueError: top_k must be None for a sharded memory")
        assert segmenter.startswith("ValueError: top_k must be None with a memory in parts")
        assert state.startswith("ValueError: rest must be the state of part")


def ask_too_much() -> tuple[str, str, str, str]:
    query, bank, whole = frame_of(1, 99)[0], ShardedMemory(), MemoryBank()
    empty = refused(lambda: bank.read(query))
    for each in (bank, whole):
        each.memorise(0, *frame_of(1, 0))
    return (
        empty,
        refused(lambda: bank.read(query, top_k=3)),
        refused(lambda: Segmenter(colour_model(), memory=ShardedMemory, top_k=3)),
        refused(lambda: bank.restore(*whole.state())),
    )


def test_a_group_of_some_processes(group: Group) -> None:
    *outside, inside = group(share_with_the_last)
    assert inside == "nothing"
    for rank, error in enumerate(outside):
        assert error == f"ValueError: group must be one that this process is in, which rank {rank} is not"


def share_with_the_last() -> str:
    """A memory that the last process has for itself."""
    group = dist.new_group([dist.get_world_size() - 1])

    def share() -> None:
        banks = ShardedMemory(group=group), MemoryBank()
        for bank in banks:
            bank.memorise(0, *frame_of(1, 0))
        query, _ = frame_of(1, 99)
        torch.testing.assert_close(banks[0].read(query), banks[1].read(query))

    return refused(share)


@pytest.mark.parametrize(
    "policy",
    [
        presets.least_used(5),
        presets.long_term(5),
        presets.diverse(5),
        MemoryPolicy(admission=Novel()),
    ],
)
def test_policies_that_look_at_tokens_are_refused(policy: MemoryPolicy) -> None:
    with pytest.raises(
        ValueError, match=r"policy must have no admission and Oldest as its eviction .*got MemoryPolicy"
    ):
        ShardedMemory(policy)


def test_stores_and_processes_without_a_group_are_refused() -> None:
    with pytest.raises(ValueError, match="store must be None with a sharded memory"):
        ShardedMemory(store=HostStore())
    with pytest.raises(RuntimeError, match=r"call torch.distributed.init_process_group first.*torchrun"):
        ShardedMemory()


def test_a_segmenter_finds_the_same_on_all_ranks(group: Group, tmp_path: Path) -> None:
    ranks = group(segment, tmp_path)
    for rank, (masks, of_another, unsharded) in enumerate(ranks):
        assert np.array_equal(masks, ranks[0][0])
        assert len(np.unique(masks)) == 4
        saved = f"was saved with part {0 if rank else 1} of {len(ranks)}, this segmenter has"
        assert f"{saved} {rank} of {len(ranks)}" in of_another
        assert f"{saved} None" in unsharded


def colour_model() -> STM:
    return STM(ColourQuery(), ColourMemory(), Split(0), Split(4), Threshold()).eval()


def segment(folder: Path) -> tuple[np.ndarray, str, str]:
    """Masks of a video in which an object joins, one goes, and the segmenter is saved and restored on the way."""
    rng, model, rank = np.random.default_rng(0), colour_model(), dist.get_rank()
    cells = rng.integers(0, len(COLOURS), (12, 3, 4)).repeat(BLOCK, 1).repeat(BLOCK, 2)
    frames = np.array(list(COLOURS.values()), np.uint8)[cells]
    policy = MemoryPolicy(every=2, max_frames=5)
    whole, shared = Segmenter(model, policy=policy), Segmenter(model, policy=policy, memory=ShardedMemory)
    masks = []
    for each in (whole, shared):
        each.start(frames[0], np.where(cells[0] < 3, cells[0], 0))
    for index in range(1, 12):
        expected, result = whole.step(frames[index]), shared.step(frames[index])
        torch.testing.assert_close(result.probabilities, expected.probabilities, rtol=1e-4, atol=1e-5)
        assert torch.equal(result.mask, expected.mask)
        masks.append(result.mask.numpy())
        for each in (whole, shared):
            if index == 2:
                each.annotate(cells[2], [3])
            if index == 9:
                each.remove(1)
        if index == 6:
            shared.save(folder / f"{rank}.safetensors")
            shared = Segmenter(model, policy=policy, memory=ShardedMemory)
            shared.restore(folder / f"{rank}.safetensors")
            assert shared.memory.table() == whole.memory.table()
            dist.barrier()
    other = folder / f"{0 if rank else 1}.safetensors"
    plain = Segmenter(model, policy=policy)
    return (
        np.stack(masks),
        refused(lambda: Segmenter(model, policy=policy, memory=ShardedMemory).restore(other)),
        refused(lambda: plain.restore(other)),
    )


def test_reads_are_aligned(group: Group) -> None:
    """On every rank, for grids of odd sizes: see `tests.memory.test_alignment`."""
    group(read_odd_grids, None)
    group(read_odd_grids, torch.int8)


def read_odd_grids(value_dtype: torch.dtype | None) -> None:
    for grid in ((5, 7), (30, 54)):
        for max_frames in (None, 5):
            bank = ShardedMemory(MemoryPolicy(every=1, max_frames=max_frames), value_dtype=value_dtype)
            with watched() as seen:
                for index in range(13):
                    bank.memorise(index, torch.ones(2, KEY, *grid).bfloat16(), torch.ones(2, VALUE, *grid).bfloat16())
                    bank.read(torch.ones(1, KEY, *grid).bfloat16())
            assert seen
            for keys, values in seen:
                assert_aligned(keys)
                assert_aligned(values)
