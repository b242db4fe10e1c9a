"""The backend that was measured to be the fastest goes first."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from stm_fast.ops import preference
from stm_fast.ops.backends import registry
from stm_fast.ops.backends.registry import Call
from stm_fast.ops.operands import Operands

GPU = torch.device("cuda", 0)


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("STM_FAST_CACHE", str(tmp_path))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "A GPU (80 GB)")
    preference.fastest.cache_clear()
    file = preference.file_of(GPU)
    file.parent.mkdir()
    yield file
    preference.fastest.cache_clear()


def test_what_was_measured_is_remembered(file: Path) -> None:
    assert file.name == "A-GPU-80-GB-.json"
    file.write_text(
        json.dumps(preference.winners({"read": {"triton": 2.0, "cuda": 1.0}, "usage": {"triton": 1.0, "cuda": 2.0}}))
    )
    assert [preference.fastest(GPU, operation) for operation in ("read", "usage", "top_k_read")] == [
        "cuda",
        "triton",
        None,
    ]


@pytest.mark.parametrize("text", ["", "[]", "3", '{"read": 3}', "{"])
def test_a_broken_file_is_ignored(text: str, file: Path) -> None:
    file.write_text(text)
    assert preference.fastest(GPU, "read") is None


def test_every_operation_is_measured_with_every_backend() -> None:
    query, key, value = torch.randn(1, 4, 5), torch.randn(1, 4, 40), torch.randn(1, 1, 3, 40)
    asked = []

    def stopwatch(run: Callable[[], object]) -> float:
        asked.append(run())
        return float(len(asked))

    operands = Operands(query, key, None, None, None, 0.5)
    seconds = preference.measure(operands, value, ["cpu", "reference"], stopwatch)
    assert list(seconds) == ["read", "read_backward", "usage", "top_k_read", "top_k_read_backward"]
    assert set(preference.winners(seconds).values()) == {"cpu"}
    for fast, exact in zip(asked[::2], asked[1::2], strict=True):
        torch.testing.assert_close(fast, exact)


def test_auto_asks_the_fastest_first(monkeypatch: pytest.MonkeyPatch) -> None:
    query = torch.ones(1, 4, 5)
    call = Call("read", Operands(query, query, None, None, None, 1.0), (query[:, None],))
    assert registry._in_order(call) == list(registry.BACKENDS)

    class OnGPU:
        device = GPU

    monkeypatch.setattr(preference, "fastest", lambda device, operation: "cuda")
    there = call._replace(operands=call.operands._replace(query=OnGPU()))
    assert registry._in_order(there) == ["cuda", *(name for name in registry.BACKENDS if name != "cuda")]
