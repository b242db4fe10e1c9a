"""The term that all gradients of the scores of a query share."""

import pytest
import torch
from torch import Tensor

pytest.importorskip("triton")

from stm_fast.kernels import delta

BATCH, OBJECTS, CHANNELS, QUERIES = 2, 3, 50, 37


def permuted(tensor: Tensor) -> Tensor:
    """Return the tensor in a channels-last layout."""
    return tensor.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1)


def spaced(tensor: Tensor) -> Tensor:
    """Return the tensor as every other number of a longer one."""
    return tensor.repeat_interleave(2, -1)[..., ::2]


@pytest.mark.parametrize("laid", [Tensor.contiguous, permuted, spaced, lambda each: each[:1].expand(BATCH, -1, -1, -1)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_delta_of_any_strides(laid: object, dtype: torch.dtype, device: torch.device) -> None:
    """There are more channels than in a tile, and the last tiles of both sides are not full."""
    assert callable(laid)
    random = torch.Generator().manual_seed(0)
    out, grad = (torch.randn(BATCH, OBJECTS, CHANNELS, QUERIES, generator=random).to(device, dtype) for _ in range(2))
    grad, grad_lse = laid(grad), torch.randn(QUERIES, generator=random).to(device).expand(BATCH, -1)
    result = torch.full((BATCH, QUERIES), torch.nan, device=device)
    tensors = {"out": out, "grad_out": grad, "grad_lse": grad_lse, "delta": result}
    delta.delta_launch(out, grad, grad_lse)(tensors)
    exact = (out.double() * grad.double()).sum((1, 2)) - grad_lse.double()
    torch.testing.assert_close(result.double(), exact, rtol=0, atol=2e-5)
