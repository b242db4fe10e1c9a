"""Averaged weights, which segment better than the last ones."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from stm_fast.training.interrupts import uninterrupted


class WeightAverage:
    """An exponential moving average of a model's trained weights.

    Args:
        model: whose parameters are averaged where they require gradients.
        decay: weight of the past in every update; 0 for an average that is always the last weights.

    Attributes:
        state: the average by parameter name.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.state: dict[str, Tensor] = {name: weight.detach().clone() for name, weight in _trained(model)}

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Add the weights after a step. Early steps have a smaller decay, so that the initial weights soon vanish."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for name, weight in _trained(model):
            self.state[name].lerp_(weight, 1 - decay)

    @torch.no_grad()
    def halve_towards(self, other: dict[str, Tensor]) -> None:
        """Move halfway to other weights."""
        for name, weight in self.state.items():
            weight.lerp_(other[name], 0.5)

    def copy(self) -> dict[str, Tensor]:
        """Return a copy of the average."""
        return {name: weight.clone() for name, weight in self.state.items()}

    def load(self, state: dict[str, Tensor]) -> None:
        """Take over an average, which may be on another device."""
        for name, weight in self.state.items():
            weight.copy_(state[name])

    def assign(self, model: nn.Module) -> None:
        """Give the model the averaged weights."""
        _assign(model, self.state)

    @contextmanager
    def applied(self, model: nn.Module) -> Iterator[None]:
        """Give the model the averaged weights during the block."""
        trained = {name: weight.detach().clone() for name, weight in _trained(model)}
        try:
            with uninterrupted():
                _assign(model, self.state)
            yield
        finally:
            with uninterrupted():
                _assign(model, trained)


@torch.no_grad()
def _assign(model: nn.Module, state: dict[str, Tensor]) -> None:
    for name, weight in _trained(model):
        weight.copy_(state[name])


def _trained(model: nn.Module) -> list[tuple[str, nn.Parameter]]:
    return [(name, weight) for name, weight in model.named_parameters() if weight.requires_grad]
