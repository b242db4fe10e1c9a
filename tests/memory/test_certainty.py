"""Frames that the network is not sure of do not stay."""

import math

import pytest
import torch
from torch import Tensor

from stm_fast import MemoryPolicy
from stm_fast.memory import presets
from stm_fast.memory.arena import Role
from stm_fast.memory.bank import MemoryBank
from stm_fast.memory.certainty import Certain, doubt

KEY, VALUE, HEIGHT, WIDTH = 8, 6, 3, 4
TOKENS = HEIGHT * WIDTH


def memorise(bank: MemoryBank, index: int, probabilities: list[float], **how: bool) -> None:
    """A frame in which each object is everywhere with some probability."""
    generator = torch.Generator().manual_seed(index)
    probability = torch.tensor(probabilities)[:, None, None].expand(-1, HEIGHT, WIDTH)
    keys, values = (torch.randn(len(probabilities), C, HEIGHT, WIDTH, generator=generator) for C in (KEY, VALUE))
    bank.memorise(index, keys, values, presence=probability, doubt=probability * (1 - probability), **how)


def kept(bank: MemoryBank, row: int = 0) -> list[int]:
    """Frames that stay of an object."""
    return [slot.frame for slot in bank.arenas[row].slots if slot.role in (Role.permanent, Role.working)]


def followed(policy: MemoryPolicy, probabilities: list[list[float]]) -> MemoryBank:
    """A bank that saw a frame whose masks were given, then one for each of the probabilities, then another."""
    bank = MemoryBank(policy)
    memorise(bank, 0, [1.0] * len(probabilities[0]), annotated=True)
    for index, each in enumerate(probabilities, start=1):
        memorise(bank, index, each)
    memorise(bank, len(probabilities) + 1, probabilities[-1])
    return bank


def test_doubt_is_the_share_of_a_mask_that_is_not_sure() -> None:
    bank = followed(MemoryPolicy(every=1), [[0.9, 0.5, 1 / 16, 1 / TOKENS + 1e-6, 0.0]])

    def of(slot: int) -> Tensor:
        return doubt(bank.arenas[0].tokens_of(slot))

    assert of(0).tolist() == [0.0] * 5
    expected = [0.1, 0.5, math.nan, 1 - 1 / TOKENS, math.nan]
    assert of(1).tolist() == pytest.approx(expected, rel=1e-5, nan_ok=True)


def test_doubtful_frames_do_not_stay() -> None:
    """They are in memory as the previous frame; more than twice the usual doubt is too much."""
    bank = followed(MemoryPolicy(every=1, admission=Certain()), [[0.98], [0.97], [0.955], [0.9], [0.96], [0.6]])
    assert kept(bank) == [0, 1, 2, 3, 5]
    assert bank.frames == (0, 1, 2, 3, 5, 7)


def test_what_counts_as_doubt_is_set_by_the_network_not_by_masks_that_were_given() -> None:
    policy = MemoryPolicy(every=1, keep_first=False, admission=Certain())
    assert kept(followed(policy, [[0.9], [0.89], [0.7]])) == [0, 1, 2]


def test_a_frame_without_the_object_is_not_doubtful() -> None:
    """Nor is the background of an object that covers less than one location."""
    bank = followed(MemoryPolicy(every=1, admission=Certain()), [[0.99], [0.0], [0.5 / TOKENS], [0.6]])
    assert kept(bank) == [0, 1, 2, 3]


def test_an_object_in_doubt_does_not_decide_what_others_remember() -> None:
    bank = followed(MemoryPolicy(every=1, admission=Certain()), [[0.98, 0.98], [0.98, 0.6], [0.6, 0.98]])
    assert (kept(bank, 0), kept(bank, 1)) == ([0, 1, 2], [0, 1, 3])
    assert [row.objects for row in bank.table(["cat", "dog"]).rows if row.frame == 2] == [("cat",)]
    with_numbers_alone = followed(MemoryPolicy(every=1), [[0.98, 0.98], [0.98, 0.6]])
    assert len(with_numbers_alone.arenas) == 1


def test_without_doubt_all_frames_stay() -> None:
    bank = MemoryBank(MemoryPolicy(every=1, admission=Certain()))
    for index in range(5):
        generator = torch.Generator().manual_seed(index)
        bank.memorise(index, *(torch.randn(1, C, HEIGHT, WIDTH, generator=generator) for C in (KEY, VALUE)))
    assert bank.frames == (0, 1, 2, 3, 4)


@pytest.mark.parametrize("preset", [presets.long_term, presets.diverse])
def test_named_policies_that_remember_for_long_are_certain(preset) -> None:
    bank = followed(preset(10, every=1), [[0.98], [0.6], [0.98]])
    assert kept(bank) == [0, 1, 3]


def test_bad_calls() -> None:
    with pytest.raises(ValueError, match=r"most must be at least 1, got 0\.5"):
        Certain(0.5)
    keys, values = torch.randn(2, KEY, HEIGHT, WIDTH), torch.randn(2, VALUE, HEIGHT, WIDTH)
    for name in ("presence", "doubt"):
        with pytest.raises(ValueError, match=rf"{name} must be \(2, 3, 4\) beside these keys, got \(1, 3, 4\)"):
            MemoryBank().memorise(0, keys, values, **{name: torch.ones(1, HEIGHT, WIDTH)})
