"""Whole clips through the network: void, and gradients of a step by either read."""

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from stm_fast.models.compact import compact_stm
from stm_fast.models.resnet50 import resnet50_stm
from stm_fast.models.stm import STM
from stm_fast.ops import memory_read
from stm_fast.training.batch import VOID, Batch, Example, collate
from stm_fast.training.clip_memory import ClipMemory
from stm_fast.training.network import Read, Rollout
from tests.training.test_clip_memory import plain_read


def batch_of(objects: tuple[int, ...], frames: int = 3, size: int = 48) -> Batch:
    """A clip for each number of objects, which are rectangles that move over noise."""
    rng = np.random.default_rng(0)
    examples: list[Example] = []
    for count in objects:
        pictures = rng.integers(0, 256, (frames, size, size, 3), np.uint8)
        masks = np.zeros((frames, size, size), np.uint8)
        for number in range(1, count + 1):
            for time in range(frames):
                masks[time, 8 * number + time : 8 * number + 12, 4 + 3 * time : 30] = number
                pictures[time][masks[time] == number] //= 2 * number
        examples.append((pictures, masks))
    return collate(examples)


def run(rollout: Rollout, batch: Batch) -> Tensor:
    logits: Tensor = rollout(batch.frames, batch.masks, batch.clip, batch.slot)
    return logits


def gradients(model: STM, batch: Batch, read: Read) -> dict[str, Tensor]:
    """Gradients of a whole step, by parameter."""
    logits = run(Rollout(model, read), batch)
    model.zero_grad(set_to_none=True)
    F.cross_entropy(logits.flatten(0, 1), batch.masks[:, 1:].flatten(0, 1)).backward()
    found = {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}
    assert found
    return found


@pytest.mark.parametrize("build", [compact_stm, resnet50_stm])
def test_gradients_of_a_step_are_those_of_the_plain_read(build: type) -> None:
    torch.manual_seed(0)
    model = build().eval()
    batch = batch_of((2, 1), frames=4)
    fused, plain = (gradients(model, batch, read) for read in (memory_read, plain_read))
    assert fused.keys() == plain.keys()
    # A bias of all memory keys changes no softmax: its gradient is zero up to rounding.
    head = "query_head" if model.shares_keys else "memory_head"
    rounding = 1e-6 * plain[f"{head}.key.weight"].norm()
    for name, gradient in fused.items():
        difference = (gradient - plain[name]).norm()
        assert difference <= 1e-4 * plain[name].norm() + rounding, name


def test_memory_is_read_where_it_was_written() -> None:
    """The memory of read t is a view of that of the last read."""
    seen: list[tuple[Tensor, Tensor]] = []

    def watched(query_key: Tensor, memory_key: Tensor, memory_value: Tensor) -> Tensor:
        seen.append((memory_key, memory_value))
        return memory_read(query_key, memory_key, memory_value)

    with torch.no_grad():
        logits = run(Rollout(compact_stm().eval(), watched), batch_of((1, 3), frames=5))
    assert logits.shape == (2, 4, 4, 48, 48)
    assert logits.dtype == torch.float32
    assert [key.shape[2] for key, _ in seen] == [value.shape[2] for _, value in seen] == [1, 2, 3, 4]
    for tensors in zip(*seen, strict=True):
        assert len({tensor.data_ptr() for tensor in tensors}) == 1


def test_void_of_the_first_mask_is_background() -> None:
    model = compact_stm().eval()
    batch = batch_of((2,))
    void = batch.masks.clone()
    void[:, 0, -6:] = VOID
    with torch.no_grad():
        expected = run(Rollout(model), batch)
        assert torch.equal(run(Rollout(model), Batch(batch.frames, void, batch.clip, batch.slot)), expected)


def test_autocast_keeps_the_memory_in_16_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    model = compact_stm().eval()
    batch = batch_of((1,))
    memories: list[ClipMemory] = []
    init = ClipMemory.__init__

    def watched(self: ClipMemory, frames: int) -> None:
        init(self, frames)
        memories.append(self)

    monkeypatch.setattr(ClipMemory, "__init__", watched)
    with torch.autocast("cpu", torch.bfloat16):
        logits = run(Rollout(model), batch)
    assert logits.dtype == torch.float32
    assert {part.dtype for part in (memories[0].keys, memories[0].values)} == {torch.bfloat16}
    logits.square().mean().backward()
    assert all(torch.isfinite(weight.grad).all() for weight in model.parameters() if weight.grad is not None)
