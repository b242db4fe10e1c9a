"""The engine of the CPU kernels that measured fastest is chosen, and the choice is kept."""

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from stm_fast.errors import BackendUnavailableError
from stm_fast.kernels.operands import Operands
from stm_fast.ops import compiled, cpu_engines, engine_timing, environment
from stm_fast.ops.calls import OPERATIONS, Read, Usage
from stm_fast.ops.engine_timing import Kind

X86 = ["amx", "avx512bf16", "avx512", "avx2", "baseline"]
READ = "read float32 64 float32 64"
LARGE = (1, 64, 1620, 3240)
pytestmark = pytest.mark.usefixtures("no_engine_chosen")


class Stopwatch:
    """Stands for `engine_timing.look`: says how long engines take, and counts how often each is asked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, seconds: dict[str, float | list[float]], names: list[str]):
        self.seconds, self.names = seconds, names
        self.asked: list[str] = []
        monkeypatch.setattr(engine_timing, "look", self)

    def __call__(self, run: Callable[[int], None], engine: int) -> float:
        name = self.names[engine]
        self.asked.append(name)
        said = self.seconds[name]
        return said if isinstance(said, float) else said[(self.asked.count(name) - 1) % len(said)]


@pytest.fixture
def x86(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine that executes everything; nothing is really run there."""
    monkeypatch.setattr(compiled, "instruction_sets", lambda: X86)
    monkeypatch.setattr(engine_timing, "_problem", lambda kind: lambda engine: None)
    cpu_engines._machine.cache_clear()
    yield
    cpu_engines._machine.cache_clear()


def operands(sizes: tuple[int, int, int, int] = LARGE, dtype: torch.dtype = torch.float32) -> tuple[Operands, Tensor]:
    batch, channels, queries, tokens = sizes
    query, key = torch.zeros(batch, channels, queries, dtype=dtype), torch.zeros(batch, channels, tokens, dtype=dtype)
    return Operands(query, key, None, None, None, 0.125), torch.zeros(batch, 1, 64, tokens, dtype=dtype)


def engine(sizes: tuple[int, int, int, int] = LARGE, operation: str = "read") -> str:
    parts, value = operands(sizes)
    read = Read(parts, value)
    call = Usage(parts, read.allocate().lse) if operation == "usage" else OPERATIONS[operation](parts, value)
    return compiled.instruction_sets()[cpu_engines.engine_of(call)]


def another_process() -> None:
    cpu_engines._chosen.clear()


@pytest.mark.usefixtures("x86")
def test_the_fastest_serves_and_not_the_one_with_the_most_instructions(monkeypatch: pytest.MonkeyPatch) -> None:
    stopwatch = Stopwatch(monkeypatch, {"amx": 0.59, "avx512": 0.32, "avx2": 0.5}, X86)
    assert engine() == "avx512"
    assert set(stopwatch.asked) == {"amx", "avx512", "avx2"}
    assert stopwatch.asked[:3] == ["amx", "avx512", "avx2"]  # in turns


@pytest.mark.usefixtures("x86")
def test_what_is_steady_beats_what_is_fast_at_times(monkeypatch: pytest.MonkeyPatch) -> None:
    Stopwatch(monkeypatch, {"amx": [0.2, 0.2, 0.35, 0.2, 0.4], "avx512": 0.32, "avx2": 0.5}, X86)
    assert engine() == "avx512"


@pytest.mark.usefixtures("x86")
def test_one_accident_is_forgiven(monkeypatch: pytest.MonkeyPatch) -> None:
    Stopwatch(monkeypatch, {"amx": [0.2, 0.2, 0.6, 0.2, 0.2], "avx512": 0.32, "avx2": 0.5}, X86)
    assert engine() == "amx"


@pytest.mark.usefixtures("x86")
def test_tiles_that_are_hardly_faster_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    Stopwatch(monkeypatch, {"amx": 0.31, "avx512": 0.32, "avx2": 0.5}, X86)
    assert engine() == "avx512"


