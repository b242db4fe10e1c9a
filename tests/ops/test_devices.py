"""A GPU backend is asked about the GPU that a call's tensors are on, not the current one."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch

from stm_fast.errors import BackendUnavailableError
from stm_fast.kernels.operands import Operands
from stm_fast.ops import dispatch
from stm_fast.ops.backends import cuda, triton
from stm_fast.ops.calls import Read

OLD, GOOD, ODD = (torch.device("cuda", index) for index in range(3))
NO_IMAGE = "its kernels cannot run on this GPU: no kernel image is available"


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Three GPUs, the current one too old, the last one without a binary in the library."""
    current = [0]

    @contextmanager
    def on(device: torch.device) -> Iterator[None]:
        current.append(device.index)
        yield
        current.pop()

    monkeypatch.setenv("STM_FAST_EMULATE_CUDA", "0")
    monkeypatch.setenv("TRITON_INTERPRET", "0")
    monkeypatch.setattr(torch.version, "hip", None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.setattr(torch.cuda, "device", on)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"GPU {device.index}")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: [(7, 5), (8, 0), (9, 0)][device.index])
    monkeypatch.setattr(cuda.compiled, "failure", lambda name: None)
    monkeypatch.setattr(cuda.compiled, "cuda_unusable", lambda: NO_IMAGE if current[-1] == ODD.index else None)
    caches = cuda._unusable, cuda._without_gpu, triton.unavailable
    for cache in caches:
        cache.cache_clear()
    yield
    for cache in caches:
        cache.cache_clear()


def call_on(place: torch.device) -> Read:
    class OnGPU(torch.Tensor):
        device = place

    query = torch.ones(1, 4, 5).as_subclass(OnGPU)
    return Read(Operands(query, query, None, None, None, 1.0), query[:, None])


@pytest.mark.usefixtures("machine")
def test_cuda_looks_at_the_device_of_the_call() -> None:
    assert cuda.unavailable() is None
    assert dispatch.choose("cuda", call_on(GOOD)) == "cuda"
    for device, reason in ((OLD, "it needs compute capability 8.0; GPU 0 has 7.5"), (ODD, NO_IMAGE)):
        with pytest.raises(BackendUnavailableError, match=f"backend 'cuda' cannot serve read: {reason}"):
            dispatch.choose("cuda", call_on(device))


@pytest.mark.usefixtures("machine")
def test_without_a_gpu_that_serves_the_first_reason_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert cuda.unavailable() == "it needs compute capability 8.0; GPU 0 has 7.5"


@pytest.mark.usefixtures("machine")
def test_triton_looks_at_the_device_of_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("triton")
    from stm_fast.kernels import chips

    monkeypatch.setattr(triton, "_driver_failure", lambda: None)
    monkeypatch.setattr(chips, "refused", lambda device: "it is too old" if device == OLD else None)
    assert triton.unavailable() is None
    assert dispatch.choose("triton", call_on(ODD)) == "triton"
    with pytest.raises(BackendUnavailableError, match="backend 'triton' cannot serve read: it is too old"):
        dispatch.choose("triton", call_on(OLD))
