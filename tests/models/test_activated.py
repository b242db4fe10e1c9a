import pytest
import torch
from torch import nn
from torch.nn import functional as F

from stm_fast.models import activated

PAIRS = [(activated.convolve_relu, F.relu), (activated.convolve_relu6, F.relu6)]
CONVOLUTIONS = [
    nn.Conv2d(8, 12, 1),
    nn.Conv2d(8, 12, 3, stride=2, padding=1, bias=False),
    nn.Conv2d(8, 8, 5, padding=4, dilation=2, groups=8),
]


@pytest.mark.parametrize(("fused", "activation"), PAIRS)
@pytest.mark.parametrize("convolution", CONVOLUTIONS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@torch.no_grad()
def test_equal_to_two_steps(fused: object, activation: object, convolution: nn.Conv2d, dtype: torch.dtype) -> None:
    x = (8 * torch.randn(2, 8, 13, 11, generator=torch.Generator().manual_seed(0))).to(dtype)
    for layout in (torch.contiguous_format, torch.channels_last):
        convolution.to(dtype, memory_format=layout)
        given = x.contiguous(memory_format=layout)
        torch.testing.assert_close(fused(convolution, given), activation(convolution(given)))
        assert torch.equal(given, x)
    convolution.float()


@pytest.mark.parametrize(("fused", "activation"), PAIRS)
def test_gradients_are_those_of_two_steps(fused: object, activation: object) -> None:
    convolution, x = CONVOLUTIONS[1], torch.randn(1, 8, 5, 5)
    ours, theirs = (
        torch.autograd.grad(out.square().sum(), convolution.weight)[0]
        for out in (fused(convolution, x), activation(convolution(x)))
    )
    torch.testing.assert_close(ours, theirs)


@torch.no_grad()
def test_autocast_decides_the_dtype() -> None:
    with torch.autocast("cpu", torch.bfloat16):
        assert activated.convolve_relu(CONVOLUTIONS[0], torch.randn(1, 8, 5, 5)).dtype == torch.bfloat16
