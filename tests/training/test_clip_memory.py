"""A memory that grows inside one graph is `torch.stack` in numbers and gradients, and copies each frame once."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import gradcheck

from stm_fast.ops import memory_read
from stm_fast.training.clip_memory import ClipMemory, GrowingStack

Shape = tuple[int, int, int, int]


def plain_read(query_key: Tensor, memory_key: Tensor, memory_value: Tensor) -> Tensor:
    query, key, value = query_key.flatten(2), memory_key.flatten(2), memory_value.flatten(2)
    weights = torch.softmax(key.mT @ query / query.shape[1] ** 0.5, 1)
    return (value @ weights).view(*value.shape[:2], *query_key.shape[2:])


def random_frames(count: int, shape: Shape = (2, 3, 2, 2), dtype: torch.dtype = torch.float64) -> list[Tensor]:
    random = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=random, dtype=dtype).requires_grad_() for _ in range(count)]


def stacks(frames: list[Tensor]) -> list[Tensor]:
    """The stack after each frame."""
    stack = GrowingStack(len(frames))
    found = []
    for frame in frames:
        stack.append(frame)
        found.append(stack.frames)
    return found


@settings(deadline=None, max_examples=30)
@given(
    count=st.integers(1, 5),
    shape=st.tuples(*(st.integers(1, 3) for _ in range(4))),
    differentiable=st.lists(st.booleans(), min_size=5, max_size=5),
    read=st.lists(st.booleans(), min_size=5, max_size=5),
    last=st.booleans(),
)
def test_it_is_the_stack(count: int, shape: Shape, differentiable: list[bool], read: list[bool], last: bool) -> None:
    frames = random_frames(count, shape)
    for frame, wanted in zip(frames, differentiable, strict=False):
        frame.requires_grad_(wanted)
    inputs = [frame.mT if last else frame for frame in frames]  # not contiguous
    grown = stacks(inputs)
    expected = [torch.stack(inputs[: time + 1], 2) for time in range(count)]
    for one, other in zip(grown, expected, strict=True):
        assert torch.equal(one, other)
        assert one.requires_grad == other.requires_grad
    wanted = [frame for frame in frames if frame.requires_grad]
    if not wanted:
        return
    gradients = []
    for made in (grown, expected):
        losses = [(1 + time) * stack.square().sum() for time, stack in enumerate(made) if read[time]]
        gradients.append(torch.autograd.grad(sum(losses, 0 * wanted[0].sum()), wanted, allow_unused=True))
    for one, other in zip(*gradients, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(one, other)


@pytest.mark.parametrize("read", [memory_read, plain_read])
def test_gradcheck_through_reads(read: object) -> None:
    keys, values = random_frames(3, (1, 2, 1, 2)), random_frames(3, (1, 3, 1, 2))
    query = random_frames(1, (1, 2, 2, 1))[0]

    def clip(query: Tensor, *frames: Tensor) -> list[Tensor]:
        memory = ClipMemory(3)
        readouts = []
        for key, value in zip(frames[:3], frames[3:], strict=True):
            memory.append(key, value)
            readouts.append(read(query, memory.keys, memory.values))
        return readouts

    assert gradcheck(lambda *inputs: tuple(clip(*inputs)), (query, *keys, *values))


def test_all_that_is_saved_lies_in_one_buffer() -> None:
    """Whatever the clip's length is: the stacks of all reads are views of it."""
    frames = random_frames(6)
    saved: set[int] = set()

    def pack(tensor: Tensor) -> Tensor:
        saved.add(tensor.untyped_storage().data_ptr())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        sum(stack.square().sum() for stack in stacks(frames)).backward()
    assert len(saved) == 1


def test_a_graph_can_be_gone_through_again_or_in_part() -> None:
    frames = random_frames(3)
    total = sum(stack.square().sum() for stack in stacks(frames))
    for _ in range(2):
        for time, frame in enumerate(frames):
            (alone,) = torch.autograd.grad(total, frame, retain_graph=True)
            torch.testing.assert_close(alone, 2 * (3 - time) * frame)


def test_there_are_no_second_derivatives() -> None:
    frames = random_frames(2)
    (gradient,) = torch.autograd.grad(stacks(frames)[-1].square().sum(), frames[0], create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


def test_a_stack_that_a_caller_writes_to_is_found_out() -> None:
    stack = stacks(random_frames(2))[-1]
    loss = stack.square().sum()
    with torch.no_grad():
        stack.zero_()
    with pytest.raises(RuntimeError, match="modified inplace"):
        loss.backward()


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_it_works_without_gradients(mode: type) -> None:
    frames = random_frames(3)
    with mode():
        grown = stacks(frames)
        assert torch.equal(grown[-1], torch.stack(frames, 2))
    assert not grown[-1].requires_grad


def test_autocast_casts_a_frame_once() -> None:
    memory = ClipMemory(2)
    keys, values = (random_frames(2, dtype=torch.float32) for _ in range(2))
    with torch.autocast("cpu", torch.bfloat16):
        for key, value in zip(keys, values, strict=True):
            memory.append(key, value)
        readout = memory_read(keys[0], memory.keys, memory.values)
    assert memory.keys.dtype == memory.values.dtype == readout.dtype == torch.bfloat16
    readout.float().square().sum().backward()
    assert all(frame.grad.dtype == torch.float32 and frame.grad.abs().sum() > 0 for frame in [*keys, *values])


def test_what_cannot_be_appended_says_why() -> None:
    stack = GrowingStack(2)
    with pytest.raises(ValueError, match="empty"):
        stack.frames  # noqa: B018
    stack.append(torch.zeros(1, 2, 3, 3))
    for other in (torch.zeros(1, 2, 3, 4), torch.zeros(1, 2, 3, 3, dtype=torch.float64)):
        with pytest.raises(ValueError, match="the first frame was"):
            stack.append(other)
    stack.append(torch.zeros(1, 2, 3, 3))
    with pytest.raises(ValueError, match="room for 2 frames"):
        stack.append(torch.zeros(1, 2, 3, 3))
