"""A convolution and its activation in one pass over memory, for inference on CPUs.

PyTorch has an operator that fuses them, for its own compiler; eager mode does not use it. In bfloat16, where the
convolution itself is quick, a separate pass for the activation takes as long again. The operator is private: where a
version of PyTorch lacks it, or it does not compute what this module expects, the two steps are taken one by one.
"""

import logging
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stm_fast.errors import first_line

_RELU: tuple[str, list[float]] = ("relu", [])
_RELU6: tuple[str, list[float]] = ("hardtanh", [0.0, 6.0])
_logger = logging.getLogger(__name__)


def convolve_relu(convolution: nn.Conv2d, x: Tensor) -> Tensor:
    """Return `relu(convolution(x))`."""
    if _fusible(convolution, x):
        return _fused(convolution, x, *_RELU)
    return F.relu_(convolution(x))


def convolve_relu6(convolution: nn.Conv2d, x: Tensor) -> Tensor:
    """Return `relu6(convolution(x))`."""
    if _fusible(convolution, x):
        return _fused(convolution, x, *_RELU6)
    return F.relu6(convolution(x), inplace=True)


def _fusible(convolution: nn.Conv2d, x: Tensor) -> bool:
    if torch.is_grad_enabled() or torch.compiler.is_compiling() or x.device.type != "cpu":
        return False
    if torch.is_autocast_enabled("cpu") or convolution.weight.dtype != x.dtype:
        return False
    available: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return available and _fuses(x.dtype)


@cache
def _fuses(dtype: torch.dtype) -> bool:
    """Whether the operator is there and computes a small case as the two steps do; found out once."""
    if dtype not in (torch.float32, torch.bfloat16):
        return False
    # Nothing is random here: a probe must not move the generator of the program that it runs in.
    numbers = torch.linspace(-9, 9, 2 * 4 * 7 * 5, dtype=torch.float32, device="cpu").to(dtype)
    x = numbers.view(2, 4, 7, 5)
    weight, bias = numbers[-4 * 2 * 3 * 3 :].view(4, 2, 3, 3) / 9, numbers[:4] / 9
    convolution: nn.Conv2d = nn.utils.skip_init(  # type: ignore[no-untyped-call]
        nn.Conv2d, 4, 4, 3, stride=2, padding=1, groups=2, device="cpu", dtype=dtype
    )
    convolution.load_state_dict({"weight": weight, "bias": bias})
    try:
        if dtype == torch.bfloat16 and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
            return False
        plain = convolution(x)
        for activation, expected in ((_RELU, F.relu(plain)), (_RELU6, F.relu6(plain))):
            torch.testing.assert_close(_fused(convolution, x, *activation), expected)
    except (AttributeError, RuntimeError, TypeError, AssertionError) as error:
        _logger.debug("convolution and activation are computed one by one in %s: %s", dtype, first_line(error))
        return False
    return True


def _fused(convolution: nn.Conv2d, x: Tensor, activation: str, bounds: list[float]) -> Tensor:
    geometry = convolution.padding, convolution.stride, convolution.dilation, convolution.groups
    fused: Tensor = torch.ops.mkldnn._convolution_pointwise(
        x, convolution.weight, convolution.bias, *geometry, activation, bounds, ""
    )
    return fused