@pytest.mark.usefixtures("x86")
def test_a_hopeless_engine_is_not_looked_at_again(monkeypatch: pytest.MonkeyPatch) -> None:
    stopwatch = Stopwatch(monkeypatch, {"amx": 0.1, "avx512": 0.15, "avx2": 0.3}, X86)
    assert engine() == "amx"
    assert stopwatch.asked.count("avx2") == 1
    assert stopwatch.asked.count("avx512") == engine_timing.LOOKS


@pytest.mark.usefixtures("x86")
def test_only_engines_with_kernels_of_their_own_are_measured() -> None:
    def among(text: str) -> list[str]:
        kind = Kind.parse(text)
        assert kind is not None
        return engine_timing.candidates(kind)

    assert among(READ) == ["amx", "avx512", "avx2"]
    assert among("usage bfloat16 64") == ["amx", "avx512bf16", "avx512", "avx2"]
    assert among("read float32 64 bfloat16 64") == ["amx", "avx512", "avx2"]
    assert among("top_k_read_backward bfloat16 64 bfloat16 64") == ["avx512", "avx2"]


def test_a_machine_with_one_engine_measures_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(compiled, "instruction_sets", lambda: ["baseline"])
    stopwatch = Stopwatch(monkeypatch, {}, [])
    assert engine() == "baseline"
    assert not stopwatch.asked
    assert not (tmp_path / "cache").exists()


@pytest.mark.usefixtures("x86")
def test_the_choice_is_kept_for_later_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    Stopwatch(monkeypatch, {"amx": 0.6, "avx512": 0.5, "avx2": 0.3}, X86)
    assert engine() == "avx2"
    stopwatch = Stopwatch(monkeypatch, {"amx": 0.1, "avx512": 0.5, "avx2": 0.3}, X86)
    assert engine() == "avx2"
    another_process()
    assert engine() == "avx2"
    assert not stopwatch.asked
    assert cpu_engines.kept()[READ].seconds == {"amx": 0.6, "avx512": 0.5, "avx2": 0.3}
    assert engine(operation="usage") == "amx"  # another kind of call
    assert set(cpu_engines.kept()) == {READ, "usage float32 64"}


@pytest.mark.usefixtures("x86")
def test_it_is_kept_for_a_number_of_threads_and_does_not_change_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    Stopwatch(monkeypatch, {"amx": 0.6, "avx512": 0.5, "avx2": 0.3}, X86)
    assert engine() == "avx2"
    stopwatch = Stopwatch(monkeypatch, {"amx": 0.1, "avx512": 0.5, "avx2": 0.3}, X86)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    assert engine() == "avx2"
    assert not stopwatch.asked
    another_process()
    assert engine() == "amx"


@pytest.mark.usefixtures("x86")
@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "3",
        "\xff",
        "[" * 100_000,
        json.dumps({READ: 3}),
        json.dumps({READ: {"engine": "avx9", "seconds": {}}}),
        json.dumps({READ: {"engine": ["avx2"]}}),
        json.dumps({READ + " 64": {"engine": "avx2", "seconds": {}}}),
    ],
)
def test_a_broken_file_is_measured_again(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    file = cpu_engines.kept_file()
    file.parent.mkdir(parents=True)
    file.write_text(text, "latin-1")
    Stopwatch(monkeypatch, {"amx": 0.6, "avx512": 0.3, "avx2": 0.4}, X86)
    assert engine() == "avx512"
    assert list(cpu_engines.kept()) == [READ]


@pytest.mark.usefixtures("x86")
def test_times_that_are_no_times_are_left_out() -> None:
    file = cpu_engines.kept_file()
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps({READ: {"engine": "avx2", "seconds": {"avx2": 10**400, "amx": "1", "avx512": 0.5}}}))
    assert cpu_engines.kept() == {READ: cpu_engines.Choice("avx2", {"avx512": 0.5})}


