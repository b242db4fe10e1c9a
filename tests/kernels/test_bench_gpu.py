"""The GPU benchmark's own logic, on toy shapes; its figures mean nothing here."""

import json
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from benchmarks import gpu
from benchmarks.cases import Case

OPERATIONS = ("read", "backward", "top_k", "top_k_backward", "usage")


@pytest.fixture(autouse=True)
def few_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "ROUNDS", 1)
    monkeypatch.setattr(gpu, "TOP_K", 3)


def toy(operation: str) -> Case:
    return Case(operation, torch.float32, 16, 16, 1, 2, queries=20)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_measures_what_is_right(operation: str, device: torch.device) -> None:
    result = gpu.measure(toy(operation), "triton", device)
    assert result.error < 1e-4
    assert result.seconds["stm-fast"] > 0
    assert result.tflops > 0
    assert len(result.ratios) == len(result.seconds) - 1
    assert bool(result.ratios) == (operation != "top_k_backward")


@pytest.mark.parametrize("faults", [(1.1, 1.1), (1.0, math.nan)], ids=["readout", "lse NaN"])
def test_does_not_time_what_is_wrong(
    faults: tuple[float, float], device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    launches = gpu.launches

    def wrong(case: Case, parts: object, value: Tensor, backend: str, upstream: Tensor) -> object:
        run = launches(case, parts, value, backend, upstream)
        if backend == "reference":
            return run
        return lambda: tuple(fault * part for fault, part in zip(faults, run(), strict=True))

    monkeypatch.setattr(gpu, "launches", wrong)
    result = gpu.measure(toy("read"), "triton", device)
    assert not result.seconds
    assert "WRONG" in gpu.report([result], device)


def test_cases_without_time_are_told_and_counted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(gpu, "engines", lambda: ["triton"])
    monkeypatch.setattr(gpu, "real_cases", lambda: [toy("read"), toy("usage")])
    monkeypatch.setattr(gpu, "DEADLINE", -1.0)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda *_: "a GPU")
    assert gpu.main() == 2
    assert capsys.readouterr().out.count("no time left") == 2


def test_report_ends_with_the_compact_table(device: torch.device, tmp_path: Path) -> None:
    results = [
        gpu.Result("read, float32", "triton", 1e-6, {"stm-fast": 1e-3}, 2.0, 0.5, {"plain": 3.0}, {"stm-fast": 0}),
        gpu.Result("usage", "triton", 1.0),
    ]
    text = gpu.report(results, device)
    assert text.splitlines()[-1] == "| usage | triton | WRONG | | |"
    assert text.splitlines()[-2] == "| read, float32 | triton | 2.0 | 50% | 3.00x plain |"
    gpu.write(results, text, tmp_path)
    assert (tmp_path / "gpu.md").read_text() == text
    assert json.loads((tmp_path / "gpu.json").read_text())[0]["ratios"] == {"plain": 3.0}
