"""Which weights are trained, and how gradients change them."""

from typing import Any

import torch
from torch import nn

from stm_fast.models.depthwise import DepthwiseConv2d
from stm_fast.models.efficientnet_lite import EfficientNetLite
from stm_fast.training.recipe import Optimizer

_PRETRAINED = (".trunk.", ".stages.", ".stem.")
"""Parts of the names of weights that come from a classifier."""
_CLASSES: dict[str, type[torch.optim.Adam]] = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}


def freeze(model: nn.Module, parts: tuple[str, ...]) -> None:
    """Put a model into the state that it is trained in.

    It is in evaluation mode, in which the statistics of batch norm stay those of pretraining, as in the paper.

    Args:
        model: the network.
        parts: weights that keep their values, as in `Recipe.freeze`.
    """
    model.eval()
    for module in model.modules():
        if "batch-norm" in parts and isinstance(module, nn.BatchNorm2d):
            module.requires_grad_(False)
        if "depthwise" in parts and isinstance(module, DepthwiseConv2d):
            module.weight.requires_grad_(False)
        if "trunk" in parts and isinstance(module, EfficientNetLite):
            module.requires_grad_(False)
        if "early" in parts and isinstance(module, EfficientNetLite):
            module.freeze_early()


def make_optimizer(model: nn.Module, settings: Optimizer) -> torch.optim.Optimizer:
    """Make an optimizer over the weights that require gradients. A schedule scales each group's `peak`."""
    new: list[nn.Parameter] = []
    pretrained: list[nn.Parameter] = []
    for name, weight in model.named_parameters():
        if weight.requires_grad:
            (pretrained if any(part in name for part in _PRETRAINED) else new).append(weight)
    trunk = settings.learning_rate if settings.trunk_learning_rate is None else settings.trunk_learning_rate
    groups: list[dict[str, Any]] = [
        {"params": weights, "lr": peak, "peak": peak}
        for weights, peak in ((pretrained, trunk), (new, settings.learning_rate))
        if weights
    ]
    return _CLASSES[settings.name](groups, weight_decay=settings.weight_decay, fused=True)


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of each group to a fraction of its peak."""
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * rate
