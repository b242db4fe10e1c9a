"""Every implementation of the read that this machine can run."""

from pathlib import Path

import pytest

from stm_fast.ops import cache, compiled, cpu_engines
from stm_fast.ops.backends import reference, registry

INSTRUCTION_SETS = compiled.instruction_sets()


@pytest.fixture
def no_engine_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that has chosen no engine, with an empty cache folder."""
    monkeypatch.setenv("STM_FAST_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("STM_FAST_CPU_ISA", raising=False)
    monkeypatch.setattr(cpu_engines, "_chosen", {})
    monkeypatch.setattr(cpu_engines, "cache_folder", cache.cache_folder)


@pytest.fixture
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiles of the reference so small that even a tiny read loops over batch, queries and memory."""
    monkeypatch.setattr(reference, "CPU_TILE_SCORES", 1)
    monkeypatch.setattr(reference, "TILE_QUERIES", 4)
    monkeypatch.setattr(reference, "TOP_K_TILE_QUERIES", 2)
    monkeypatch.setattr(reference, "TILE_TOKENS", 7)
    monkeypatch.setattr(reference, "GATHERED_VALUES", 1)


@pytest.fixture(params=INSTRUCTION_SETS)
def instruction_set(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The compiled kernels, for one instruction set after another."""
    monkeypatch.setenv("STM_FAST_CPU_ISA", request.param)
    return str(request.param)


@pytest.fixture(params=["reference", "reference in tiles", *INSTRUCTION_SETS])
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test that asks for it runs with the reference in one tile and in many, and with all compiled kernels."""
    if request.param in INSTRUCTION_SETS:
        monkeypatch.setenv("STM_FAST_CPU_ISA", request.param)
        return
    monkeypatch.setattr(registry, "BACKENDS", {"reference": registry.BACKENDS["reference"]})
    if request.param == "reference in tiles":
        request.getfixturevalue("small_tiles")
