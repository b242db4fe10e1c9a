"""The CUDA kernels serve where a Triton kernel fails."""

import math
import warnings

import pytest
import torch

from stm_fast.ops import dispatch, memory_read
from stm_fast.ops.backends import cuda, registry
from tests.kernels.conftest import _device
from tests.ops.cases import make_case


@pytest.fixture
def both(device: torch.device, monkeypatch: pytest.MonkeyPatch) -> torch.device:
    """A device on which "auto" takes triton first, then cuda."""
    if device != _device("STM_FAST_EMULATE_CUDA") or cuda.unavailable():
        pytest.skip("the CUDA kernels are not there")
    gpu_backends = {name: module for name, module in registry.BACKENDS.items() if name != "cpu"}
    monkeypatch.setattr(registry, "BACKENDS", gpu_backends)
    monkeypatch.setattr(dispatch, "_failed", {})
    monkeypatch.setattr(dispatch, "_warned", set())
    return device


def test_cuda_serves_where_a_kernel_of_triton_needs_more_than_there_is(
    both: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It fails after a part of it has written: as where the second kernel of a read cannot be launched."""
    from triton.runtime.errors import OutOfResources

    from stm_fast.kernels import forward

    def fail(operands: object, value: object, out: torch.Tensor, lse: torch.Tensor) -> None:
        out.fill_(math.nan)
        raise OutOfResources(262144, 232448, "shared memory")

    case = make_case("dot")
    tensors = [tensor.to(both) for tensor in case.tensors]
    expected = memory_read(*tensors, return_lse=True, return_usage=True, backend="cuda")
    monkeypatch.setattr(forward, "read", fail)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        reads = [memory_read(*tensors, return_lse=True) for _ in range(2)]
    for read in reads:
        assert torch.equal(read.value, expected.value)
        assert torch.equal(read.lse, expected.lse)
    (warning,) = told
    start = f"reads on {both} take the 'cuda' backend, because 'triton' failed in read with OutOfResources: out of"
    assert str(warning.message).startswith(start)
    with pytest.raises(OutOfResources):
        memory_read(*tensors, backend="triton")
