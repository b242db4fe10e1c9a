"""The read inside autocast regions."""

import pytest
import torch

from stm_fast.ops import memory_read
from tests.ops.cases import make_case, random_operands

OPS = torch.ops.stm_fast


@pytest.mark.parametrize("top_k", [None, 4])
def test_autocast_reads_in_its_dtype(top_k: int | None) -> None:
    """As for a matrix product: float32 and other 16-bit inputs are cast, the statistics stay float32."""
    case = make_case("xmem").requires_grad()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        result = case.read(memory_read, top_k=top_k, return_lse=True, return_usage=True)
    assert [t.dtype for t in result] == [torch.bfloat16, torch.float32, torch.float32]
    rounded = [t.detach().bfloat16() for t in case.tensors[:3]]
    torch.testing.assert_close(result.value, memory_read(*rounded, **case.options, top_k=top_k))
    result.value.float().sum().backward()
    assert all(tensor.grad.dtype == torch.float32 for tensor in case.tensors)


def test_autocast_leaves_float64_and_disabled_regions_alone() -> None:
    double, single = make_case("dot", torch.float64), make_case("dot")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(double.read(memory_read), make_case("dot", torch.float64).read(memory_read))
        with torch.autocast("cpu", enabled=False):
            inside = single.read(memory_read)
    torch.testing.assert_close(inside, single.read(memory_read))


def test_autocast_does_not_reach_into_the_backend() -> None:
    """A backend's own matrix products keep their precision when an op is called inside an autocast region."""
    op, value = random_operands(), torch.randn(2, 1, 6, 7)
    expected = OPS.read(*op, value, "reference")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(OPS.read(*op, value, "reference"), expected)