@pytest.mark.usefixtures("x86")
def test_without_a_cache_folder_the_choice_is_of_the_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cache").write_text("no folder")
    Stopwatch(monkeypatch, {"amx": 0.6, "avx512": 0.3, "avx2": 0.4}, X86)
    assert engine() == "avx512"
    stopwatch = Stopwatch(monkeypatch, {"amx": 0.1, "avx512": 0.3, "avx2": 0.4}, X86)
    assert engine() == "avx512"
    assert not stopwatch.asked
    with pytest.raises(OSError, match="cache"):
        cpu_engines.measure_again(Kind.parse(READ), 2)


@pytest.mark.usefixtures("x86")
def test_without_a_home_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STM_FAST_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    Stopwatch(monkeypatch, {"amx": 0.6, "avx512": 0.3, "avx2": 0.4}, X86)
    assert engine() == "avx512"
    assert cpu_engines.kept() == {}


@pytest.mark.usefixtures("x86")
def test_small_calls_are_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    stopwatch = Stopwatch(monkeypatch, {"amx": 0.6, "avx512": 0.3, "avx2": 0.4}, X86)
    assert engine((1, 64, 100, 1000)) == "amx"
    assert not stopwatch.asked
    assert engine() == "avx512"
    assert engine((1, 64, 100, 1000)) == "amx"


@pytest.mark.usefixtures("x86")
def test_a_forced_engine_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    stopwatch = Stopwatch(monkeypatch, {"amx": 0.6, "avx512": 0.3, "avx2": 0.4}, X86)
    monkeypatch.setenv("STM_FAST_CPU_ISA", "baseline")
    assert engine() == engine((1, 4, 5, 6)) == "baseline"
    assert not stopwatch.asked
    assert cpu_engines.kept() == {}
    monkeypatch.setenv("STM_FAST_CPU_ISA", "avx1024")
    assert engine() == "baseline"  # the environment is read once
    environment.variable.cache_clear()
    with pytest.raises(BackendUnavailableError, match=r"STM_FAST_CPU_ISA is 'avx1024'; this machine executes amx, "):
        engine()


@pytest.mark.usefixtures("x86")
def test_a_video_stays_with_its_engines(monkeypatch: pytest.MonkeyPatch) -> None:
    Stopwatch(monkeypatch, {"amx": 0.6, "avx512": 0.3, "avx2": 0.4}, X86)
    mine, restored = {}, {READ: "avx2"}
    for _ in range(2):
        with cpu_engines.held(restored):
            assert engine() == "avx2"
            assert engine(operation="usage") == "avx512"
        with cpu_engines.held(mine):
            assert engine() == "avx512"
            assert engine((1, 4, 5, 6)) == "amx"
        assert engine() == "avx512"
    assert restored == {READ: "avx2", "usage float32 64": "avx512"}
    assert mine == {READ: "avx512", "small": "amx"}
    monkeypatch.setenv("STM_FAST_CPU_ISA", "baseline")
    environment.variable.cache_clear()
    with cpu_engines.held(mine):
        assert engine() == "baseline"


@pytest.mark.usefixtures("x86")
def test_threads_that_call_at_once_measure_once(monkeypatch: pytest.MonkeyPatch) -> None:
    measured = []
    measure = engine_timing.measure
    monkeypatch.setattr(engine_timing, "measure", lambda kind: measured.append(kind) or measure(kind))
    Stopwatch(monkeypatch, {"amx": 0.6, "avx512": 0.3, "avx2": 0.4}, X86)
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.append(engine())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == ["avx512"] * 4
    assert len(measured) == 1


@pytest.mark.parametrize(
    ("channels", "rows", "text"),
    [
        (1, 1, "16 float32 64"),
        (64, 512, "64 float32 512"),
        (65, 513, "128 float32 1024"),
        (512, 9999, "256 float32 1024"),
    ],
)
def test_calls_of_about_the_same_channels_are_one_kind(channels: int, rows: int, text: str) -> None:
    kind = Kind.of("read", torch.float16, channels, torch.float32, rows)
    assert str(kind) == f"read float32 {text}"
