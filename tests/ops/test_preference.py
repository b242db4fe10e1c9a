"""The backend that was measured to be the fastest goes first."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from stm_fast.kernels.operands import Operands
from stm_fast.ops import backend_timing, dispatch, preference
from stm_fast.ops.backends import registry
from stm_fast.ops.calls import Read, Usage

GPU = torch.device("cuda", 0)


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("STM_FAST_CACHE", str(tmp_path))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "A GPU (80 GB)")
    preference.preferred.cache_clear()
    file = preference.file_of(GPU)
    file.parent.mkdir()
    yield file
    preference.preferred.cache_clear()


def operands(dtype: torch.dtype) -> tuple[Operands, Tensor]:
    query = torch.ones(1, 4, 5, dtype=dtype)
    return Operands(query, query, None, None, None, 1.0), query[:, None]


def test_what_was_measured_is_remembered_by_dtype(file: Path) -> None:
    assert file.name.startswith("A-GPU-80-GB-")
    seconds = {"read": {"triton": 2.0, "cuda": 1.0}, "usage": {"triton": 1.0, "cuda": 0.99}}
    assert backend_timing.winners(seconds) == {"read": "cuda", "usage": "triton"}
    for dtype in (torch.bfloat16, torch.float32):
        file.write_text(backend_timing.with_winners(file, backend_timing.winners(seconds), *operands(dtype)))
        seconds["read"]["cuda"] = 3.0
    assert preference.preferred(GPU) == {
        "read bfloat16 bfloat16": "cuda",
        "usage bfloat16": "triton",
        "read float32 float32": "triton",
        "usage float32": "triton",
    }


@pytest.mark.parametrize("text", ["", "[]", "3", '{"read": 3}', "{"])
def test_a_broken_file_is_ignored(text: str, file: Path) -> None:
    file.write_text(text)
    assert preference.preferred(GPU) == {}


def test_every_operation_is_measured_with_every_backend() -> None:
    query, key, value = torch.randn(1, 4, 5), torch.randn(1, 4, 40), torch.randn(1, 1, 3, 40)
    asked = []

    def stopwatch(run: Callable[[], object]) -> float:
        asked.append(run())
        return float(len(asked))

    seconds = backend_timing.measure(
        Operands(query, key, None, None, None, 0.5), value, ["cpu", "reference"], stopwatch
    )
    assert list(seconds) == ["read", "read_backward", "usage", "top_k_read", "top_k_read_backward"]
    assert set(backend_timing.winners(seconds).values()) == {"cpu"}
    for outputs in zip(asked[::2], asked[1::2], strict=True):
        for fast, exact in zip(*outputs, strict=True):
            assert (fast is None) == (exact is None)
            if exact is not None:
                torch.testing.assert_close(fast, exact)


def test_auto_asks_the_fastest_first(monkeypatch: pytest.MonkeyPatch) -> None:
    call = Read(*operands(torch.float32))
    assert dispatch.in_order(call) == list(registry.BACKENDS)

    class OnGPU:
        device = GPU

    monkeypatch.setattr(preference, "preferred", lambda device: {"read float32 float32": "cuda"})
    there = replace(call, operands=call.operands._replace(query=OnGPU()))
    assert dispatch.in_order(there) == ["cuda", *(name for name in registry.BACKENDS if name != "cuda")]
    assert dispatch.in_order(Usage(there.operands, call.value[0])) == list(registry.BACKENDS)
