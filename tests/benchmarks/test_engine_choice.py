"""What the script that compares "auto" with single engines lets pass, and how it takes turns."""

import os

import pytest
import torch

from benchmarks.harness import Turns
from benchmarks.read import engine_choice
from benchmarks.read.cases import Case
from stm_fast.ops import compiled, cpu_engines

LONG, SHORT = (Case("read", torch.float32, 8, 8, 1, frames, queries=20) for frames in (5, 1))


@pytest.fixture(autouse=True)
def fresh(tmp_path, monkeypatch):
    monkeypatch.setenv("STM_FAST_CACHE", str(tmp_path))
    monkeypatch.setattr(cpu_engines, "_chosen", {})


@pytest.mark.parametrize(
    ("case", "seconds", "told"),
    [
        (LONG, {"auto": 1.1, "amx": 1.0, "avx2": 3.0, "plain": 1.2}, []),
        (LONG, {"auto": 1.2, "amx": 2.0, "avx2": 1.0, "plain": 1.3}, ["1.20 x the time of the best engine"]),
        (LONG, {"auto": 1.1, "amx": 1.0, "avx2": 3.0, "plain": 0.5}, ["2.20 x the time of the plain read"]),
        (SHORT, {"auto": 1.1, "amx": 1.0, "avx2": 3.0, "plain": 0.5}, []),
        (
            LONG,
            {"auto": 3.0, "amx": 1.0, "avx2": 3.0, "plain": 2.0},
            ["3.00 x the time of the b", "1.50 x the time of the p"],
        ),
        (LONG, {"auto": 1.0, "amx": 1.0}, []),
    ],
)
def test_bars(case, seconds, told):
    missed = engine_choice.failures(case, seconds)
    assert len(missed) == len(told)
    for said, expected in zip(missed, told, strict=True):
        assert said.startswith("read, float32, (8, 8)")
        assert expected in said


def test_an_engine_is_forced_for_a_while(monkeypatch):
    monkeypatch.setenv("STM_FAST_CPU_ISA", "before")
    with engine_choice.forced("baseline"):
        assert cpu_engines.forced() == "baseline"
    with engine_choice.forced(None):
        assert cpu_engines.forced() is None
    assert os.environ["STM_FAST_CPU_ISA"] == "before"


def test_turns_of_a_small_case(monkeypatch):
    monkeypatch.setattr(cpu_engines, "SMALL_WORK", 0.0)
    monkeypatch.setattr(cpu_engines.engine_timing, "_TOKENS_PER_THREAD", 50)
    contestants = engine_choice.contenders(LONG)
    engines = engine_choice.single_engines()
    assert list(contestants) == ["auto", *engines, "plain"]
    choice = engine_choice.chosen(contestants["auto"])
    assert choice in compiled.instruction_sets()
    order = []
    runs = {name: lambda name=name, run=run: (order.append(name), run()) for name, run in contestants.items()}
    seconds = engine_choice.take_turns({LONG: runs}, Turns(seconds=0.0))
    assert order == list(contestants)
    assert all(len(each) == 1 and each[0] > 0 for each in seconds[LONG].values())
    medians = {LONG: dict.fromkeys(contestants, 1.5)}
    text = engine_choice.report(medians, {LONG: choice}, 1)
    assert f"| read, float32, (8, 8), T = 5 | {choice} | 1500.0 | " in text
    assert "| 1.00 | 1500.0 | 1.00 |" in text
