"""Recipes: what is trained on what, in which order, how fast."""

from dataclasses import dataclass

from stm_fast.training.batches import Sampling


@dataclass(frozen=True)
class Stage:
    """Some steps with one kind of batch."""

    steps: int
    sampling: Sampling


@dataclass(frozen=True)
class Recipe:
    """A training run.

    Attributes:
        stages: in order.
        learning_rate: of heads and decoder. It rises over the first `warmup` steps and falls to zero over the last
            `decay` steps; between them it is constant, so that a run can be lengthened.
        trunk_learning_rate: of the pretrained trunks.
        weight_decay: AdamW's.
        gradient_norm: gradients are clipped to it.
        ema: decay of the averaged weights, which are what is validated and kept.
    """

    stages: tuple[Stage, ...]
    learning_rate: float = 1e-3
    trunk_learning_rate: float = 2e-4
    warmup: int = 100
    decay: int = 600
    weight_decay: float = 1e-4
    gradient_norm: float = 1.0
    ema: float = 0.998

    @property
    def steps(self) -> int:
        """Steps of all stages."""
        return sum(stage.steps for stage in self.stages)

    def sampling(self, step: int) -> Sampling:
        """What batch `step` (0-based) is made of."""
        for stage in self.stages:
            if step < stage.steps:
                return stage.sampling
            step -= stage.steps
        return self.stages[-1].sampling


COMPACT = Recipe(
    stages=(
        Stage(1000, Sampling(clips=4, frames=3, size=256)),
        Stage(1600, Sampling(clips=4, frames=3, size=320)),
        Stage(1600, Sampling(clips=3, frames=5, size=384)),
        Stage(4000, Sampling(clips=2, frames=5, size=448, smallest_crop=0.7)),
    ),
    decay=3000,
)
SMOKE = Recipe(stages=(Stage(4, Sampling(clips=2, frames=3, size=64)),), warmup=1, decay=2)
"""A few steps at toy size: proves that a machine can train."""

RECIPES = {"compact": COMPACT, "smoke": SMOKE}
