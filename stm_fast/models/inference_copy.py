"""A copy of a network for inference."""

import copy
from itertools import pairwise
from typing import cast

import torch
from torch import nn

from stm_fast.models.batch_norm import fold_batch_norm
from stm_fast.models.encoders import MaskedStem
from stm_fast.models.stm import STM


def inference_copy(model: STM) -> STM:
    """Return a copy that computes the same faster and can no longer be trained; the model stays as it is.

    Folds each batch norm that follows a convolution in an `nn.Sequential`, or the summed convolutions of a
    `MaskedStem`, into it in float32, and lays weights out channels-last.
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
