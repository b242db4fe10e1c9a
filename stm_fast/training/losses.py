"""The loss of training, and the score of validation."""

import torch
from torch import Tensor
from torch.nn import functional as F

from stm_fast.training.batches import Batch

HARDEST = 0.2
"""Share of a frame's pixels whose cross-entropy counts: those of highest loss. The others are mostly learned early."""


def segmentation_loss(logits: Tensor, batch: Batch) -> Tensor:
    """Return cross-entropy of every frame's hardest pixels plus soft IoU of every object, averaged over frames.

    Args:
        logits: `(B, T-1, 1+K, S, S)` of frames 1..T-1.
        batch: holds the true masks.
    """
    target = batch.masks[:, 1:]
    entropy = F.cross_entropy(logits.flatten(0, 1), target.flatten(0, 1), reduction="none").flatten(1)
    hardest = entropy.topk(max(1, int(HARDEST * entropy.shape[1])), sorted=False).values
    predicted = torch.softmax(logits, 2)[batch.clip, :, batch.slot + 1]
    truth = torch.stack([batch.object_masks(time) for time in range(1, batch.masks.shape[1])], 1)
    return hardest.mean() + soft_iou_loss(predicted, truth).mean()


def soft_iou_loss(predicted: Tensor, truth: Tensor) -> Tensor:
    """Return 1 − soft intersection over union of `(..., H, W)` masks in [0, 1]; areas are enlarged by one pixel."""
    intersection = (predicted * truth).sum((-2, -1))
    union = (predicted + truth - predicted * truth).sum((-2, -1))
    return 1 - (intersection + 1) / (union + 1)


def hard_iou(logits: Tensor, batch: Batch) -> Tensor:
    """Return each object's mean IoU over frames `(N,)`; a frame where it is neither true nor predicted counts as 1."""
    labels = logits.argmax(2)[batch.clip]
    ids = (batch.slot + 1)[:, None, None, None]
    predicted, truth = labels == ids, batch.masks[batch.clip, 1:] == ids
    intersection = (predicted & truth).sum((-2, -1))
    union = (predicted | truth).sum((-2, -1))
    return torch.where(union > 0, intersection / union.clamp(min=1), 1.0).mean(1)
