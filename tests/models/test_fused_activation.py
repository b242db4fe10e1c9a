from collections.abc import Callable, Iterator

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from stm_fast.models import fused_activation

PAIRS = [(fused_activation.convolve_relu, F.relu), (fused_activation.convolve_relu6, F.relu6)]
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
        assert fused_activation.convolve_relu(CONVOLUTIONS[0], torch.randn(1, 8, 5, 5)).dtype == torch.bfloat16


@pytest.fixture
def operator(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[object], None]]:
    """Put another function in the place of torch's operator, which is probed anew."""
    fused_activation._fuses.cache_clear()
    yield lambda other: monkeypatch.setattr(torch.ops.mkldnn, "_convolution_pointwise", other)
    fused_activation._fuses.cache_clear()


def missing(*_: object) -> torch.Tensor:
    raise AttributeError("'_OpNamespace' 'mkldnn' object has no attribute '_convolution_pointwise'")


def of_another_signature(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return x


def without_activation(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, *rest: object) -> torch.Tensor:
    padding, stride, dilation, groups = rest[:4]
    return F.conv2d(x, weight, bias, stride, padding, dilation, groups)


@pytest.mark.parametrize("other", [missing, of_another_signature, without_activation])
@pytest.mark.parametrize(("fused", "activation"), PAIRS)
@torch.no_grad()
def test_two_steps_where_torchs_operator_is_not_what_it_was(
    operator: Callable[[object], None], other: object, fused: Callable, activation: Callable
) -> None:
    operator(other)
    x = 8 * torch.randn(2, 8, 13, 11)
    assert torch.equal(fused(CONVOLUTIONS[0], x), activation(CONVOLUTIONS[0](x)))
    assert not fused_activation._fuses(torch.float32)


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this torch is built without oneDNN")
@pytest.mark.usefixtures("operator")
@torch.no_grad()
def test_one_step_where_it_is() -> None:
    """And to find that out changes no random state."""
    state = torch.get_rng_state()
    x = torch.linspace(-3, 3, 8 * 9).view(1, 8, 3, 3)
    assert fused_activation._fusible(CONVOLUTIONS[0], x)
    assert torch.equal(torch.get_rng_state(), state)
