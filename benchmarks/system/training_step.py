"""What `benchmarks.system.training` measures: a training step of one clip with one object, by several reads.

The ways to read a memory:

- fused: `memory_read`, on the buffer that all frames of a clip share (`ClipMemory`);
- plain: the original's three lines, differentiated by autograd. As there, the memory is put together anew before every
  read, and autograd keeps each of these copies;
- plain, one buffer: the same lines on the buffer.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks import harness, process_memory
from benchmarks.harness import Seconds, Turns
from benchmarks.read import contenders
from stm_fast import load_model
from stm_fast.models.resnet50 import resnet50_stm
from stm_fast.models.stm import STM
from stm_fast.ops import memory_read
from stm_fast.training.clip_memory import ClipMemory
from stm_fast.training.network import Read, Rollout
from stm_fast.training.optimizer import freeze
from stm_fast.training.recipe_files import load_recipe

RECIPES = {"resnet50": "stm-paper-static", "compact": "compact"}
"""The recipe that says which weights of a model are trained."""
ALLOWED = {torch.float32: 1e-4, torch.bfloat16: 0.25}
"""Relative difference of a gradient that is not a mistake, by dtype of the activations."""
ROUNDING = 1e-8
"""Gradients that are this near, relative to the largest one, differ by rounding. The plain read in float32 is about as
far from itself in float64: the gradient of a bias of keys is a sum in which nearly everything cancels."""


class Setup(NamedTuple):
    """One line of the table.

    Attributes:
        model: "resnet50", with random weights, or "compact".
        frames: frames of the clip, T.
        size: side of a frame in pixels.
        device: "cpu" or "cuda".
        dtype: of the activations (autocast).
        rounds: number of timed steps of each way.
    """

    model: str
    frames: int
    size: int
    device: str
    dtype: torch.dtype
    rounds: int

    def build(self) -> STM:
        """Return the model, ready to be trained as its recipe says."""
        torch.manual_seed(0)
        model = resnet50_stm() if self.model == "resnet50" else load_model(self.model)
        freeze(model.requires_grad_(True), load_recipe(RECIPES[self.model]).freeze)
        return model.to(self.device, memory_format=torch.channels_last)

    def autocast(self) -> torch.autocast:
        """Return the region in which a step computes."""
        return torch.autocast(self.device, self.dtype, enabled=self.dtype != torch.float32)


def plain_on_buffer(query_key: Tensor, memory_key: Tensor, memory_value: Tensor) -> Tensor:
    """Read with the original's three lines."""
    value = memory_value.flatten(2).unsqueeze(1)
    readout = contenders.plain(query_key.flatten(2), memory_key.flatten(2), value)
    return readout.view(*memory_value.shape[:2], *query_key.shape[2:])


def plain(query_key: Tensor, memory_key: Tensor, memory_value: Tensor) -> Tensor:
    """Read with the original's three lines after stacking the frames."""
    return plain_on_buffer(query_key, *(torch.stack(memory.unbind(2), 2) for memory in (memory_key, memory_value)))


WAYS: dict[str, Read] = {"fused": memory_read, "plain": plain, "plain, one buffer": plain_on_buffer}


class Step:
    """A training step: rollout, cross-entropy, backward pass, Adam."""

    def __init__(self, setup: Setup, read: Read) -> None:
        self.setup = setup
        self.rollout = Rollout(setup.build(), read)
        self.optimizer = torch.optim.Adam(self.rollout.parameters(), 1e-5)
        self.frames, self.masks = clip(setup)
        self.object = torch.zeros(1, dtype=torch.int64, device=setup.device)

    def __call__(self) -> None:
        """Do one step, up to its end on the device."""
        self.gradients()
        self.optimizer.step()
        if self.setup.device == "cuda":
            torch.cuda.synchronize()

    def gradients(self) -> list[Tensor]:
        """Return the gradients of the weights."""
        with self.setup.autocast():
            logits = self.rollout(self.frames, self.masks, self.object, self.object)
        self.optimizer.zero_grad(set_to_none=True)
        F.cross_entropy(logits.flatten(0, 1), self.masks[:, 1:].flatten(0, 1)).backward()
        return [weight.grad for weight in self.rollout.parameters() if weight.grad is not None]


