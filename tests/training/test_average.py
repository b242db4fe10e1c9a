"""Averaged weights."""

import signal

import pytest
import torch

from stm_fast.training import average as average_module
from stm_fast.training.average import WeightAverage


def test_the_average_swaps_in_and_out() -> None:
    model = torch.nn.Linear(2, 2)
    average = WeightAverage(model, decay=0.9)
    original = model.weight.clone()
    with torch.no_grad():
        model.weight += 1
    average.update(model, step=0)
    trained = model.weight.clone()
    with average.applied(model):
        assert (model.weight > original).all()
        assert (model.weight < trained).all()
    assert torch.equal(model.weight, trained)


def test_without_decay_it_is_the_last_weights() -> None:
    model = torch.nn.Linear(2, 2)
    average = WeightAverage(model, decay=0)
    with torch.no_grad():
        model.weight += torch.randn(2, 2)
    average.update(model, step=100)
    assert torch.equal(average.state["weight"], model.weight)


def test_an_interrupt_leaves_the_trained_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    model = torch.nn.Linear(2, 2)
    average = WeightAverage(model, decay=0.9)
    with torch.no_grad():
        model.weight += 1
    trained = model.weight.clone()
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    assign = average_module._assign

    def interrupted(model: torch.nn.Module, state: dict[str, torch.Tensor]) -> None:
        signal.raise_signal(signal.SIGINT)
        assign(model, state)

    monkeypatch.setattr(average_module, "_assign", interrupted)
    try:
        with pytest.raises(KeyboardInterrupt), average.applied(model):
            pass
    finally:
        signal.signal(signal.SIGINT, before)
    assert torch.equal(model.weight, trained)
