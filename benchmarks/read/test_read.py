"""pytest-benchmark suites of the read: `make bench-suite`, or pytest benchmarks --benchmark-compare."""

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.read import cases
from benchmarks.read.cases import Case
from benchmarks.read.runs import OURS, runners


@pytest.mark.parametrize("case", cases.ALL, ids=str)
def test_read(benchmark: BenchmarkFixture, case: Case) -> None:
    """Time one operation of stm-fast at one shape."""
    benchmark.group = case.operation
    benchmark.extra_info["gflop"] = case.flops / 1e9
    run = runners(case)[OURS]
    run()
    benchmark.pedantic(run, rounds=3 if case.frames > 20 else 9)


@pytest.mark.parametrize("case", [case for case in cases.ALL if case.frames <= 20], ids=str)
def test_plain(benchmark: BenchmarkFixture, case: Case) -> None:
    """Time the same by the plain formula, or by what stands for it."""
    benchmark.group = case.operation
    name, run = list(runners(case).items())[1]
    benchmark.extra_info["contender"] = name
    run()
    benchmark.pedantic(run, rounds=5)
