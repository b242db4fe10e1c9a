"""States of memories that earlier versions saved: they are restored and saved again to the same bits, and continued."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from stm_fast import MemoryPolicy
from stm_fast.memory import DiskStore, MemoryBank, presets

GOLDEN = Path(__file__).parents[1] / "golden" / "memory_states.npz"
"""Of frames 0 to 34 of a video, with the frames in memory after each of the next ten."""
KEY, VALUE, HEIGHT, WIDTH = 8, 6, 3, 4
OBJECTS, LAST = 3, 34


def frame_of(objects: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    keys = torch.randn(objects, KEY, HEIGHT, WIDTH, generator=generator)
    return keys, torch.randn(objects, VALUE, HEIGHT, WIDTH, generator=generator)


def step(bank: MemoryBank, index: int) -> None:
    """Memorise a frame of the video and read the memory."""
    generator = torch.Generator().manual_seed(1000 + index)
    presence = torch.rand(OBJECTS, HEIGHT, WIDTH, generator=generator)
    uncertainty = 2 * torch.rand(OBJECTS, generator=generator)
    bank.memorise(index, *frame_of(OBJECTS, index % 13), presence=presence, uncertainty=uncertainty)
    bank.read(frame_of(1, 100 + index % 7)[0])


@pytest.mark.parametrize(
    ("name", "policy", "value_dtype"),
    [
        ("long-term", presets.long_term(6, 1), None),
        ("diverse", presets.diverse(10, 1), torch.int8),
        ("official", presets.official(2), None),
    ],
)
def test_a_state_of_an_earlier_version_is_restored(
    name: str, policy: MemoryPolicy, value_dtype: torch.dtype | None, tmp_path: Path
) -> None:
    store = DiskStore(tmp_path) if name == "official" else None
    bank = MemoryBank(policy, value_dtype=value_dtype, store=store, split_bytes=4 * 17 * HEIGHT * WIDTH * 3)
    with np.load(GOLDEN) as file:
        tensors = {key.removeprefix(f"{name}/"): file[key] for key in file if key.startswith(f"{name}/")}
    golden = json.loads(str(tensors.pop("rest")))
    bank.restore({key: torch.from_numpy(part) for key, part in tensors.items()}, golden["rest"])
    saved, rest = bank.state()
    assert saved.keys() == tensors.keys()
    if store is None:  # Otherwise it was saved with rows of an object that had been removed.
        assert json.loads(json.dumps(rest)) == golden["rest"]
        assert all(np.array_equal(part.numpy(), tensors[key]) for key, part in saved.items())
    for index, slots, frames in zip(range(LAST + 1, 45), golden["slots"], golden["frames"], strict=True):
        step(bank, index)
        assert list(bank.frames) == frames
        here = [sorted((slot.frame, slot.role.value) for slot in group.slots) for group in bank.groups]
        assert here == [[tuple(slot) for slot in group] for group in slots]
