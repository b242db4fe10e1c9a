"""How the harness takes turns, and what it compares."""

import math
import mmap
import time

import pytest
import torch

from benchmarks import harness, machine, process_memory
from benchmarks.harness import Turns
from benchmarks.read import cases, cpu
from benchmarks.read.cases import Case


def test_all_take_turns():
    order = []
    runs = {name: lambda name=name: order.append(name) for name in "ab"}
    seconds = harness.in_turns(runs, Turns(rounds=2))
    assert order == ["a", "b", "a", "b"]
    assert [len(each) for each in seconds.values()] == [2, 2]
    assert list(harness.rotated(runs, 3)) == ["b", "a"]


def test_turns_end_when_there_are_enough():
    assert list(Turns(rounds=3)) == [0, 1, 2]
    assert list(Turns(rounds=9, min_rounds=3, seconds=0.0)) == [0, 1, 2]
    assert list(Turns(seconds=0.0)) == [0]


def test_ratios_are_those_of_a_turn():
    """Of medians the ratio would be 2 / 3."""
    assert harness.ratio([2.0, 1.0, 8.0], [1.0, 3.0, 4.0]) == 2.0
    assert harness.spread([1.0, 2.0, 4.0]) == 1.5
    assert harness.medians({"a": [3.0, 1.0, 2.0]}) == {"a": 2.0}


def test_errors_are_relative_and_nan_is_one():
    ones = torch.ones(4)
    assert harness.relative_error([1.1 * ones, torch.ones(0)], [ones, torch.ones(0)]) == pytest.approx(0.1, rel=1e-3)
    assert math.isnan(harness.relative_error([ones, ones * math.nan], [ones, ones]))


def test_what_cannot_be_compared_says_why():
    ones = torch.ones(4)

    def fails():
        raise RuntimeError("no kernel\nand more")

    assert harness.refusal(lambda: (ones,), ones, 1e-3) == ""
    assert harness.refusal(fails, ones, 1e-3) == "RuntimeError: no kernel"
    assert harness.refusal(lambda: (2 * ones,), ones, 1e-3) == "its result differs by 1.0e+00"
    assert harness.refusal(lambda: (math.nan * ones,), ones, 1e-3) == "its result differs by nan"


@pytest.mark.parametrize("operation", ["read", "backward", "top_k", "usage"])
def test_a_case_is_checked_and_then_timed(operation, monkeypatch):
    monkeypatch.setattr(cpu, "TURNS", Turns(rounds=1))
    monkeypatch.setattr(cpu.cpu_peaks, "ROUNDS", 1000)
    case = Case(operation, torch.float32, 8, 8, 2, 2, queries=40)
    result = cpu.measure(case)
    assert result.seconds["stm-fast"] > 0
    assert result.ratio_to_best > 0
    assert set(result.fractions) == {"float32 vectors"}
    assert (result.ratio_to_products is None) == (operation != "read")
    assert f"| {case} | " in cpu.report([result], {}, {})


def test_a_wrong_result_is_not_timed(monkeypatch):
    monkeypatch.setattr(cpu.contenders, "plain", lambda query, key, value: torch.zeros(1, 2, 8, 40))
    with pytest.raises(AssertionError, match="plain differs by 1"):
        cpu.measure(Case("read", torch.float32, 8, 8, 2, 2, queries=40))


def test_cases_are_chosen_by_the_beginning_of_their_name():
    assert cases.beginning("") == cases.ALL
    assert {case.operation for case in cases.beginning("top_k")} == {"top_k"}
    with pytest.raises(ValueError, match="no case begins with 'weather'"):
        cases.beginning("weather")


def test_the_machine_is_told_in_one_line():
    line = machine.line("12 pixels", threads="one thread")
    assert ", one thread, 12 pixels; " in line
    assert f"torch {torch.__version__}" in line
    assert "\n" not in line


def test_memory_of_this_process():
    size, private = 2**27, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    # not of the heap, which uses again what earlier tests gave back
    with process_memory.anonymous_growth() as growth, mmap.mmap(-1, size, private) as held:
        for _ in range(2**7):
            held.write(bytes(2**20))
        time.sleep(0.1)
    assert growth[0] > size // 2
    assert process_memory.peak() >= process_memory.resident() > 0
