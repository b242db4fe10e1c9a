"""The benchmark of training checks what it times, and counts what the reads of a step hold."""

import sys

import pytest
import torch

from benchmarks.system import training, training_step
from benchmarks.system.training_step import Setup

TINY = Setup("compact", 4, 64, "cpu", torch.float32, 1)
LOCATIONS = (64 // 16) ** 2


def test_it_prints_a_line_for_every_length(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setattr(sys, "argv", ["training", "--quick"])
    training.main()
    printed = capsys.readouterr().out
    assert f"torch {torch.__version__}" in printed
    assert "one clip of 64 pixels, one object, float32" in printed
    rows = [line.split(" | ") for line in printed.splitlines() if line.startswith("| compact |")]
    assert [row[1:3] for row in rows] == [[frames, way] for frames in "34" for way in training.WAYS]
    assert {len(row) for row in rows} == {len(training.HEADER.splitlines()[0].split(" | "))}
    assert "- compact, T = 4: " in printed


def test_a_read_with_other_gradients_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(query_key: torch.Tensor, *memory: torch.Tensor) -> torch.Tensor:
        return training_step.plain_on_buffer(1.05 * query_key, *memory)

    monkeypatch.setitem(training_step.WAYS, "fused", wrong)
    with pytest.raises(AssertionError, match="gradients of fused differ by"):
        training_step.step_seconds(TINY)


def test_what_a_read_saves_is_counted() -> None:
    """The softmax on one buffer, copies of the memory as well by the plain read, readout and lse by ours."""
    queries, memory = torch.randn(1, 8, 4, 4, requires_grad=True), training_step.ClipMemory(3)
    for _ in range(2):
        memory.append(*(torch.randn(1, channels, 4, 4, requires_grad=True) for channels in (8, 16)))
    saved = {name: training_step._saved(read, queries, memory) for name, read in training_step.WAYS.items()}
    assert saved["plain, one buffer"] == 4 * 2 * LOCATIONS**2
    assert saved["plain"] == 4 * 2 * LOCATIONS**2 + 4 * 2 * LOCATIONS * (8 + 16)
    assert saved["fused"] == 4 * LOCATIONS * (16 + 1)
