"""Soft aggregation of independent object probabilities (STM paper, section 3.4)."""

import torch
from torch import Tensor

PROBABILITY_FLOOR = 1e-7


def other_masks(masks: Tensor, dim: int = 0) -> Tensor:
    """Return the sum of all other objects' masks for each object along `dim`, clamped to [0, 1], shaped as `masks`."""
    return (masks.sum(dim, keepdim=True) - masks).clamp(0, 1)


def aggregate(probabilities: Tensor, dim: int = 0) -> Tensor:
    """Return logits of background and objects from the probability of each object alone.

    The probability of the background is the product of 1 - p over the objects. All probabilities are clamped and turned
    into logits, of which a softmax along `dim` makes probabilities that sum to one.

    Args:
        probabilities: O object probabilities along `dim`, in [0, 1], float32.

    Returns:
        O + 1 logits along `dim`, background first.
    """
    background = torch.prod(1 - probabilities, dim=dim, keepdim=True)
    clamped = torch.cat([background, probabilities], dim).clamp(PROBABILITY_FLOOR, 1 - PROBABILITY_FLOOR)
    return torch.log(clamped / (1 - clamped))
