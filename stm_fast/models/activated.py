"""A convolution and its activation in one pass over memory, for inference on CPUs.

PyTorch has an operator that fuses them, for its own compiler; eager mode does not use it. In bfloat16, where the
convolution itself is quick, a separate pass for the activation takes as long again.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def convolve_relu(convolution: nn.Conv2d, x: Tensor) -> Tensor:
    """`relu(convolution(x))`."""
    if _fusible(convolution, x):
        return _fused(convolution, x, "relu", [])
    return F.relu_(convolution(x))


def convolve_relu6(convolution: nn.Conv2d, x: Tensor) -> Tensor:
    """`relu6(convolution(x))`."""
    if _fusible(convolution, x):
        return _fused(convolution, x, "hardtanh", [0.0, 6.0])
    return F.relu6(convolution(x), inplace=True)


def _fusible(convolution: nn.Conv2d, x: Tensor) -> bool:
    if torch.is_grad_enabled() or torch.compiler.is_compiling() or x.device.type != "cpu":
        return False
    if torch.is_autocast_enabled("cpu") or convolution.weight.dtype != x.dtype:
        return False
    available: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return available and _runs_natively(x.dtype)


def _runs_natively(dtype: torch.dtype) -> bool:
    if dtype == torch.bfloat16:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return dtype == torch.float32


def _fused(convolution: nn.Conv2d, x: Tensor, activation: str, bounds: list[float]) -> Tensor:
    geometry = convolution.padding, convolution.stride, convolution.dilation, convolution.groups
    fused: Tensor = torch.ops.mkldnn._convolution_pointwise(
        x, convolution.weight, convolution.bias, *geometry, activation, bounds, ""
    )
    return fused
