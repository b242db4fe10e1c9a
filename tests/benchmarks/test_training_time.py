"""A recipe's time is that of its steps, each kind of which is measured once."""

import sys

import pytest

pytest.importorskip("accelerate")

from benchmarks.system import training_time
from stm_fast.training.recipe import Recipe
from stm_fast.training.recipe_files import load_recipe


def test_stages_in_epochs_have_steps() -> None:
    paper = training_time.stages(load_recipe("stm-paper-video", ["start=none"]), training_time.EPOCH)
    assert [(name, steps) for name, _, steps in paper] == [("1.1", 120 * 3531 // 4)]


def test_each_kind_of_step_is_measured_once(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    """With the smallest recipe of all, in two stages that differ in their skips alone."""
    batch = "clips: 1, size: 32, max_objects: 2"
    stages = f"[{{steps: 30, {batch}}}, {{steps: 60, {batch}, max_skip: {{first: 5}}}}]"
    settings = ["model=compact", f"rounds.0.stages={stages}"]
    monkeypatch.setattr(sys, "argv", ["training_time", "stm-paper-video", *settings, "--steps", "1", "--device", "cpu"])
    measured = []

    def cost(recipe: Recipe, *others: object) -> training_time.Cost:
        measured.append(training_time_measure(recipe, *others))
        return training_time.Cost(2.0, measured[-1].memory_gb)

    training_time_measure = training_time.measure
    monkeypatch.setattr(training_time, "measure", cost)
    training_time.main()
    printed = capsys.readouterr().out
    assert len(measured) == 1
    assert measured[0].seconds > 0
    assert "| 1.1 | 1 × 3, 2, 32 | 2.00 |" in printed
    assert "| 30 | 0.0 |" in printed
    assert "| 60 | 0.0 |" in printed
    assert f"Extrapolated to all steps, not run: {90 * 2 / 3600:.1f} hours" in printed
