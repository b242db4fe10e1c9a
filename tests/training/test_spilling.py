"""Surroundings that are added to remembered masks: which, when, and what the rollout makes of them."""

import torch
from torch import Tensor

from stm_fast.models.compact import compact_stm
from stm_fast.training.network import Rollout
from stm_fast.training.spilling import MAX_SHARE, MAX_WIDTH, Spilling
from tests.training.test_network import batch_of

FRAMES, SIDE = 8, 64


def spilling_of(share: float, seed: int, objects: int) -> Spilling:
    return Spilling(share, torch.arange(objects), FRAMES, torch.Generator().manual_seed(seed))


def square(objects: int, begin: int = 16) -> Tensor:
    soft = torch.zeros(objects, 1, SIDE, SIDE)
    soft[..., begin : begin + 32, begin : begin + 32] = 0.9
    return soft


def added_in_all_frames(share: float, seed: int, objects: int = 40) -> Tensor:
    """Maps `(T, N, S, S)` of what is added to masks that fill the middle of the frames."""
    spilling = spilling_of(share, seed, objects)
    return torch.stack([spilling.added(time, square(objects))[:, 0] for time in range(FRAMES)])


def test_the_share_of_objects_that_take_more_is_that_asked_for() -> None:
    for share in (0.0, 0.4, 1.0):
        took = added_in_all_frames(share, 1, 200).flatten(2).any(2).any(0)
        assert abs(took.float().mean() - share) < 0.1


def test_what_is_taken_is_near_the_object_and_of_the_size_asked_for() -> None:
    added = added_in_all_frames(1.0, 2)
    reach = round(MAX_WIDTH * SIDE)
    far = torch.ones(SIDE, SIDE, dtype=torch.bool)
    far[16 - reach : 48 + reach, 16 - reach : 48 + reach] = False
    assert not added[:, :, far].any()
    assert not added[:, :, 16:48, 16:48].any()
    assert added.sum((2, 3)).max() <= MAX_SHARE * ((32 + 2 * reach) ** 2 - 32**2) + 1
    counts = added.flatten(2).any(2).sum(0)
    first = added.flatten(2).any(2).int().argmax(0)
    assert (first >= 1).all()
    # Either a single frame, or all frames from the first one on.
    assert ((counts == 1) | (counts == FRAMES - first)).all()
    assert (counts == 1).any()
    assert (counts > 1).any()


def test_a_ghost_stays_while_the_object_moves_on() -> None:
    spilling = spilling_of(1.0, 3, 30)
    maps = torch.stack([spilling.added(time, square(30, 2 * time))[:, 0] for time in range(FRAMES)])
    for ghost in maps.unbind(1):
        seen = [each for each in ghost if each.any()]
        assert all(torch.equal(each, seen[0]) for each in seen)


def test_what_one_object_takes_another_of_its_clip_loses() -> None:
    clip = torch.tensor([0, 0, 1])
    spilling = Spilling(1.0, clip, 3, torch.Generator().manual_seed(0))
    soft = torch.zeros(3, 1, SIDE, SIDE)
    soft[0, ..., :32], soft[1:, ..., 32:] = 0.9, 0.9
    added = spilling.added(1, soft)
    spilt = spilling.spill(1, soft)
    assert added.flatten(1).any(1).all()
    only = added[0] & ~added[1]
    assert (spilt[0][only] == 1).all()
    assert (spilt[1][only] == 0).all()
    assert torch.equal(spilt[2][~added[2]], soft[2][~added[2]])


def test_the_same_seed_adds_the_same() -> None:
    assert torch.equal(added_in_all_frames(0.5, 4), added_in_all_frames(0.5, 4))
    assert not torch.equal(added_in_all_frames(0.5, 4), added_in_all_frames(0.5, 5))


def test_small_objects_and_those_that_fill_the_frame_take_nothing() -> None:
    soft = torch.zeros(2, 1, SIDE, SIDE)
    soft[0, 0, :2, :2], soft[1] = 1, 1
    spilling = spilling_of(1.0, 6, 2)
    assert not any(spilling.added(time, soft).any() for time in range(FRAMES))


def test_a_rollout_spills_only_with_a_seed_and_from_the_second_frame_on() -> None:
    torch.manual_seed(0)
    model, batch = compact_stm().eval(), batch_of((2, 1), frames=5, size=64)
    clips = batch.frames, batch.masks, batch.clip, batch.slot
    rollout = Rollout(model, spilled=1.0)
    with torch.no_grad():
        plain, unseeded = Rollout(model)(*clips, 1), rollout(*clips)
        spilt, again = rollout(*clips, 1), rollout(*clips, 1)
    assert torch.equal(unseeded, plain)
    assert torch.equal(spilt, again)
    assert torch.equal(spilt[:, 0], plain[:, 0])
    assert not torch.allclose(spilt[:, 1:], plain[:, 1:])