def clip(setup: Setup) -> tuple[Tensor, Tensor]:
    """Return frames `(1, T, 3, S, S)` of noise and masks `(1, T, S, S)` of a square that moves over it."""
    random = torch.Generator().manual_seed(0)
    frames = torch.rand(1, setup.frames, 3, setup.size, setup.size, generator=random)
    masks = torch.zeros(1, setup.frames, setup.size, setup.size, dtype=torch.int64)
    for time in range(setup.frames):
        left = setup.size // 4 + 2 * time
        masks[0, time, setup.size // 4 : setup.size // 2, left : left + setup.size // 3] = 1
    frames = torch.where(masks[:, :, None] == 1, 0.5 + frames / 2, frames)
    return frames.to(setup.device), masks.to(setup.device)


def step_seconds(setup: Setup) -> Seconds:
    """Return the seconds of each way's steps, taken in turns, after checking that their gradients agree.

    Raises:
        AssertionError: gradients differ.
    """
    steps = {name: Step(setup, read) for name, read in WAYS.items()}
    expected = steps["plain"].gradients()
    for name, step in steps.items():
        if not (error := difference(step.gradients(), expected)) <= ALLOWED[setup.dtype]:
            raise AssertionError(f"{setup}: gradients of {name} differ by {error:.1e}")
    return harness.in_turns(steps, Turns(rounds=1 + setup.rounds))


def difference(found: list[Tensor], expected: list[Tensor]) -> float:
    """Return the largest relative L2 distance of a gradient to the expected one that rounding does not explain.

    The gradients of single numbers, such as the length of keys, are not compared either: they are sums over all
    locations, in which nearly everything cancels.
    """
    rounding = ROUNDING * max(float(gradient.norm()) for gradient in expected)
    pairs = [(one, other) for one, other in zip(found, expected, strict=True) if other.numel() > 1]
    apart = [(one, other) for one, other in pairs if not float((one - other).norm()) <= rounding]
    return harness.relative_error(*zip(*apart, strict=True)) if apart else 0.0


def step_peak(setup: Setup, way: str) -> float:
    """Return the peak memory of this process, or of its GPU, in the second of two steps, in bytes."""
    step = Step(setup, WAYS[way])
    step()
    return peak(setup.device, step)


def own_memory(setup: Setup, way: str) -> float:
    """Return the memory in bytes that the reads of a step need themselves, without the rest of the network.

    It is measured where it is largest: the last and largest read goes forward and backward, while all that the earlier
    ones saved is alive. That is the sum of

    - what the earlier reads save for the backward pass, as storages; readouts count if they are saved;
    - the peak of memory while the last read goes forward and backward, over that before it. This includes its readout,
      its workspace and what it saves. The gradients that it returns are subtracted.

    The buffer of all frames, the query's keys and their gradients are the same for all ways and do not count. The last
    read is done once before, so that code, and the choice of an engine, are in memory already.
    """
    read = WAYS[way]
    key_channels, value_channels = _channels(setup)
    side = setup.size // STM.stride

    def random(channels: int) -> Tensor:
        return torch.randn(1, channels, side, side, device=setup.device).to(setup.dtype).requires_grad_()

    memory, saved = ClipMemory(setup.frames - 1), 0
    queries = [random(key_channels) for _ in range(setup.frames - 1)]
    with setup.autocast():
        for time, query in enumerate(queries):
            memory.append(random(key_channels), random(value_channels))
            if time < setup.frames - 2:
                saved += _saved(read, query, memory)
        inputs = (queries[-1], memory.keys, memory.values)
        grad_out = torch.randn(1, value_channels, side, side, device=setup.device).to(setup.dtype)

        def last() -> None:
            torch.autograd.grad(read(*inputs), inputs, grad_out)

        last()
        gradients = sum(tensor.nbytes for tensor in inputs)
        return saved + peak(setup.device, last, over_before=True) - gradients


def _saved(read: Read, query: Tensor, memory: ClipMemory) -> int:
    """Return the bytes that a read saves for the backward pass beyond its inputs."""
    inputs = {part.untyped_storage().data_ptr() for part in (query, memory.keys, memory.values)}
    found: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        found[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        readout = read(query, memory.keys, memory.values)
    del readout
    return sum(size for pointer, size in found.items() if pointer not in inputs)


def _channels(setup: Setup) -> tuple[int, int]:
    """Return the channels of the model's keys and values."""
    model = setup.build()
    frame = torch.zeros(1, 3, 32, 32, device=setup.device)
    with torch.no_grad():
        key, value = model.encode_memory(frame, frame[:, :1], frame[:, :1])
    return key.shape[1], value.shape[1]


def peak(device: str, run: Callable[[], object], over_before: bool = False) -> float:
    """Return the peak memory of a call in bytes: resident memory, or what torch allocates on a GPU."""
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        torch.cuda.synchronize()
        found = torch.cuda.max_memory_allocated()
    else:
        process_memory.trim()
        process_memory.reset_peak()
        before = process_memory.resident()
        run()
        found = process_memory.peak()
    return float(found - before if over_before else found)
