"""Engines of the CPU kernels: measured by `tune`, shown by `doctor`."""

import sys

import pytest

from stm_fast.ops import compiled, cpu_engines, engine_timing, environment
from stm_fast.ops.backends import registry, triton

pytestmark = pytest.mark.skipif(
    len(compiled.instruction_sets()) < 3, reason="this machine executes no two engines that differ"
)


@pytest.fixture(autouse=True)
def stopwatch(tmp_path, monkeypatch):
    """An empty cache, and a stopwatch whose seconds are those of `stopwatch`, by engine; the last one wins at first."""
    monkeypatch.setenv("STM_FAST_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("STM_FAST_CPU_ISA", raising=False)
    monkeypatch.setattr(engine_timing, "_problem", lambda kind: lambda engine: None)
    names = compiled.instruction_sets()
    seconds = {name: 0.02 - 0.001 * index for index, name in enumerate(names)}
    monkeypatch.setattr(engine_timing, "look", lambda run, engine: seconds[names[engine]])
    return seconds


def told(result):
    return " ".join(result.output.replace("│", " ").split())


def test_every_kind_of_read_is_measured_and_shown(stm):
    assert "it is measured by the first large read, or by stm-fast tune --device cpu" in told(stm("doctor"))
    result = stm("tune", "--device", "cpu", "--key-channels", 60, "--value-channels", 200)
    assert result.exit_code == 0, result.output
    assert "18 of 18 kinds of reads were measured" in result.output
    kept = cpu_engines.kept()
    assert set(kept) == {
        *(f"usage {key} 64" for key in ("float32", "bfloat16")),
        *(
            f"{operation} {key} 64 {value} 256"
            for operation in ("read", "read_backward", "top_k_read", "top_k_read_backward")
            for key in ("float32", "bfloat16")
            for value in ("float32", "bfloat16")
        ),
    }
    assert all(
        choice.engine == engine_timing.candidates(engine_timing.Kind.parse(name))[-1] for name, choice in kept.items()
    )
    shown = told(stm("doctor"))
    assert "stm-fast tune --device cpu measures again" in shown
    best = engine_timing.candidates(engine_timing.Kind.parse("usage float32 64"))[-1]
    assert f"usage float32 64 {best} " in shown
    assert f"{best} {1e3 * kept['usage float32 64'].seconds[best]:.2f}" in shown


def test_what_was_measured_before_is_measured_again(stm, stopwatch):
    stm("tune", "--device", "cpu", "--dtype", "bfloat16", "--key-channels", 16)
    kinds = set(cpu_engines.kept())
    assert len(kinds) == 5
    for name, seconds in stopwatch.items():
        stopwatch[name] = 1.0 - seconds
    stm("tune", "--device", "cpu", "--dtype", "float32")
    kept = cpu_engines.kept()
    assert len(kept) == 10
    for name in kinds:
        assert kept[name].engine == engine_timing.candidates(engine_timing.Kind.parse(name))[0]


def test_tune_stops_in_time(stm):
    result = stm("tune", "--device", "cpu", "--seconds", 0)
    assert "0 of 18 kinds of reads were measured" in result.output
    assert cpu_engines.kept() == {}


def test_tune_stops_on_request(stm, monkeypatch):
    measured = []

    def measure(kind, looks):
        if measured:
            raise KeyboardInterrupt
        measured.append(kind)
        return engine_timing.Choice(engine_timing.candidates(kind)[0], {})

    monkeypatch.setattr(engine_timing, "measure", measure)
    result = stm("tune", "--device", "cpu")
    assert result.exit_code == 130
    assert "Stopped; 1 of 18 kinds of reads were measured" in result.output
    assert list(cpu_engines.kept()) == [str(measured[0])]


def test_what_cannot_be_kept_is_an_error(stm, tmp_path):
    (tmp_path / "cache").write_text("no folder")
    result = stm("tune", "--device", "cpu")
    assert result.exit_code == 3
    assert str(tmp_path / "cache") in result.output


def test_without_kernels_there_is_nothing_to_tune(stm, monkeypatch):
    monkeypatch.setattr(compiled, "failure", lambda name: "no C++ compiler is installed")
    result = stm("tune", "--device", "cpu")
    assert result.exit_code == 1
    assert "there is nothing to tune: no C++ compiler is installed" in result.output


def test_interpreted_kernels_are_not_tuned(stm, monkeypatch):
    monkeypatch.setattr(sys.modules["stm_fast.cli.tune"], "resolve_device", lambda name: "cuda")
    monkeypatch.setattr(registry, "unavailable", lambda name, device=None: None)
    monkeypatch.setattr(triton, "interpreting", lambda: True)
    result = stm("tune")
    assert result.exit_code == 1
    assert "there is nothing to tune: the kernels are interpreted" in result.output


def test_a_forced_engine_is_shown(stm, monkeypatch):
    monkeypatch.setenv("STM_FAST_CPU_ISA", "baseline")
    environment.variable.cache_clear()
    assert "baseline, forced by STM_FAST_CPU_ISA" in told(stm("doctor"))
