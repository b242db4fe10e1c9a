"""Batch norm with fixed statistics is a linear map, which the convolution before it can compute as well."""

import torch
from torch import Tensor, nn


@torch.no_grad()
def fold_batch_norm(norm: nn.BatchNorm2d, *convolutions: nn.Conv2d) -> None:
    """Make the sum of some convolutions return what `norm` in evaluation mode would make of it.

    Args:
        norm: batch norm with running statistics.
        convolutions: changed in place; the first one carries the bias of all.
    """
    assert norm.running_mean is not None
    assert norm.running_var is not None
    weight, bias = (norm.weight, norm.bias) if norm.affine else (None, None)
    scale, shift = scale_and_shift(norm.running_mean, norm.running_var, weight, bias, norm.eps)
    for convolution in convolutions:
        if convolution.bias is not None:
            shift = shift + convolution.bias.float() * scale
            convolution.bias = None
        convolution.weight.copy_(scaled(convolution.weight, scale))
    first = convolutions[0]
    first.bias = nn.Parameter(shift.to(first.weight.dtype), requires_grad=False)


def scale_and_shift(
    mean: Tensor, variance: Tensor, weight: Tensor | None, bias: Tensor | None, epsilon: float
) -> tuple[Tensor, Tensor]:
    """Return what batch norm multiplies each channel by and then adds to it, `(C,)` in float32."""
    scale = torch.rsqrt(variance.float() + epsilon)
    shift = -mean.float() * scale
    if weight is None or bias is None:
        return scale, shift
    return scale * weight.float(), shift * weight.float() + bias.float()


def scaled(weight: Tensor, scale: Tensor) -> Tensor:
    """Return the weight of a convolution whose output channels are multiplied by `scale`, in float32."""
    return weight.float() * scale.view(-1, 1, 1, 1)
