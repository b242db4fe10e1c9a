"""Which weights are trained, and at which learning rate."""

from typing import Any

import torch
from torch import nn

from stm_fast.models.depthwise import DepthwiseConv2d
from stm_fast.models.efficientnet_lite import EARLY_BLOCKS, EfficientNetLite0
from stm_fast.training.curriculum import Recipe

_PRETRAINED = (".trunk.", ".stages.", ".stem.")
"""Parts of the names of weights that come from a classifier."""


def freeze(model: nn.Module) -> None:
    """Freeze weights that are better left as pretrained, and weights that are slow to train on a CPU.

    Batch norm is frozen, as in the paper, by staying in evaluation mode. Depthwise kernels, which are few and have a
    slow backward pass, and the layers of a compact trunk up to stride 4 are frozen too.
    """
    model.eval()
    for module in model.modules():
        if isinstance(module, DepthwiseConv2d):
            module.weight.requires_grad_(False)
        if isinstance(module, nn.BatchNorm2d):
            module.requires_grad_(False)
        if isinstance(module, EfficientNetLite0):
            module.stem.requires_grad_(False)
            module.blocks[:EARLY_BLOCKS].requires_grad_(False)


def parameter_groups(model: nn.Module, recipe: Recipe) -> list[dict[str, Any]]:
    """Return optimiser groups of pretrained and of new weights; the schedule scales their learning rate "peak"."""
    groups: dict[float, list[nn.Parameter]] = {recipe.trunk_learning_rate: [], recipe.learning_rate: []}
    for name, weight in model.named_parameters():
        if weight.requires_grad:
            pretrained = any(part in name for part in _PRETRAINED)
            groups[recipe.trunk_learning_rate if pretrained else recipe.learning_rate].append(weight)
    return [{"params": weights, "lr": peak, "peak": peak} for peak, weights in groups.items()]


def make_optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """Make an AdamW over the weights that require gradients."""
    return torch.optim.AdamW(parameter_groups(model, recipe), weight_decay=recipe.weight_decay, fused=True)


def schedule(step: int, recipe: Recipe) -> float:
    """Return the learning rate of a 0-based step relative to its peak: in each round a rise, a plateau and a fall."""
    part, step = recipe.round(step)
    rise = (step + 1) / max(1, recipe.warmup)
    fall = (part.steps - step) / (part.decay + 1)
    return part.rate * min(1.0, rise, fall)
