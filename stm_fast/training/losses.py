"""What training minimises."""

import torch
from torch import Tensor
from torch.nn import functional as F

from stm_fast.training.batches import Batch

EDGE_REACH = 4
"""How far from a pixel, in pixels, other objects make it an edge."""
EDGE_WEIGHT = 3.0
"""How much more than others a pixel counts that is alone among pixels of other objects."""


def segmentation_loss(logits: Tensor, batch: Batch) -> Tensor:
    """Cross-entropy over background and objects plus soft IoU of every object, averaged over frames.

    In the cross-entropy edges count more than interiors, and thin parts, which are nothing but edges, most.

    Args:
        logits: `(B, T-1, 1+K, S, S)` of frames 1..T-1.
        batch: holds the true masks.
    """
    target = batch.masks[:, 1:]
    weight = edge_weight(target.flatten(0, 1), logits.shape[2])
    entropy = (weight * F.cross_entropy(logits.flatten(0, 1), target.flatten(0, 1), reduction="none")).mean()
    predicted = torch.softmax(logits, 2)[batch.clip, :, batch.slot + 1]
    truth = torch.stack([batch.object_masks(time) for time in range(1, batch.masks.shape[1])], 1)
    return entropy + soft_iou_loss(predicted, truth).mean()


def edge_weight(masks: Tensor, labels: int) -> Tensor:
    """Weights of pixels `(..., S, S)`, 1 on average: 1 plus `EDGE_WEIGHT` times the share of others in a window around.

    Args:
        masks: ids below `labels`, `(N, S, S)` int64.
        labels: background and objects, 1+K.
    """
    share = (masks[:, None] == torch.arange(labels)[:, None, None]).float()
    for reach in ((EDGE_REACH, 0), (0, EDGE_REACH)):
        side = (2 * reach[0] + 1, 2 * reach[1] + 1)
        share = F.avg_pool2d(share, side, stride=1, padding=reach, count_include_pad=False)
    weight = 1 + EDGE_WEIGHT * (1 - share.gather(1, masks[:, None])[:, 0])
    return weight / weight.mean()


def soft_iou_loss(predicted: Tensor, truth: Tensor) -> Tensor:
    """1 − soft intersection over union of `(..., H, W)` masks in [0, 1]; zero areas count as one pixel."""
    intersection = (predicted * truth).sum((-2, -1))
    union = (predicted + truth - predicted * truth).sum((-2, -1))
    return 1 - (intersection + 1) / (union + 1)


def hard_iou(logits: Tensor, batch: Batch) -> Tensor:
    """Mean over frames of each object's IoU `(N,)`; a frame where it is neither there nor predicted counts as 1."""
    labels = logits.argmax(2)[batch.clip]
    ids = (batch.slot + 1)[:, None, None, None]
    predicted, truth = labels == ids, batch.masks[batch.clip, 1:] == ids
    intersection = (predicted & truth).sum((-2, -1))
    union = (predicted | truth).sum((-2, -1))
    return torch.where(union > 0, intersection / union.clamp(min=1), 1.0).mean(1)
