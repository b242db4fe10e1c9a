"""Batch norm with fixed statistics is a linear map; inference folds it into the convolution before it."""

import copy
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn

from stm_fast.models.encoders import MaskedStem
from stm_fast.models.stm import STM


def inference_copy(model: STM) -> STM:
    """A copy that computes the same faster and can no longer be trained.

    Every batch norm that follows a convolution in an `nn.Sequential`, or the summed convolutions of a `MaskedStem`, is
    folded into it in float32, and weights are laid out channels-last. The model given is left as it is.
    """
    model = copy.deepcopy(model).requires_grad_(False).eval()
    for module in model.modules():
        if isinstance(module, MaskedStem) and isinstance(module.norm, nn.BatchNorm2d):
            fold_batch_norm(module.norm, module.rgb, module.mask, module.others)
            module.norm = nn.Identity()
        elif isinstance(module, nn.Sequential):
            for (_, convolution), (name, norm) in pairwise(list(module.named_children())):
                if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                    fold_batch_norm(norm, convolution)
                    setattr(module, name, nn.Identity())
    return cast(STM, model.to(memory_format=torch.channels_last))  # type: ignore[call-overload]


@torch.no_grad()
def fold_batch_norm(norm: nn.BatchNorm2d, *convolutions: nn.Conv2d) -> None:
    """Makes the sum of some convolutions return what `norm` in evaluation mode would make of it.

    Args:
        norm: batch norm with running statistics.
        convolutions: changed in place; the first one carries the bias of all.
    """
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = torch.rsqrt(norm.running_var.float() + norm.eps)
    shift = -norm.running_mean.float() * scale
    if norm.affine:
        scale, shift = scale * norm.weight.float(), shift * norm.weight.float() + norm.bias.float()
    for convolution in convolutions:
        if convolution.bias is not None:
            shift = shift + convolution.bias.float() * scale
            convolution.bias = None
        convolution.weight.copy_(_scaled(convolution.weight, scale))
    first = convolutions[0]
    first.bias = nn.Parameter(shift.to(first.weight.dtype), requires_grad=False)


def _scaled(weight: Tensor, scale: Tensor) -> Tensor:
    return weight.float() * scale.view(-1, 1, 1, 1)
