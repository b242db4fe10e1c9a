"""What first_light does with a case, on toy shapes; its figures mean nothing here."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from benchmarks.read.gpu import calls, cases, peaks, report
from benchmarks.read.gpu.check import check
from benchmarks.read.gpu.compare import compare
from benchmarks.read.gpu.determinism import repeat
from benchmarks.read.gpu.results import Results
from benchmarks.read.gpu.run import Run
from benchmarks.read.gpu.stages import Job
from benchmarks.read.runs import OURS
from tests.kernels.conftest import Engine


@pytest.mark.parametrize("operation", cases.OPERATIONS)
def test_times_what_is_right(operation: str, engine: Engine) -> None:
    (case,) = cases.each(cases.TOY, [operation], [2])
    result = compare(case, engine.name, engine.device)
    assert result["error"] < 3e-3
    assert not result["wrong"]
    assert result["seconds"][OURS] > 0
    assert result["tflops"] > 0
    assert len(result["ratios"]) == len(result["seconds"]) - 1
    assert bool(result["ratios"]) == (operation != "top_k_backward")


@pytest.mark.parametrize("faults", [(1.1, 1.1), (1.0, math.nan)], ids=["readout", "lse NaN"])
def test_does_not_time_what_is_wrong(
    faults: tuple[float, float], device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    launches = calls.launches

    def wrong(*arguments: object) -> Callable[[], tuple[Tensor, ...]]:
        run = launches(*arguments)
        if "reference" in arguments:
            return run
        return lambda: tuple(fault * part for fault, part in zip(faults, run(), strict=True))

    monkeypatch.setattr(calls, "launches", wrong)
    result = compare(cases.TOY, "triton", device)
    assert result["wrong"]
    assert "seconds" not in result


def test_what_is_not_written_is_wrong(device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    launches = calls.launches

    def idle(*arguments: object) -> Callable[[], tuple[Tensor, ...]]:
        run = launches(*arguments)
        if "reference" in arguments:
            return run
        right = run()
        torch.empty_like(right[0]).copy_(right[0])  # freed: the next empty tensor may lie here
        return lambda: tuple(map(torch.empty_like, right))

    monkeypatch.setattr(calls, "launches", idle)
    assert check(cases.TOY, "triton", device)["wrong"]


def test_other_bits_are_wrong(device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = iter(range(9))
    monkeypatch.setattr(calls, "launches", lambda *_: lambda: (torch.tensor([float(next(numbers) > 0)]),))
    assert repeat(cases.TOY, "triton", device) == {"calls": 2, "different": 1, "wrong": True}


@pytest.fixture
def results(tmp_path: Path) -> Results:
    return Results(tmp_path, {"GPU": "none"}, 3)


def lines_of(results: Results) -> list[tuple[str, str]]:
    results.close()
    kept = results.log.with_name("results.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in kept][1:] == results.lines
    return [(line["case"], line["status"]) for line in results.lines]


def test_a_failed_case_is_a_line_and_the_next_one_is_done(results: Results, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    run = Run(results, [], 300.0)
    try:
        run.do([Job("peaks", "", "no such peak"), Job("peaks", "", peaks.COPY)])
    finally:
        run.end()
    assert lines_of(results) == [("no such peak", "failed"), ("copy", "ok")]
    assert "KeyError" in results.lines[0]["fault"]


def test_cases_without_time_are_lines(results: Results) -> None:
    run = Run(results, [], 0.0)
    run.do([Job("check", "", case) for case in cases.timed(toy=True)])
    run.end()
    assert {status for _, status in lines_of(results)} == {"skipped"}
    assert len(results.lines) == 5
    assert "5 skipped: no time left" in report.short(results.lines)


def test_reports_say_what_is_wrong(results: Results) -> None:
    results.add("check", "cuda", "a read", "wrong", error=1.0)
    results.add("time", "triton", "a read", "failed", fault="ValueError: no")
    timed = {"seconds": {"stm-fast": 1e-4, "plain": 3e-4}, "ratios": {"plain": 3.0}, "extra_bytes": {"stm-fast": 0}}
    refused = {"SDPA flash": "RuntimeError: no"}
    results.add("time", "cuda", "another", "ok", error=0.0, tflops=2.0, fraction=0.5, refused=refused, **timed)
    results.close()
    text = report.short(results.lines)
    assert "- check, cuda: a read: WRONG, error 1.0e+00\n- time, triton: a read: failed: ValueError: no\n" in text
    assert "| another | cuda | 0.0e+00 | 100.0 | 2.0 | 50% | 0 | 3.00x plain |" in text
    assert "1 wrong, 1 failed, 1 ok" in text
    full = results.log.with_name("first_light.md").read_text()
    assert "| a read | cuda | 1.0e+00 | WRONG |" in full
    assert "- not compared, 1 times: SDPA flash (another): RuntimeError: no" in full
