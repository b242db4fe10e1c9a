"""Depthwise convolution whose gradient to the input is a depthwise convolution too.

On a CPU torch's own backward of strided and of bfloat16 convolutions is many times slower than its forward. Here the
gradient of the output is spread over the grid of the input and convolved with the flipped kernel, by the fast forward.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch.nn.grad import conv2d_weight


class _Depthwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, stride: int, dilation: int) -> Tensor:
        ctx.save_for_backward(x if weight.requires_grad else None, weight)
        ctx.geometry = x.shape, stride, dilation
        return _convolve(x, weight, bias, stride, dilation)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None, None]:
        x, weight = ctx.saved_tensors
        shape, stride, dilation = ctx.geometry
        grad_x = grad_weight = grad_bias = None
        if ctx.needs_input_grad[0]:
            grad_x = _convolve(_spread(grad, shape, stride), weight.flip(2, 3), None, 1, dilation)
        if ctx.needs_input_grad[1]:
            padding = dilation * (weight.shape[-1] // 2)
            grad_weight = conv2d_weight(  # type: ignore[no-untyped-call]
                x.float(), weight.shape, grad.float(), stride, padding, dilation, groups=len(weight)
            ).to(weight.dtype)
        if ctx.needs_input_grad[2]:
            grad_bias = grad.sum((0, 2, 3))
        return grad_x, grad_weight, grad_bias, None, None


def _convolve(x: Tensor, weight: Tensor, bias: Tensor | None, stride: int, dilation: int) -> Tensor:
    return F.conv2d(x, weight, bias, stride, dilation * (weight.shape[-1] // 2), dilation, groups=len(weight))


def _spread(grad: Tensor, shape: torch.Size, stride: int) -> Tensor:
    """Return the gradient at the locations that a strided convolution kept, and zero between them."""
    if stride == 1:
        return grad
    full = torch.empty(shape, dtype=grad.dtype, device=grad.device, memory_format=torch.channels_last).zero_()
    full[:, :, ::stride, ::stride] = grad
    return full


class DepthwiseConv2d(nn.Conv2d):
    """A depthwise convolution with an odd kernel and `kernel // 2` padding, like `nn.Conv2d(groups=channels)`."""

    def __init__(self, channels: int, kernel: int, stride: int = 1, dilation: int = 1) -> None:
        padding = dilation * (kernel // 2)
        super().__init__(channels, channels, kernel, stride, padding, dilation, groups=channels)

    def forward(self, x: Tensor) -> Tensor:
        """`(N, C, H, W)` -> `(N, C, H/stride, W/stride)`."""
        if not (torch.is_grad_enabled() and x.device.type == "cpu" and x.requires_grad):
            return super().forward(x)
        weight, bias = self.weight, self.bias
        assert bias is not None
        if torch.is_autocast_enabled("cpu"):
            dtype = torch.get_autocast_dtype("cpu")
            x, weight, bias = x.to(dtype), weight.to(dtype), bias.to(dtype)
        out: Tensor = _Depthwise.apply(x, weight, bias, self.stride[0], self.dilation[0])  # type: ignore[no-untyped-call]
        return out
