"""Parts that are erased from remembered masks: which, when, and what the rollout makes of them."""

import torch
from torch import Tensor

from stm_fast.models.compact import compact_stm
from stm_fast.training.erasing import MAX_SHARE, MIN_SHARE, Erasing
from stm_fast.training.network import Rollout
from tests.training.test_network import batch_of

FRAMES, SIDE = 8, 64


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def kept_in_all_frames(share: float, seed: int, objects: int = 40) -> Tensor:
    """Maps `(T, N, S, S)` of what is kept of masks that fill the middle of random frames."""
    frames = torch.rand(FRAMES, 3, SIDE, SIDE, generator=generator(seed))
    soft = torch.zeros(objects, 1, SIDE, SIDE)
    soft[..., 16:48, 16:48] = 0.9
    erasing = Erasing(share, objects, FRAMES, generator(seed))
    clips = frames[:, None].expand(-1, objects, -1, -1, -1)
    return torch.stack([erasing.kept(time, frame, soft) for time, frame in enumerate(clips)])


def test_the_share_of_objects_that_lose_a_part_is_that_asked_for() -> None:
    for share in (0.0, 0.4, 1.0):
        lost = (kept_in_all_frames(share, 1, 200) == 0).flatten(2).any(2).any(0)
        assert abs(lost.float().mean() - share) < 0.1


def test_a_part_is_within_the_bounds_and_lost_from_frames_that_are_predicted_and_remembered() -> None:
    kept = kept_in_all_frames(1.0, 2)[:, :, 0]
    lost = 1 - kept[:, :, 16:48, 16:48].mean((2, 3))
    assert (lost[0] == 0).all()
    times = lost > 0
    assert times[1 : FRAMES - 1].any(0).all()
    assert (lost[times] > MIN_SHARE - 0.01).all()
    assert (lost[times] < MAX_SHARE + 0.01).all()
    # Either a single frame, or all frames from the first one on.
    counts, first = times.sum(0), times.int().argmax(0)
    assert ((counts == 1) | (counts == FRAMES - first)).all()
    assert (counts == 1).any()
    assert (counts > 1).any()


def test_the_same_seed_erases_the_same() -> None:
    assert torch.equal(kept_in_all_frames(0.5, 3), kept_in_all_frames(0.5, 3))
    assert not torch.equal(kept_in_all_frames(0.5, 3), kept_in_all_frames(0.5, 4))


def test_small_and_absent_objects_keep_all() -> None:
    soft = torch.zeros(2, 1, SIDE, SIDE)
    soft[1, 0, :2, :2] = 1
    erasing = Erasing(1.0, 2, FRAMES, generator(5))
    for time in range(FRAMES):
        assert erasing.kept(time, torch.rand(2, 3, SIDE, SIDE), soft).all()


def test_a_rollout_erases_only_with_a_seed_and_from_the_second_frame_on() -> None:
    torch.manual_seed(0)
    model, batch = compact_stm().eval(), batch_of((2, 1), frames=5, size=64)
    clips = batch.frames, batch.masks, batch.clip, batch.slot
    rollout = Rollout(model, erased=1.0)
    with torch.no_grad():
        plain, unseeded = Rollout(model)(*clips, 1), rollout(*clips)
        erased, again, other = rollout(*clips, 1), rollout(*clips, 1), rollout(*clips, 2)
    assert torch.equal(unseeded, plain)
    assert torch.equal(erased, again)
    assert torch.equal(erased[:, 0], plain[:, 0])
    assert not torch.allclose(erased[:, 1:], plain[:, 1:])
    assert not torch.allclose(other, erased)


def test_a_part_of_a_frame_of_one_colour_is_a_patch() -> None:
    soft = torch.ones(20, 1, SIDE, SIDE)
    erasing = Erasing(1.0, 20, 3, generator(6))
    kept = erasing.kept(1, torch.full((20, 3, SIDE, SIDE), 0.5), soft).mean((1, 2, 3))
    assert (kept > 1 - MAX_SHARE - 0.02).all()
    assert (kept < 1 - MIN_SHARE + 0.02).all()
