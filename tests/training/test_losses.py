"""The loss at known values; void; and what bootstrapping leaves."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from stm_fast.training.batch import VOID, Batch, collate
from stm_fast.training.losses import clip_losses, cross_entropy, hard_iou, hardest_share, soft_iou_losses
from stm_fast.training.recipe import Loss

PLAIN = Loss()


def batch_of(counts: tuple[int, ...], size: int = 16) -> Batch:
    """Clips of three frames with so many stripes each."""
    examples = []
    for count in counts:
        masks = np.zeros((3, size, size), np.uint8)
        for number in range(1, count + 1):
            masks[:, :, 4 * number : 4 * number + 3] = number
        examples.append((np.zeros((3, size, size, 3), np.uint8), masks))
    return collate(examples)


def one_hot(batch: Batch) -> torch.Tensor:
    """The true masks as probabilities `(B, T-1, 1+K, S, S)`, background where they are void."""
    target = torch.where(batch.masks == VOID, 0, batch.masks)[:, 1:]
    return F.one_hot(target, int(batch.slot.max()) + 2).permute(0, 1, 4, 2, 3).float()


@pytest.mark.parametrize("loss", [PLAIN, Loss(hardest=0.2, soft_iou=1.0)])
def test_right_masks_have_no_loss_and_wrong_ones_a_large_one(loss: Loss) -> None:
    batch = batch_of((2, 1))
    right = one_hot(batch)
    assert clip_losses(40 * right - 20, batch, loss, 0).shape == (2,)
    assert clip_losses(40 * right - 20, batch, loss, 0).max() < 1e-3
    assert clip_losses(20 - 40 * right, batch, loss, 0).min() > 5
    assert torch.equal(hard_iou(right, batch), torch.ones(3))


def test_plain_cross_entropy_is_torchs() -> None:
    torch.manual_seed(0)
    batch = batch_of((2,))
    logits = torch.randn(1, 2, 3, 16, 16)
    expected = F.cross_entropy(logits[0], batch.masks[0, 1:])
    torch.testing.assert_close(clip_losses(logits, batch, PLAIN, 0)[0], expected)


def test_void_takes_no_part() -> None:
    torch.manual_seed(0)
    batch = batch_of((1,))
    batch.masks[:, 1:, :5] = VOID
    logits = torch.randn(1, 2, 2, 16, 16)
    changed = logits.clone()
    changed[..., :5, :] = 100 * torch.randn(1, 2, 2, 5, 16)
    for loss in (PLAIN, Loss(hardest=0.3, soft_iou=1.0)):
        torch.testing.assert_close(clip_losses(logits, batch, loss, 0), clip_losses(changed, batch, loss, 0))
    assert torch.equal(hard_iou(logits, batch), hard_iou(changed, batch))
    expected = F.cross_entropy(logits[0, :, :, 5:], batch.masks[0, 1:, 5:])
    torch.testing.assert_close(clip_losses(logits, batch, PLAIN, 0)[0], expected)


def test_a_frame_that_is_all_void_has_loss_zero() -> None:
    target = torch.full((1, 2, 4, 4), VOID)
    target[:, 1] = 0
    losses = cross_entropy(torch.zeros(1, 2, 2, 4, 4), target, share=0.5)
    torch.testing.assert_close(losses, torch.tensor([[0.0, np.log(2)]], dtype=torch.float32))


def test_the_hardest_pixels_count() -> None:
    target = torch.zeros(1, 1, 1, 10, dtype=torch.int64)
    target[..., 8:] = VOID
    logits = torch.zeros(1, 1, 2, 1, 10)
    logits[0, 0, 1, 0] = torch.arange(10.0)
    each = F.cross_entropy(logits[0], target[0].clamp(max=0), reduction="none").flatten()
    torch.testing.assert_close(cross_entropy(logits, target, share=0.25)[0, 0], each[6:8].mean())


def test_the_share_of_pixels_falls_as_in_stcn() -> None:
    loss = Loss(hardest=0.15, warm_start=20000, warm_end=70000)
    shares = [hardest_share(loss, step) for step in (0, 19999, 45000, 70000, 10**6)]
    assert shares == pytest.approx([1, 1, 0.575, 0.15, 0.15])
    assert hardest_share(Loss(hardest=0.2), 0) == 0.2
    assert hardest_share(PLAIN, 7) == 1


def test_each_clip_has_the_same_weight_however_many_objects_it_has() -> None:
    torch.manual_seed(0)
    loss = Loss(soft_iou=1.0)
    batch, alone = batch_of((1, 3)), batch_of((1,))
    logits = torch.randn(2, 2, 4, 16, 16)
    logits[0, :, 2:] = -30.0
    together = clip_losses(logits, batch, loss, 0)
    torch.testing.assert_close(together[:1], clip_losses(logits[:1, :, :2], alone, loss, 0))
    objects = soft_iou_losses(logits, batch)
    assert objects.shape == (4, 2)
    torch.testing.assert_close(together[1], cross_entropy(logits, batch.masks[:, 1:])[1].mean() + objects[1:].mean())


def test_soft_iou_at_known_values() -> None:
    batch = batch_of((1,))
    right = one_hot(batch)
    assert soft_iou_losses(40 * right - 20, batch).max() < 1e-3
    assert soft_iou_losses(20 - 40 * right, batch).min() > 0.97
