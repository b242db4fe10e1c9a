"""Recipes: the data of each stage, and its learning rates."""

from dataclasses import dataclass

from stm_fast.training.batches import Sampling


@dataclass(frozen=True)
class Stage:
    """Some steps with one kind of batch."""

    steps: int
    sampling: Sampling


@dataclass(frozen=True)
class Round:
    """Stages with one cycle of the learning rate, which rises, stays, and falls to zero.

    Every round after the first ends with the mean of its first and its last weights, which segments better than either.

    Attributes:
        stages: in order.
        decay: steps over which the rate falls at the end.
        rate: height of the plateau, as a fraction of the recipe's learning rates.
    """

    stages: tuple[Stage, ...]
    decay: int = 600
    rate: float = 1.0

    @property
    def steps(self) -> int:
        """Steps of all stages."""
        return sum(stage.steps for stage in self.stages)


@dataclass(frozen=True)
class Recipe:
    """A training run.

    Attributes:
        rounds: in order.
        learning_rate: learning rate of heads and decoder.
        trunk_learning_rate: learning rate of the pretrained trunks.
        warmup: steps over which the rate rises at the beginning of every round.
        weight_decay: AdamW's.
        gradient_norm: norm to which gradients are clipped.
        ema: decay of the averaged weights, which are validated and kept.
    """

    rounds: tuple[Round, ...]
    learning_rate: float = 1e-3
    trunk_learning_rate: float = 2e-4
    warmup: int = 100
    weight_decay: float = 1e-4
    gradient_norm: float = 1.0
    ema: float = 0.998

    @property
    def steps(self) -> int:
        """Steps of all rounds."""
        return sum(part.steps for part in self.rounds)

    def round(self, step: int) -> tuple[Round, int]:
        """Return the round of a step (0-based) and the step's number in it; later steps are in the last round."""
        for part in self.rounds[:-1]:
            if step < part.steps:
                return part, step
            step -= part.steps
        return self.rounds[-1], step

    def sampling(self, step: int) -> Sampling:
        """Return how batch `step` (0-based) is drawn."""
        part, step = self.round(step)
        for stage in part.stages[:-1]:
            if step < stage.steps:
                return stage.sampling
            step -= stage.steps
        return part.stages[-1].sampling


_FINE = Sampling(clips=2, frames=5, size=448, smallest_crop=0.7)

COMPACT = Recipe(
    rounds=(
        Round(
            stages=(
                Stage(1000, Sampling(clips=4, frames=3, size=256)),
                Stage(1600, Sampling(clips=4, frames=3, size=320)),
                Stage(1600, Sampling(clips=3, frames=5, size=384)),
                Stage(2400, _FINE),
            ),
            decay=1500,
        ),
        Round((Stage(1500, _FINE),), decay=1000, rate=0.6),
        Round((Stage(1400, _FINE),), decay=700, rate=0.5),
    )
)
SMOKE = Recipe((Round((Stage(4, Sampling(clips=2, frames=3, size=64)),), decay=2),), warmup=1)
"""Four steps at toy size, to check that a machine can train."""

RECIPES = {"compact": COMPACT, "smoke": SMOKE}
