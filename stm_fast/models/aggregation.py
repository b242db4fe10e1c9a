"""Soft aggregation of independent object probabilities (STM paper, section 3.4)."""

import torch
from torch import Tensor

PROBABILITY_FLOOR = 1e-7


def other_masks(masks: Tensor, dim: int = 0) -> Tensor:
    """For each object, the sum of all other objects' masks along `dim`, clamped to [0, 1]. Same shape as `masks`."""
    return (masks.sum(dim, keepdim=True) - masks).clamp(0, 1)


def aggregate(probabilities: Tensor, dim: int = 0) -> Tensor:
    """Logits over background and objects from each object's own probability.

    The background is the product of (1 - p) over the objects; every probability is clamped and turned into a logit. A
    softmax of the result along `dim` makes the probabilities sum to one.

    Args:
        probabilities: O object probabilities along `dim`, in [0, 1], float32.

    Returns:
        O + 1 logits along `dim`, background first.
    """
    background = torch.prod(1 - probabilities, dim=dim, keepdim=True)
    clamped = torch.cat([background, probabilities], dim).clamp(PROBABILITY_FLOOR, 1 - PROBABILITY_FLOOR)
    return torch.log(clamped / (1 - clamped))
