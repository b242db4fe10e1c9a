import pytest

from benchmarks.read import cpu_peaks
from stm_fast.ops import compiled


def test_measures_the_units_that_this_machine_has() -> None:
    executed = compiled.instruction_sets()
    if not executed:
        pytest.skip(str(compiled.failure("cpu")))
    speeds = [cpu_peaks.flops(unit, 1) for unit in range(len(cpu_peaks.UNITS))]
    has_bf16 = not {"avx512bf16", "amx"}.isdisjoint(executed)
    assert [speed > 1e8 for speed in speeds] == [True, has_bf16, "amx" in executed]
