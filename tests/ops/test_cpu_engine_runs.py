"""Engines of the CPU kernels are measured by running them; the one that was chosen does the work."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from stm_fast.ops import compiled, cpu_engines, engine_timing, memory_read, similarity
from stm_fast.ops.calls import Call, Outputs, Read, ReadBackward, Usage
from stm_fast.ops.engine_timing import Kind

SEVERAL = len(compiled.instruction_sets()) > 2
pytestmark = [
    pytest.mark.usefixtures("no_engine_chosen"),
    pytest.mark.skipif(not SEVERAL, reason="this machine executes no two engines that differ"),
]

PROCESS = """
import sys, torch
from pathlib import Path
from stm_fast.ops import cache, compiled, cpu_engines, engine_timing, memory_read

slowest, folder = sys.argv[1], Path(sys.argv[2])
def look(run, engine):
    (folder / f"measured by {slowest}").touch()
    run(engine)
    return 2.0 if compiled.instruction_sets()[engine] == slowest else 1.0
engine_timing.look = look
torch.set_num_threads(1)
memory_read(torch.zeros(1, 64, 1620), torch.zeros(1, 64, 1620), torch.zeros(1, 64, 1620), backend="cpu")
print(cpu_engines._chosen["read float32 64 float32 64"])
"""


def test_of_processes_that_begin_at_once_one_measures(tmp_path: Path) -> None:
    """They wait for one another, and all take what the first one chose."""
    slow = engine_timing.candidates(Kind.parse("read float32 64 float32 64"))[:2]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    runs = [
        subprocess.Popen([sys.executable, "-c", PROCESS, name, tmp_path], env=environment, stdout=-1, text=True)
        for name in slow
    ]
    chosen = {run.communicate()[0].strip() for run in runs}
    assert [run.returncode for run in runs] == [0] * 2
    (measured,) = (path.name.removeprefix("measured by ") for path in tmp_path.glob("measured by *"))
    assert chosen == {next(name for name in slow if name != measured)}
    files = {path.name for path in (tmp_path / "cache" / "engines").iterdir()}
    assert len(files) == 2
    assert "lock" in files


@pytest.mark.parametrize("value", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("key", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("operation", engine_timing.OPERATIONS)
def test_every_kind_of_call_can_be_measured(
    operation: str, key: torch.dtype, value: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_timing, "_TOKENS_PER_THREAD", 50)
    monkeypatch.setattr(engine_timing, "_QUERIES", 16)
    before = torch.get_rng_state()
    kind = Kind.of(operation, key, 20, value, 70)
    assert Kind.parse(str(kind)) == kind
    choice = engine_timing.measure(kind, 2)
    assert list(choice.seconds) == engine_timing.candidates(kind)
    assert all(0 < seconds < 10 for seconds in choice.seconds.values())
    assert torch.equal(torch.get_rng_state(), before)


def test_the_engine_that_was_chosen_is_the_one_that_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each op, on its own: every one has another winner."""
    called = {}
    run = compiled.run_on_cpu

    def spy(call: Call, outputs: Outputs, engine: int) -> None:
        called[call.operation] = engine
        run(call, outputs, engine)

    monkeypatch.setattr(cpu_engines, "SMALL_WORK", 0.0)
    monkeypatch.setattr(compiled, "run_on_cpu", spy)
    names = compiled.instruction_sets()
    chosen = {
        "read": names[-1],
        "usage": names[-2],
        "read_backward": names[-2],
        "top_k_read": names[-3],
        "top_k_read_backward": names[-1],
    }
    query, key, value = (torch.randn(1, 8, count, requires_grad=True) for count in (30, 200, 200))
    values = {operation: None if operation == "usage" else torch.float32 for operation in chosen}
    kinds = {operation: Kind.of(operation, torch.float32, 8, dtype, 8) for operation, dtype in values.items()}
    monkeypatch.setattr(cpu_engines, "_chosen", {str(kinds[operation]): name for operation, name in chosen.items()})
    memory_read(query, key, value, return_usage=True, backend="cpu").value.sum().backward()
    memory_read(query, key, value, top_k=3, backend="cpu").sum().backward()
    assert {operation: names[index] for operation, index in called.items()} == chosen


@pytest.mark.parametrize("magnitude", [1.0, 1e4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_passes_by_different_engines_agree(dtype: torch.dtype, magnitude: float) -> None:
    """Usage and gradients may be computed by another engine than the read: only the rounding of scores differs."""
    random = torch.Generator().manual_seed(0)
    query, key = torch.randn(1, 64, 60, generator=random), torch.randn(1, 64, 700, generator=random)
    query[:, 0], key[:, 0] = magnitude, 8.0
    value, upstream = torch.randn(1, 1, 24, 700, generator=random), torch.randn(1, 1, 24, 60, generator=random)
    query, key = query.to(dtype), key.to(dtype)
    ours = similarity.dot(query, key, 0.125)

    def formula(precision: torch.dtype) -> list[Tensor]:
        inputs = [tensor.to(precision).requires_grad_() for tensor in (query, key, value)]
        weights = torch.softmax(0.125 * inputs[1].mT @ inputs[0], dim=1)
        gradients = torch.autograd.grad(inputs[2][:, 0] @ weights, inputs, upstream[:, 0].to(precision))
        return [weights.detach().sum(2), *gradients]

    exact, plain = formula(torch.float64), formula(torch.float32)
    engines = range(len(compiled.instruction_sets()))
    for first in engines:
        read = Read(ours, value)
        out, lse = outputs = read.allocate()
        compiled.run_on_cpu(read, outputs, first)
        for second in engines:
            calls = Usage(ours, lse), ReadBackward(ours, value, out, lse, upstream, torch.zeros_like(lse))
            results = []
            for call in calls:
                outputs = call.allocate()
                compiled.run_on_cpu(call, outputs, second)
                results += [output for output in outputs if output is not None]
            usage, *gradients, grad_value = results
            for fast, right, other in zip((usage, *gradients, grad_value), exact, plain, strict=True):
                band = 16 * torch.finfo(torch.float32).eps + (
                    torch.finfo(dtype).eps if fast.dtype != torch.float32 else 0
                )
                allowed = 2 * (other.double() - right).abs().max() + band * right.abs().max()
                assert (fast.double().view(right.shape) - right).abs().max() <= allowed


def test_engines_are_measured_inside_a_compiled_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    """The choice is made in the op, when it runs: neither tracing nor a mode around the call takes part."""
    monkeypatch.setattr(cpu_engines, "SMALL_WORK", 0.0)
    monkeypatch.setattr(engine_timing, "_TOKENS_PER_THREAD", 50)
    query, key, value = (torch.randn(1, 8, count) for count in (30, 200, 200))
    expected = memory_read(query, key, value, backend="reference")
    torch.compiler.reset()
    compile_read = torch.compile(memory_read, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compile_read(query, key, value, backend="cpu"), expected)
    assert list(cpu_engines._chosen) == ["read float32 16 float32 64"]
    cpu_engines._chosen.clear()
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16), torch.device("meta"):
        result = memory_read(query, key, value, backend="cpu")
    torch.testing.assert_close(result.float(), expected, rtol=2e-2, atol=2e-2)
    assert len(cpu_engines._chosen) == 1

    class Read(torch.nn.Module):
        def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
            return memory_read(query, key, value, backend="cpu")

    exported = torch.export.export(Read(), (query, key, value)).module()
    cpu_engines._chosen.clear()
    torch.testing.assert_close(exported(query, key, value), expected)
    assert list(cpu_engines._chosen) == ["read float32 16 float32 64"]
