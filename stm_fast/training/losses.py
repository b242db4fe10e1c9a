"""The loss of training, and the overlap that validation measures."""

import torch
from torch import Tensor
from torch.nn import functional as F

from stm_fast.training.batch import VOID, Batch
from stm_fast.training.recipe import Loss


def clip_losses(logits: Tensor, batch: Batch, loss: Loss, step: int) -> Tensor:
    """Return the loss of each clip `(B,)`: the mean over its frames, and over its objects where they count singly.

    Void pixels take no part.

    Args:
        logits: `(B, T-1, 1+K, S, S)` of frames 1..T-1.
        batch: holds the true masks.
        loss: what is minimised.
        step: step of the round, from 0.
    """
    losses = cross_entropy(logits, batch.masks[:, 1:], hardest_share(loss, step)).mean(1)
    if loss.soft_iou:
        losses = losses + loss.soft_iou * _by_clip(soft_iou_losses(logits, batch).mean(1), batch)
    return losses


def hardest_share(loss: Loss, step: int) -> float:
    """Return the share of pixels whose cross-entropy counts in a step of the round."""
    if step < loss.warm_start:
        return 1.0
    left = (loss.warm_end - step) / (loss.warm_end - loss.warm_start) if step < loss.warm_end else 0.0
    return loss.hardest + (1 - loss.hardest) * left


def cross_entropy(logits: Tensor, target: Tensor, share: float = 1.0) -> Tensor:
    """Return the mean cross-entropy over the hardest pixels of each frame `(B, T)`, and 0 where all of it is void.

    Args:
        logits: `(B, T, C, H, W)`.
        target: ids `(B, T, H, W)` with `VOID`.
        share: share of the pixels that count, in (0, 1].
    """
    flat = target.flatten(0, 1)
    losses = F.cross_entropy(logits.flatten(0, 1), flat, ignore_index=VOID, reduction="none").flatten(1)
    counts = (flat != VOID).flatten(1).sum(1).clamp(min=1)
    if share < 1:
        counts = (share * counts).long().clamp(min=1)
        # Void pixels have loss 0 and come last.
        hardest = losses.topk(int(counts.max())).values
        losses = hardest * (torch.arange(hardest.shape[1], device=hardest.device) < counts[:, None])
    return (losses.sum(1) / counts).view(target.shape[:2])


def soft_iou_losses(logits: Tensor, batch: Batch) -> Tensor:
    """Return 1 − soft intersection over union of each object in each frame `(N, T-1)`, its area enlarged by a pixel."""
    predicted = torch.softmax(logits, 2)[batch.clip, :, batch.slot + 1]
    masks = batch.masks[batch.clip, 1:]
    truth = (masks == (batch.slot + 1)[:, None, None, None]).to(predicted.dtype)
    predicted = predicted * (masks != VOID)
    intersection = (predicted * truth).sum((-2, -1))
    union = (predicted + truth - predicted * truth).sum((-2, -1))
    return 1 - (intersection + 1) / (union + 1)


def _by_clip(values: Tensor, batch: Batch) -> Tensor:
    """Average values of objects `(N,)` over those of each clip `(B,)`."""
    clips = torch.arange(len(batch.masks), device=values.device)
    own = (batch.clip == clips[:, None]).to(values.dtype)
    return own @ values / own.sum(1)


def hard_iou(logits: Tensor, batch: Batch) -> Tensor:
    """Return each object's mean IoU over frames `(N,)`; a frame where it is neither true nor predicted counts as 1."""
    labels = logits.argmax(2)[batch.clip]
    ids = (batch.slot + 1)[:, None, None, None]
    masks = batch.masks[batch.clip, 1:]
    predicted, truth = (labels == ids) & (masks != VOID), masks == ids
    intersection = (predicted & truth).sum((-2, -1))
    union = (predicted | truth).sum((-2, -1))
    return torch.where(union > 0, intersection / union.clamp(min=1), 1.0).mean(1)
